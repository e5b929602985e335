"""The backbones that ``hparams['backbone']`` names, a row each; any other name is timm's."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from roga_domainbed.catalog.registry import Registry, load


@dataclass(frozen=True)
class BackboneInfo:
    """A featurizer chosen by ``hparams['backbone']``; any other name is timm's."""

    name: str
    target: str
    summary: str = ""


BACKBONES: Registry[BackboneInfo] = Registry("backbone")

BACKBONES.add(
    BackboneInfo(
        "meso4",
        target="roga_domainbed.networks.backbones:Meso4",
        summary="MesoNet's Meso-4, 28 thousand weights",
    )
)
BACKBONES.add(
    BackboneInfo(
        "mlp",
        target="roga_domainbed.networks.backbones:Mlp",
        summary="one hidden layer of 128, for digits and other small images",
    )
)


def load_backbone(name: str) -> Callable[[tuple[int, ...], dict[str, Any]], Any]:
    """What builds the backbone ``name``: called with (input_shape, hparams), gives a module with ``n_outputs``."""
    if name in BACKBONES:
        return load(BACKBONES.get(name).target)
    return functools.partial(load("roga_domainbed.networks.backbones:timm_backbone"), name)
