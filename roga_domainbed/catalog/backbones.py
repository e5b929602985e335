"""The backbones that ``hparams['backbone']`` names, a row each; any other name is timm's."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from roga_domainbed.catalog.registry import Registry, load


@dataclass(frozen=True)
class BackboneInfo:
    """A featurizer chosen by ``hparams['backbone']``; any other name is timm's.

    Attributes:
        name: what is chosen.
        target: what builds it, called with (input_shape, hparams); or empty, and ``timm`` is given.
        summary: for lists.
        timm: timm's name for it, with the tag of its first weights, which would depend on timm's version otherwise.
        n_weights: how many it has without a classifier, for colour images of the size in ``summary`` where that
            matters; None where it depends on the images alone.
    """

    name: str
    target: str = ""
    summary: str = ""
    timm: str = ""
    n_weights: int | None = None


BACKBONES: Registry[BackboneInfo] = Registry("backbone")

BACKBONES.add(
    BackboneInfo(
        "resnet34",
        timm="resnet34.tv_in1k",
        summary="ResNet-34, pretrained on ImageNet by torchvision",
        n_weights=21_284_672,
    )
)
BACKBONES.add(
    BackboneInfo(
        "xception",
        timm="legacy_xception.tf_in1k",
        summary="Xception as FaceForensics++ has it, pretrained on ImageNet",
        n_weights=20_806_952,
    )
)
BACKBONES.add(
    BackboneInfo(
        "efficientnet_b4",
        timm="efficientnet_b4.ra2_in1k",
        summary="EfficientNet-B4, pretrained on ImageNet by timm",
        n_weights=17_548_616,
    )
)
BACKBONES.add(
    BackboneInfo(
        "tf_efficientnet_b4",
        timm="tf_efficientnet_b4.aa_in1k",
        summary="the same with TensorFlow's padding, pretrained as DeepfakeBench's",
        n_weights=17_548_616,
    )
)
BACKBONES.add(
    BackboneInfo(
        "meso4",
        target="roga_domainbed.networks.meso4:Meso4",
        summary="MesoNet's Meso-4, from random weights; at 256 pixels",
        n_weights=27_960,
    )
)
BACKBONES.add(
    BackboneInfo(
        "mesoinception4",
        target="roga_domainbed.networks.mesoinception4:MesoInception4",
        summary="MesoNet's MesoInception-4, from random weights; at 256 pixels",
        n_weights=28_598,
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
    info = BACKBONES.get(name) if name in BACKBONES else None
    if info is not None and info.target:
        return load(info.target)
    build = load("roga_domainbed.networks.backbones:timm_backbone")
    return functools.partial(build, info.timm if info is not None else name)


def has_first_weights(name: str) -> bool:
    """Whether the backbone ``name`` starts from timm's weights unless told otherwise."""
    return name not in BACKBONES or bool(BACKBONES.get(name).timm)
