"""The small convolutional network for 28×28 images."""

from __future__ import annotations

import torch
from torch import nn


class MNIST_CNN(nn.Module):
    """Four 3×3 convolutions with group normalization, then a global mean.

    The normalization layers are called ``bn`` although they are group norms: the names are those of DomainBed's
    checkpoints.
    """

    n_outputs = 128

    def __init__(self, input_shape: tuple[int, ...]):
        super().__init__()
        self.conv1 = nn.Conv2d(input_shape[0], 64, 3, 1, padding=1)
        self.conv2 = nn.Conv2d(64, 128, 3, stride=2, padding=1)
        self.conv3 = nn.Conv2d(128, 128, 3, 1, padding=1)
        self.conv4 = nn.Conv2d(128, 128, 3, 1, padding=1)
        self.bn0 = nn.GroupNorm(8, 64)
        self.bn1 = nn.GroupNorm(8, 128)
        self.bn2 = nn.GroupNorm(8, 128)
        self.bn3 = nn.GroupNorm(8, 128)
        self.activation = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, H, W) to (B, 128)."""
        x = self.bn0(torch.relu(self.conv1(x)))
        x = self.bn1(torch.relu(self.conv2(x)))
        x = self.bn2(torch.relu(self.conv3(x)))
        x = self.bn3(torch.relu(self.conv4(x)))
        return self.activation(x.mean(dim=(2, 3)))
