"""The class behind a name in the catalog, or an error that says where to get it."""

from __future__ import annotations

from typing import Any

from roga_domainbed.catalog.registry import Registry, load
from roga_domainbed.errors import RogaError


class NotInEngine(RogaError, NotImplementedError):
    """The engine does not have a name or an option.

    It is also a ``NotImplementedError``, as in DomainBed, so that code written for DomainBed catches it.
    """


def names(registry: Registry) -> list[str]:
    """The names that need no DomainBed checkout, in catalog order."""
    return [entry.name for entry in registry if entry.target is not None]


def find(registry: Registry, name: str) -> Any:
    """The catalog's entry for ``name``; if there is none, ``NotInEngine`` lists the known names."""
    try:
        return registry.get(name)
    except RogaError as error:
        raise NotInEngine(str(error)) from None


def load_class(registry: Registry, name: str) -> type:
    """The class that ``registry`` names.

    Raises:
        NotInEngine: if the name is unknown or only a DomainBed checkout has the class.
    """
    entry = find(registry, name)
    if entry.target is None:
        raise NotInEngine(
            f"{registry.kind} {name!r} is DomainBed's own: set DOMAINBED_HOME to a checkout of "
            f"facebookresearch/DomainBed to use it; the engine has: {', '.join(names(registry))}"
        )
    return load(entry.target)
