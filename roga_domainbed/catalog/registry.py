"""Explicit, typed registries: a name, a summary, and a dotted target that is imported on first use."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Generic, Protocol, TypeVar

from roga_domainbed.catalog.plugins import load_plugins
from roga_domainbed.errors import RogaError, unknown_name


class Entry(Protocol):
    """What every row has."""

    name: str
    summary: str


T = TypeVar("T", bound=Entry)


class Registry(Generic[T]):
    """Rows in order of registration: ours, then those of other packages. Listing them imports none of the targets."""

    def __init__(self, kind: str):
        self.kind = kind
        self._own: dict[str, T] = {}

    @property
    def _entries(self) -> dict[str, T]:
        load_plugins()
        return self._own

    def add(self, entry: T, replace: bool = False) -> T:
        """Register ``entry``; a name that is taken is an error, unless its entry is to be replaced."""
        if entry.name in self._own and not replace:
            raise ValueError(f"{self.kind} {entry.name!r} is registered already")
        self._own[entry.name] = entry
        return entry

    def get(self, name: str) -> T:
        """The entry of that name, or ``RogaError`` that lists the known names and the nearest one."""
        try:
            return self._entries[name]
        except KeyError:
            raise RogaError(unknown_name(self.kind, name, self._entries)) from None

    def names(self) -> list[str]:
        """All names, in order of registration."""
        return list(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[T]:
        return iter(self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    @contextmanager
    def temporarily(self, entry: T) -> Iterator[T]:
        """Register ``entry`` inside a ``with`` block, for tests."""
        self.add(entry)
        try:
            yield entry
        finally:
            del self._own[entry.name]


def load(target: str) -> Any:
    """Import ``"package.module:attribute"`` and return the attribute."""
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)
