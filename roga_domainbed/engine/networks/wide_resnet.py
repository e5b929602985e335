"""Wide residual network for 32×32 images (arXiv:1605.07146)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class _Block(nn.Module):
    """Pre-activation block: norm, ReLU, conv, twice; the second convolution has the stride."""

    def __init__(self, n_in: int, n_out: int, dropout: float, stride: int):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(n_in)
        self.conv1 = nn.Conv2d(n_in, n_out, 3, padding=1)
        self.dropout = nn.Dropout(dropout)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, stride=stride, padding=1)
        self.shortcut = nn.Sequential()
        if stride != 1 or n_in != n_out:
            self.shortcut = nn.Sequential(nn.Conv2d(n_in, n_out, 1, stride=stride))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.dropout(self.conv1(F.relu(self.bn1(x))))
        return self.conv2(F.relu(self.bn2(out))) + self.shortcut(x)


class Wide_ResNet(nn.Module):
    """A stem, three stages of width 16, 32 and 64 times ``widen_factor``, and an 8×8 mean.

    Args:
        input_shape: ``(channels, 32, 32)``.
        depth: number of layers, 6 n + 4 for n blocks a stage.
        widen_factor: multiplier of the widths.
        dropout_rate: dropout between a block's convolutions, in [0, 1).
    """

    def __init__(self, input_shape: tuple[int, ...], depth: int, widen_factor: int, dropout_rate: float):
        super().__init__()
        if (depth - 4) % 6:
            raise ValueError(f"the depth of a wide residual network is 6 n + 4; got {depth}")
        n_blocks = (depth - 4) // 6
        widths = [16, *(width * widen_factor for width in (16, 32, 64))]

        def stage(n_in: int, n_out: int, stride: int) -> nn.Sequential:
            return nn.Sequential(
                _Block(n_in, n_out, dropout_rate, stride),
                *(_Block(n_out, n_out, dropout_rate, 1) for _ in range(n_blocks - 1)),
            )

        self.conv1 = nn.Conv2d(input_shape[0], widths[0], 3, padding=1)
        self.layer1 = stage(widths[0], widths[1], 1)
        self.layer2 = stage(widths[1], widths[2], 2)
        self.layer3 = stage(widths[2], widths[3], 2)
        self.bn1 = nn.BatchNorm2d(widths[3], momentum=0.9)
        self.n_outputs = widths[3]
        self.activation = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, 32, 32) to (B, n_outputs)."""
        out = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        out = F.avg_pool2d(F.relu(self.bn1(out)), 8)
        return self.activation(out.flatten(1))
