"""What a value may be: its kind, its bounds, its choices. One check for hyper-parameters and for arguments."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

_NOUNS = {bool: "true or false", int: "a whole number", float: "a finite number", str: "a string"}
_BOUNDS = {"above": "above", "at_least": "at least", "below": "below", "at_most": "at most"}


@dataclass(frozen=True, kw_only=True)
class Allowed:
    """The values that something may have.

    Attributes:
        kind: ``bool``, ``int``, ``float`` (takes integers too), ``str`` or another class; None for any value.
        above: numbers are greater than this.
        at_least: numbers are this or greater.
        below: numbers are less than this.
        at_most: numbers are this or less.
        choices: the allowed values, where there are few.
    """

    kind: type | None = None
    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    at_most: float | None = None
    choices: tuple = ()

    def checked(self, value: Any) -> Any:
        """``value``; as an ``int`` where one is wanted and a float such as 4.0 came, as JSON writes it.

        Raises:
            ValueError: the value is not allowed; the message says what is.
        """
        if self.kind is int and isinstance(value, float) and value.is_integer():
            value = int(value)
        if not self._allows(value):
            raise ValueError(f"must be {self}; got {value!r}")
        return value

    def _allows(self, value: Any) -> bool:
        if self.choices:
            return value in self.choices
        if self.kind in (int, float):
            types = int if self.kind is int else (int, float)
            return isinstance(value, types) and not isinstance(value, bool) and self._is_within(value)
        return self.kind is None or isinstance(value, self.kind)

    def _is_within(self, number: float) -> bool:
        return (
            abs(number) <= sys.float_info.max  # false for inf and nan
            and (self.above is None or number > self.above)
            and (self.at_least is None or number >= self.at_least)
            and (self.below is None or number < self.below)
            and (self.at_most is None or number <= self.at_most)
        )

    def __str__(self) -> str:
        if self.choices:
            return f"one of {', '.join(map(repr, self.choices))}"
        noun = _NOUNS.get(self.kind) or f"of type {self.kind.__name__}"
        bounds = [
            f"{word} {getattr(self, name)}"
            for name, word in _BOUNDS.items()
            if getattr(self, name) is not None
        ]
        return noun + (f", {' and '.join(bounds)}" if bounds else "")
