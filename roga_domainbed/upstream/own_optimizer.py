"""The algorithms of a checkout make their optimizers themselves, and no hyper-parameter names another."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from roga_domainbed.catalog import ALGORITHMS, OPTIMIZER_HPARAMS
from roga_domainbed.catalog.values import shown
from roga_domainbed.host.backend import Host

_DEFAULTS = {spec.name: spec.default for spec in OPTIMIZER_HPARAMS}


def optimizer_refusal(
    algorithm: str, given: Mapping[str, Any], own: Container[str], host: Host
) -> str | None:
    """Why the algorithm cannot have the ``optimizer`` that is given; None if it can.

    Args:
        algorithm: its name, which the sentence leaves to the caller.
        given: hyper-parameters; ``optimizer`` may be missing.
        own: names of the algorithm's own hyper-parameters. One that has ``optimizer`` among them uses it.
        host: the DomainBed in use. The engine's algorithms have their optimizers made by ``optim.base``.
    """
    name = given.get("optimizer", _DEFAULTS["optimizer"])
    if host.home is None or "optimizer" in own or name == _DEFAULTS["optimizer"]:
        return None
    in_engine = algorithm in ALGORITHMS and ALGORITHMS.get(algorithm).target is not None
    instead = ", or train without the checkout" if in_engine else ""
    return (
        f"hparam 'optimizer' {shown(name)} would change nothing: on the DomainBed checkout {host.home} this algorithm "
        f"makes its optimizer itself; leave it out{instead}"
    )
