"""A file that a command is told to write: whether it can be, before anything slow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from roga_domainbed.errors import Problems
from roga_domainbed.files import replacement_problem

#: Suffix → how such a file begins.
FIGURES = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}
PAGES = {".html": b"<!doctype html"}


def check_file(flag: str, name: str, kinds: Mapping[str, bytes], problems: Problems) -> None:
    """Whether ``name`` can be written as one of ``kinds``, suffix → how such files begin."""
    suffix = Path(name).suffix
    if suffix not in kinds:
        problems.add(f"{flag} {name!r} must end in {', '.join(kinds)}")
    else:
        check_output(flag, name, kinds[suffix], problems)


def check_output(flag: str, name: str, begin: bytes, problems: Problems) -> None:
    """Whether ``name`` can be written, over a file that begins with ``begin`` if there is one."""
    path = Path(name)
    if path.is_dir():
        problems.add(f"{flag} {name!r} is a folder; give the name of a file")
    elif not path.parent.is_dir():
        problems.add(f"{flag} {name!r}: the folder {str(path.parent)!r} does not exist")
    elif (other := replacement_problem(path, begin)) is not None:
        problems.add(f"{flag} {name!r} {other}")
