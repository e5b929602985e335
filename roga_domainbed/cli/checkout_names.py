"""Which names this backend can run: the catalog's, and those that a DomainBed checkout has of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datasets_ext import trees
from roga_domainbed.catalog import ALGORITHMS, DATASETS
from roga_domainbed.catalog.registry import Registry, load
from roga_domainbed.errors import Problems, unknown_name
from roga_domainbed.host import backend

if TYPE_CHECKING:
    from roga_domainbed.sweep.plan import Plan


def add_checkout_names() -> None:
    """Give rows to the algorithms and datasets of a fork; without a checkout do nothing, and import no torch."""
    if backend.host().name == "upstream":
        load("roga_domainbed.upstream.bridge:register")()


def available(registry: Registry) -> list[str]:
    """The names that this backend can run, in the order of ``registry``."""
    if backend.host().name == "upstream":
        return load("roga_domainbed.upstream.bridge:available")(registry)
    return [info.name for info in registry if info.target is not None]


def check_names(plan: Plan, problems: Problems) -> None:
    """Add a sentence for each dataset and algorithm of ``plan`` that is unknown or that this backend cannot run."""
    for name in dict.fromkeys(plan.datasets or ()):
        unknown = trees.problem(name, plan.data_dir)
        if unknown is None:
            _check_available(DATASETS, name, "", problems)
        else:
            problems.add(unknown)
    for row in plan.all_rows:
        _check_name(ALGORITHMS, row.algorithm, f"row {row.name!r}: " if row.name else "", problems)


def _check_name(registry: Registry, name: str, where: str, problems: Problems) -> None:
    if name not in registry:
        problems.add(where + unknown_name(registry.kind, name, registry.names()))
    else:
        _check_available(registry, name, where, problems)


def _check_available(registry: Registry, name: str, where: str, problems: Problems) -> None:
    if name not in available(registry):
        home = backend.host().home
        problems.add(
            f"{where}{registry.kind} {name!r} is in upstream DomainBed alone: set DOMAINBED_HOME to a checkout"
            if home is None
            else f"{where}the DomainBed checkout {home} has no {registry.kind} {name!r}"
        )
