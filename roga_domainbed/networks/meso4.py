"""Meso-4 (Afchar et al., MesoNet, arXiv:1809.00888, section III.A)."""

from __future__ import annotations

from typing import Any

from roga_domainbed.networks.mesonet import MesoNet, conv_block


class Meso4(MesoNet):
    """Meso-4 up to its last hidden layer: four blocks of convolution, ReLU, batch norm and max pooling.

    With the paper's sigmoid output it has 27,977 weights at 256 × 256.

    Args:
        input_shape: (channels, height, width).
        hparams: those of ``MesoNet``.
    """

    def __init__(self, input_shape: tuple[int, int, int], hparams: dict[str, Any]):
        first_blocks = [
            conv_block(input_shape[0], 8, kernel=3, pool=2),
            conv_block(8, 8, kernel=5, pool=2),
        ]
        super().__init__("meso4", first_blocks, 8, input_shape, hparams)
