"""What a value may be: its kind, its bounds, its choices. One check for hyper-parameters and for arguments."""

from __future__ import annotations

import dataclasses
import sys
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from roga_domainbed.errors import Problems, did_you_mean
from roga_domainbed.foreign import is_unicode

_NOUNS = {
    bool: "true or false",
    int: "a whole number",
    float: "a finite number",
    str: "a string",
    dict: "a mapping",
}
#: The most steps that may be asked for: decades.
MOST_STEPS = 10**9
_LONGEST = 200  # characters of a value in a message
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
        many: a list of such values, not an empty one.
        path: text that names a file or folder, so not empty: that would be the folder one is in.
    """

    kind: type | None = None
    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    at_most: float | None = None
    choices: tuple = ()
    many: bool = False
    path: bool = False

    def checked(self, value: Any) -> Any:
        """``value``; as an ``int`` where one is wanted and a float such as 4.0 came, as JSON writes it.

        Raises:
            ValueError: the value is not allowed; the message says what is.
        """
        if isinstance(value, str) and not is_unicode(value):
            # A record or plan with it could not be read again.
            raise ValueError(f"must be Unicode, not bytes of another encoding; got {shown(value)}")
        if self.kind is int and isinstance(value, float) and value.is_integer():
            value = int(value)
        if self.many:
            good = isinstance(value, list) and len(value) > 0 and all(map(self._allows, value))
        else:
            good = self._allows(value)
        if not good:
            short = self.choices and isinstance(value, str) and len(value) <= _LONGEST
            hint = did_you_mean(value, self.choices) if short else ""
            raise ValueError(f"must be {self}; got {shown(value)}{hint}")
        return value

    def _allows(self, value: Any) -> bool:
        if self.choices:
            return value in self.choices
        if self.kind in (int, float):
            types = int if self.kind is int else (int, float)
            return isinstance(value, types) and not isinstance(value, bool) and self._is_within(value)
        return self.kind is None or (isinstance(value, self.kind) and not (self.path and value == ""))

    def _is_within(self, number: float) -> bool:
        return (
            abs(number) <= sys.float_info.max  # false for inf and nan
            and (isinstance(number, float) or -(2**63) <= number < 2**63)
            and (self.above is None or number > self.above)
            and (self.at_least is None or number >= self.at_least)
            and (self.below is None or number < self.below)
            and (self.at_most is None or number <= self.at_most)
        )

    def __str__(self) -> str:
        if self.choices:
            return f"one of {', '.join(map(repr, self.choices))}"
        noun = "a path, not empty" if self.path else _NOUNS.get(self.kind) or f"of type {self.kind.__name__}"
        limits = {word: getattr(self, name) for name, word in _BOUNDS.items()}
        bounds = " and ".join(f"{word} {limit:,}" for word, limit in limits.items() if limit is not None)
        return ("a list, each " if self.many else "") + noun + (f", {bounds}" if bounds else "")


def shown(value: Any) -> str:
    """``value`` for a message, cut where it is long."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no integer of more than 4,300 digits
        return "a number of thousands of digits"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def argument(default: Any, help: str | None = None, **allowed: Any) -> Any:
    """A field of a dataclass of arguments; ``kind`` and ``many`` follow from its annotation.

    Args:
        default: its default.
        help: for the command line; without it no flag is made.
        **allowed: bounds and choices; see ``Allowed``.
    """
    metadata = {"help": help, "allowed": allowed}
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: list(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def arguments_of(cls: type) -> dict[str, Allowed]:
    """Name → what is allowed, of all fields of ``cls`` made by ``argument``."""
    hints = typing.get_type_hints(cls)
    return {
        field.name: Allowed(**_kind(hints[field.name]), **field.metadata["allowed"])
        for field in dataclasses.fields(cls)
        if "allowed" in field.metadata
    }


def _kind(hint: Any) -> dict[str, Any]:
    """``kind`` and ``many`` for the annotations ``X``, ``X | None``, ``list[X]`` and ``list[X] | None``."""
    inner = typing.get_args(hint)
    if typing.get_origin(hint) is list:
        return {"kind": inner[0], "many": True}
    return _kind(inner[0]) if inner else {"kind": hint}


def check_arguments(values: Mapping[str, Any], allowed: Mapping[str, Allowed], problems: Problems) -> None:
    """Add a sentence for each of ``values`` that is not allowed; None is: not given."""
    for name, value in values.items():
        try:
            if value is not None and name in allowed:
                allowed[name].checked(value)
        except ValueError as error:
            problems.add(f"--{name} {error}")
