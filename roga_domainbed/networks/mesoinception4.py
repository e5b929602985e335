"""MesoInception-4 (Afchar et al., MesoNet, arXiv:1809.00888, section III.B)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from roga_domainbed.networks.mesonet import MesoNet


class MesoInception4(MesoNet):
    """Meso-4 with inception modules in place of the convolutions of its first two blocks.

    With the paper's sigmoid output it has 28,615 weights at 256 × 256.

    Args:
        input_shape: (channels, height, width).
        hparams: those of ``MesoNet``.
    """

    def __init__(self, input_shape: tuple[int, int, int], hparams: dict[str, Any]):
        first_blocks = [
            _inception_block(input_shape[0], (1, 4, 4, 2)),
            _inception_block(11, (2, 4, 4, 2)),
        ]
        super().__init__("mesoinception4", first_blocks, 12, input_shape, hparams)


class Inception(nn.Module):
    """Four branches side by side; a ReLU follows each of their convolutions.

    A 1×1 convolution; and three times a 1×1 convolution and then one of 3×3, with dilation 1, 2 and 3. The dilated
    ones stand for the 5×5 convolution of Szegedy et al. and reach 5 and 7 pixels far.

    Args:
        n_inputs: channels that come in.
        widths: channels of each branch; their sum comes out.
    """

    def __init__(self, n_inputs: int, widths: tuple[int, int, int, int]):
        super().__init__()
        self.branches = nn.ModuleList([_conv_relu(n_inputs, widths[0], kernel=1)])
        for dilation, width in enumerate(widths[1:], 1):
            self.branches.append(
                nn.Sequential(
                    *_conv_relu(n_inputs, width, kernel=1),
                    *_conv_relu(width, width, kernel=3, dilation=dilation),
                )
            )

    def forward(self, x: Tensor) -> Tensor:
        """(B, n_inputs, height, width) → (B, sum of widths, height, width)."""
        return torch.cat([branch(x) for branch in self.branches], dim=1)


def _inception_block(n_inputs: int, widths: tuple[int, int, int, int]) -> nn.Sequential:
    return nn.Sequential(Inception(n_inputs, widths), nn.BatchNorm2d(sum(widths)), nn.MaxPool2d(2))


def _conv_relu(inputs: int, outputs: int, kernel: int, dilation: int = 1) -> nn.Sequential:
    padding = dilation * (kernel // 2)  # keeps the size
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=padding, dilation=dilation), nn.ReLU(inplace=True)
    )
