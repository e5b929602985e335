"""Algorithms by name. The catalog lists them; this package has the classes of the engine."""

from __future__ import annotations

from roga_domainbed import catalog
from roga_domainbed.engine import lookup
from roga_domainbed.engine.algorithms.base import Algorithm
from roga_domainbed.engine.algorithms.erm import ERM

__all__ = ["ALGORITHMS", "ERM", "Algorithm", "get_algorithm_class"]

#: The algorithms that can be built without a DomainBed checkout, the plugin's included.
ALGORITHMS = lookup.names(catalog.ALGORITHMS)


def get_algorithm_class(algorithm_name: str) -> type[Algorithm]:
    """The class called ``algorithm_name``.

    Raises:
        NotInEngine: if the name is unknown or only a DomainBed checkout has the class.
    """
    return lookup.load_class(catalog.ALGORITHMS, algorithm_name)
