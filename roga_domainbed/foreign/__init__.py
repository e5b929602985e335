"""Reads what somebody else wrote: regular files only, of a bounded size, as plain typed values.

A record, manifest, preset, list or model comes from another person, another tool or a broken disk. Whatever is in it,
reading it ends soon, takes bounded memory, and gives a value of the expected kind, an ``OSError`` (the file) or a
``Malformed`` (its content).
"""

from roga_domainbed.foreign.files import check_regular, open_regular, read_bytes, read_text
from roga_domainbed.foreign.json_text import parse_json, read_json
from roga_domainbed.foreign.malformed import Malformed
from roga_domainbed.foreign.parquet import check_unpacked
from roga_domainbed.foreign.printable import csv_cell, is_unicode, one_line, printable, quoted
from roga_domainbed.foreign.tensors import load_tensors
from roga_domainbed.foreign.yaml_text import parse_yaml

__all__ = [
    "Malformed",
    "check_regular",
    "check_unpacked",
    "csv_cell",
    "is_unicode",
    "load_tensors",
    "one_line",
    "open_regular",
    "parse_json",
    "parse_yaml",
    "printable",
    "quoted",
    "read_bytes",
    "read_json",
    "read_text",
]
