"""The defaults that depend on where a network's first weights come from.

The papers of SAM and its kin tune ρ on pretrained networks. A small network that starts from random weights has early
gradients of norm 0.3, mostly noise of the minibatch. A step of length ρ = 0.1 along such a gradient drowns it, and
training stalls at the loss of guessing. Those networks start with a smaller ρ, unless the user gives one or a random
search draws one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from roga_domainbed.catalog.backbones import has_first_weights
from roga_domainbed.catalog.datasets import DATASETS
from roga_domainbed.catalog.hparams import HParam


def starts_from_scratch(dataset: str, overrides: Mapping[str, Any]) -> bool:
    """Whether the network of a run starts from random weights.

    Args:
        dataset: its name; an unknown one has DomainBed's images of 224 pixels.
        overrides: the hyper-parameters that are given; the dataset's own defaults are under them.
    """
    info = DATASETS.get(dataset) if dataset in DATASETS else None
    hparams = {spec.name: spec.default for spec in info.hparams} if info else {}
    hparams |= overrides
    if hparams.get("weights"):
        return False
    if hparams.get("backbone"):
        return not (has_first_weights(hparams["backbone"]) and hparams.get("pretrained", True))
    # By the side of the images: DomainBed has weights for the network of 224 pixels alone.
    side = hparams.get("image_size", 28 if info and info.small_images else 224)
    return side != 224 or not hparams.get("pretrained", True)


def fitted(specs: Iterable[HParam], dataset: str, overrides: Mapping[str, Any]) -> list[HParam]:
    """``specs`` with the defaults that fit the start of the network; see ``starts_from_scratch``."""
    if not starts_from_scratch(dataset, overrides):
        return list(specs)
    return [spec if spec.scratch is None else replace(spec, default=spec.scratch) for spec in specs]
