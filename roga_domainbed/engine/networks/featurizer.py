"""Choose the featurizer: the one that ``hparams['backbone']`` names, else by the shape of the input.

``hparams['frequency']`` puts a stream of frequencies beside it.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn

from roga_domainbed import catalog
from roga_domainbed.engine.lookup import NotInEngine
from roga_domainbed.engine.networks.mlp import MLP
from roga_domainbed.engine.networks.mnist_cnn import MNIST_CNN
from roga_domainbed.engine.networks.resnet import ResNet
from roga_domainbed.engine.networks.wide_resnet import Wide_ResNet
from roga_domainbed.errors import RogaError
from roga_domainbed.networks.frequency import with_frequency
from roga_domainbed.networks.normalization import with_normalization


def Featurizer(input_shape: tuple[int, ...], hparams: dict[str, Any]) -> nn.Module:
    """A module from (B, *input_shape) to (B, n_outputs), with the attribute ``n_outputs``.

    Args:
        input_shape: ``(features,)`` or ``(channels, height, width)``.
        hparams: ``backbone`` wins over the shape: a name of ``catalog.BACKBONES``, or any timm name. ``frequency``
            adds a stream (``networks.frequency``); ``normalize`` is that of ``networks.normalization``.

    Raises:
        RogaError: an ``mlp_*`` hyper-parameter is missing, weights cannot be had, or frequencies of no image.
        NotInEngine: no featurizer for this shape, or one that only a DomainBed checkout has.
    """
    return with_frequency(partial(with_normalization, _plain), tuple(input_shape), hparams)


def _plain(shape: tuple[int, ...], hparams: dict[str, Any]) -> nn.Module:
    backbone = hparams.get("backbone")
    if backbone:
        return catalog.load_backbone(backbone)(shape, hparams)
    if len(shape) == 1:
        missing = [key for key in ("mlp_width", "mlp_depth", "mlp_dropout") if key not in hparams]
        if missing:
            raise RogaError(
                f"inputs of shape {shape} are vectors, and their MLP needs the hparams {', '.join(missing)}: "
                """give them, for example --hparams '{"mlp_width": 256, "mlp_depth": 3, "mlp_dropout": 0.0}'"""
            )
        return MLP(shape[0], hparams["mlp_width"], hparams)
    if shape[1:] == (28, 28):
        return MNIST_CNN(shape)
    if shape[1:] == (32, 32):
        return Wide_ResNet(shape, 16, 2, 0.0)
    if shape[1:] == (224, 224):
        if hparams.get("vit") or hparams.get("dinov2"):
            raise NotInEngine(
                "hparams 'vit' and 'dinov2' are DomainBed's own: set DOMAINBED_HOME to a checkout of "
                "facebookresearch/DomainBed, or name a timm vision transformer in hparams 'backbone'"
            )
        return ResNet(shape, hparams)
    raise NotInEngine(
        f"no featurizer for inputs of shape {shape}; by shape there are those for 28x28, 32x32 and 224x224 images "
        "and for vectors. Set hparams 'backbone' to 'meso4', 'mlp' or a timm name to take another size"
    )
