"""From a name in the catalog to the class behind it, or a refusal that says where the class is to be had."""

from __future__ import annotations

from typing import Any

from roga_domainbed.catalog.registry import Registry, load
from roga_domainbed.errors import RogaError


class NotInEngine(RogaError, NotImplementedError):
    """A name or an option that the engine does not have.

    Also a ``NotImplementedError``, which is what DomainBed raises: code written for it still catches this.
    """


def names(registry: Registry) -> list[str]:
    """The names whose class is reachable without a DomainBed checkout, in catalog order."""
    return [entry.name for entry in registry if entry.target is not None]


def find(registry: Registry, name: str) -> Any:
    """The catalog's entry for ``name``; ``NotInEngine`` with the known names if there is none."""
    try:
        return registry.get(name)
    except RogaError as error:
        raise NotInEngine(str(error)) from None


def load_class(registry: Registry, name: str) -> type:
    """The class that ``registry`` names.

    Raises:
        NotInEngine: the name is unknown, or only a DomainBed checkout has its class.
    """
    entry = find(registry, name)
    if entry.target is None:
        raise NotInEngine(
            f"{registry.kind} {name!r} is DomainBed's own: set DOMAINBED_HOME to a checkout of "
            f"facebookresearch/DomainBed to use it; the engine has: {', '.join(names(registry))}"
        )
    return load(entry.target)
