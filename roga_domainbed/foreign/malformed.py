"""The one error for content that is not what it should be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from roga_domainbed.foreign.printable import is_unicode

DEEPEST = 64  # nesting of lists and mappings; what this package writes has 4

_NOUNS = {dict: "a mapping", list: "a list", str: "a string", int: "a whole number", float: "a number"}


class Malformed(ValueError):
    """The content of a file is not what it should be; the message says what is wrong with it."""


def require_kind(value: Any, kind: type | None) -> Any:
    """``value``, which must be of ``kind`` (None: any).

    Raises:
        Malformed: it is of another.
    """
    if kind is not None and not isinstance(value, kind):
        raise Malformed(f"expected {_NOUNS.get(kind, kind.__name__)}, got {_NOUNS.get(type(value), value)}")
    return value


def require_plain(value: Any) -> Any:
    """``value``, made of lists and mappings, without extremes.

    Raises:
        Malformed: nested deeper than ``DEEPEST``, an integer that 64 bits do not hold, or text that is no Unicode.
    """
    inside = [(value, 0)]
    while inside:
        part, depth = inside.pop()
        if depth > DEEPEST:
            raise Malformed(f"nested more than {DEEPEST} deep")
        if isinstance(part, Mapping):
            inside += [(key, depth + 1) for key in part] + [(item, depth + 1) for item in part.values()]
        elif isinstance(part, (list, tuple)):
            inside += [(item, depth + 1) for item in part]
        elif isinstance(part, str):
            if not is_unicode(part):
                raise Malformed(f"text that is not Unicode: {part[:40]!a}")
        elif isinstance(part, int) and not -(2**63) <= part < 2**63:
            raise Malformed("a whole number of more than 64 bits")
    return value
