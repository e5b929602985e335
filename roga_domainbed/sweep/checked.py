"""The values of a file against what they may be: one sentence for each that is not allowed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from roga_domainbed.catalog.values import Allowed
from roga_domainbed.errors import Problems, unknown_name


def checked(
    values: Mapping[str, Any], allowed: Mapping[str, Allowed], where: str, problems: Problems
) -> dict[str, Any]:
    """Those of ``values`` that are allowed; a sentence that begins with ``where`` for each of the others."""
    found = {}
    for key, value in values.items():
        if key not in allowed:
            problems.add(f"{where}{unknown_name('key', str(key)[:100], allowed)}")
            continue
        try:
            found[key] = allowed[key].checked(value)
        except ValueError as error:
            a_number = allowed[key].kind is str and isinstance(value, int)  # 1:4 is sixty-four to YAML
            problems.add(f"{where}{key} {error}{'; put it in quotes' if a_number else ''}")
    return found
