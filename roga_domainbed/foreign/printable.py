"""Names and words from elsewhere, made safe to show: in a terminal, in a spreadsheet."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from roga_domainbed.errors import shortened

# Control characters but tab, line feed and carriage return; halves of surrogate pairs; marks that turn the direction
# of writing, with which a name can be shown as another.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_BREAKS = str.maketrans({"\n": r"\n", "\r": r"\r", "\t": r"\t", "\u2028": r"\u2028", "\u2029": r"\u2029"})
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def printable(text: str) -> str:
    r"""``text`` with what a terminal would obey, or could not show, written out: an escape becomes ``\x1b``."""
    return _UNSAFE.sub(lambda found: ascii(found.group())[1:-1], text)


def one_line(text: str) -> str:
    """``text``, which may have names from elsewhere in it, as one line that is safe to show."""
    return printable(text).translate(_BREAKS)


def quoted(names: Iterable[str], n: int = 3) -> str:
    """``'a', 'b', 'c', …``: names from a file or a disk, for a message."""
    return shortened([repr(printable(name)) for name in names], n)


def is_unicode(text: str) -> bool:
    """False if ``text`` has halves of surrogate pairs, which bytes of another encoding become: no file holds it."""
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


def csv_cell(value: Any) -> Any:
    """``value`` for a cell of a CSV file: text that a spreadsheet would run as a formula gets an apostrophe before it.

    Numbers stay numbers, negative ones too.
    """
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
