"""JSON from elsewhere, as plain values."""

from __future__ import annotations

import json
import os
from typing import Any

from roga_domainbed.foreign.files import LARGEST, read_text
from roga_domainbed.foreign.malformed import DEEPEST, Malformed, require_kind, require_plain


def parse_json(text: str | bytes, kind: type | None = None) -> Any:
    """The value of ``text``; NaN and infinities are read, as Python writes them.

    Args:
        text: JSON; bytes are UTF-8.
        kind: what its outermost value must be.

    Raises:
        Malformed: it is not JSON, of another kind, nested too deep, or has a number beyond 64 bits.
    """
    try:
        text = text if isinstance(text, str) else text.decode("utf-8-sig")
        value = json.loads(text)
    except RecursionError:
        raise Malformed(f"nested more than {DEEPEST} deep") from None
    except json.JSONDecodeError as error:
        raise Malformed(f"not valid JSON: {error}") from None
    except UnicodeDecodeError as error:
        raise Malformed(f"not UTF-8 text: byte {error.object[error.start]:#04x} at {error.start}") from None
    except ValueError:  # Python reads integers of up to 4,300 digits
        raise Malformed("a whole number of more than 64 bits") from None
    return require_kind(require_plain(value), kind)


def read_json(path: str | os.PathLike, kind: type | None = None, at_most: int = LARGEST) -> Any:
    """The value in a JSON file.

    Raises:
        OSError: it cannot be read, is not a regular file, or is larger than ``at_most`` bytes.
        Malformed: as ``parse_json``.
    """
    return parse_json(read_text(path, at_most), kind)
