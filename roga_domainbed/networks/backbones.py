"""Featurizers chosen by ``hparams['backbone']``: a perceptron, and every model timm knows."""

from __future__ import annotations

import difflib
import math
from typing import Any

from torch import Tensor, nn

from roga_domainbed.catalog import BACKBONES
from roga_domainbed.errors import RogaError, unknown_name
from roga_domainbed.networks.pooled import PooledFeaturizer
from roga_domainbed.networks.pretrained import timm_features
from roga_domainbed.networks.weights import load_weights


class Mlp(nn.Module):
    """One hidden layer of 128 with ReLU over all pixels, for digits and other small images.

    Args:
        input_shape: of an image; (1, 14, 14) with 10 classes makes the network 196-128-10.
        hparams: ``weights``, a file with a state dict of this class to start from.
    """

    n_outputs = 128

    def __init__(self, input_shape: tuple[int, ...], hparams: dict[str, Any]):
        super().__init__()
        self.hidden = nn.Linear(math.prod(input_shape), self.n_outputs)
        self.activation = nn.Identity()
        if hparams.get("weights"):
            load_weights(self, "mlp", hparams["weights"])

    def forward(self, x: Tensor) -> Tensor:
        """(B, *input_shape) → (B, 128)."""
        return self.activation(self.hidden(x.flatten(1)).relu())


def timm_backbone(name: str, input_shape: tuple[int, int, int], hparams: dict[str, Any]) -> PooledFeaturizer:
    """Build the timm model ``name`` as a featurizer.

    Args:
        name: any name timm knows, for example ``"resnet34"``.
        input_shape: (channels, height, width).
        hparams: ``pretrained`` (True) starts from ImageNet weights; ``weights`` is a file to take them from
            instead of downloading.

    Raises:
        RogaError: for an unknown name, or weights that are not there or belong to another model.
    """
    import timm

    if not timm.is_model(name):
        raise RogaError(_unknown_backbone(name, timm.list_models()))
    channels, height, width = input_shape
    arguments: dict[str, Any] = {"in_chans": channels}
    config = timm.get_pretrained_cfg(name)
    if config is not None and config.fixed_input_size:
        arguments["img_size"] = (height, width)
    network = timm_features(name, hparams, **arguments)
    # Some families have a hidden layer between their features and their classifier.
    n_outputs = getattr(network, "head_hidden_size", None) or network.num_features
    return PooledFeaturizer(network, n_outputs, hparams)


def _unknown_backbone(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3)
    return unknown_name(
        "backbone", name, [*BACKBONES.names(), *near, f"and the {len(known)} names of timm.list_models()"]
    )
