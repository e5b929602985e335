"""What a person should know who trains with RoGA and cannot see it in a loss; docs/roga.md explains each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from roga_domainbed import optim

#: Images of a pass from which a batch norm takes statistics worth having.
FEWEST = 12
_VOID, _COUNTS, _TOO_MUCH = 0.01, 0.5, 1.0  # of α‖g‖/ρ


def before_training(algorithm: nn.Module, hparams: Mapping[str, Any]) -> list[str]:
    """Whether batch norms see too few images, because each domain passes alone through the network."""
    optimizer = getattr(algorithm, "optimizer", None)
    if not isinstance(optimizer, optim.RoGA):
        return []
    # Built on the host's classes, so it is not imported before there is a host.
    from roga_domainbed.algorithms.roga import ascent_part

    layers = sum(_uses_the_batch(module) for module in (optimizer.model or algorithm).modules())
    fraction, n_images = hparams.get("roga_ascent_fraction", 1), hparams["batch_size"]
    n_ascent = ascent_part(n_images, fraction)
    if not layers or n_ascent >= FEWEST:
        return []
    which = f"a roga_ascent_fraction of {fraction:g} gives {n_ascent}" if fraction < 1 else f"here {n_images}"
    return [
        f"{layers} batch-norm layers take their statistics from the images of one domain at a time, {which}: below "
        f"{FEWEST} they are noise; raise the hparam batch_size, or use a network whose batch norms are frozen "
        "(docs/roga.md#batch-norm)"
    ]


def at_first_record(record: Mapping[str, Any], hparams: Mapping[str, Any]) -> list[str]:
    """Whether the alignment term is too small to matter, or so large that training diverges."""
    ratios = [value for name, value in record.items() if name.startswith("alpha_ratio_")]
    mean = sum(ratios) / len(ratios) if ratios else 0.0
    if mean == 0 or _VOID <= mean <= _TOO_MUCH:
        return []
    alpha, rho = hparams["alpha"], hparams["rho"]
    enough = f"{alpha * _COUNTS / mean:.1g}"
    where = "(docs/roga.md#how-much-the-alignment-weighs)"
    if mean < _VOID:
        return [
            f"the alignment term is void: it moves the ascent points by {mean:.1g} of rho, so this is per-domain SAM "
            f"with radius {rho:g}; with an alpha of about {enough} it would count {where}"
        ]
    return [
        f"the alignment outweighs the perturbation: it moves the ascent points by {mean:.3g} times rho, and training "
        f"diverges there; lower alpha from {alpha:g} to about {enough}, or raise rho {where}"
    ]


def _uses_the_batch(module: nn.Module) -> bool:
    return isinstance(module, _BatchNorm) and (module.training or module.running_mean is None)
