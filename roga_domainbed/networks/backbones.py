"""Featurizers chosen by ``hparams['backbone']``: Meso-4, a perceptron, and every model timm knows."""

from __future__ import annotations

import difflib
import math
from typing import Any

import torch
from torch import Tensor, nn

from roga_domainbed.catalog import BACKBONES
from roga_domainbed.errors import RogaError, unknown_name
from roga_domainbed.networks.pooled import PooledFeaturizer
from roga_domainbed.networks.pretrained import load_weights, timm_features


class Meso4(nn.Module):
    """Meso-4 up to its last hidden layer (Afchar et al., MesoNet, arXiv:1809.00888, Fig. 4).

    Four blocks of convolution, ReLU, batch norm and max pooling (2, 2, 2, 4), then dropout, a fully connected
    layer of 16 and LeakyReLU(0.1). The paper's input is 256 × 256; any side of at least 32 works.

    Args:
        input_shape: (channels, height, width).
        hparams: ``meso4_dropout`` (0.5, the paper's), used before and after the hidden layer; ``weights``, a file
            with a state dict of this class to start from.
    """

    n_outputs = 16

    def __init__(self, input_shape: tuple[int, int, int], hparams: dict[str, Any]):
        super().__init__()
        channels, height, width = input_shape
        if min(height, width) < 32:
            raise RogaError(
                f"meso4 pools by 32 in all and needs images of at least 32x32; got {height}x{width}"
            )
        dropout = hparams.get("meso4_dropout", 0.5)
        self.blocks = nn.Sequential(
            _block(channels, 8, kernel=3, pool=2),
            _block(8, 8, kernel=5, pool=2),
            _block(8, 16, kernel=5, pool=2),
            _block(16, 16, kernel=5, pool=4),
        )
        self.hidden = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(16 * (height // 32) * (width // 32), self.n_outputs),
            nn.LeakyReLU(0.1),
            nn.Dropout(dropout),
        )
        self.activation = nn.Identity()  # the slot that some DomainBed algorithms replace
        if hparams.get("weights"):
            load_weights(self, "meso4", hparams["weights"])

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, height, width) → (B, 16)."""
        # Pooling few channels over large maps is three times as fast in this layout, a step a third faster.
        x = x.contiguous(memory_format=torch.channels_last)
        return self.activation(self.hidden(self.blocks(x).flatten(1)))


def _block(inputs: int, outputs: int, kernel: int, pool: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2),
        nn.ReLU(inplace=True),
        nn.BatchNorm2d(outputs),
        nn.MaxPool2d(pool),
    )


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
