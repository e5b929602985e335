"""The names that a DomainBed checkout has of its own."""

from __future__ import annotations

from roga_domainbed.catalog.registry import Registry, load
from roga_domainbed.host import backend


def add_checkout_names() -> None:
    """Give rows to the algorithms and datasets of a fork; without a checkout do nothing, and import no torch."""
    if backend.host().name == "upstream":
        load("roga_domainbed.upstream.bridge:register")()


def available(registry: Registry) -> list[str]:
    """The names that this backend can run, in the order of ``registry``."""
    if backend.host().name == "upstream":
        return load("roga_domainbed.upstream.bridge:available")(registry)
    return [info.name for info in registry if info.target is not None]
