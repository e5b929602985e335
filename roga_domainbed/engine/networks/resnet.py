"""ResNet-18 and ResNet-50 featurizers for 224×224 images."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from roga_domainbed.networks.pooled import PooledFeaturizer
from roga_domainbed.networks.pretrained import timm_features


class ResNet(PooledFeaturizer):
    """A residual network without its last layer, with ImageNet weights as in DomainBed.

    ``resnet50_augmix`` (the default) selects ResNet-50 with AugMix weights; without it, ``resnet18`` selects ResNet-18,
    and otherwise it is ResNet-50, both with torchvision's first weights.
    ``n_outputs`` is 512 for ResNet-18 and 2048 for ResNet-50.
    """

    def __init__(self, input_shape: tuple[int, ...], hparams: dict[str, Any]):
        if hparams.get("resnet50_augmix", True):
            name, n_outputs = "resnet50.ram_in1k", 2048
        elif hparams.get("resnet18", False):
            name, n_outputs = "resnet18.tv_in1k", 512
        else:
            name, n_outputs = "resnet50.tv_in1k", 2048
        network = timm_features(name, hparams)
        if input_shape[0] != 3:
            network.conv1 = _with_channels(network.conv1, input_shape[0])
        super().__init__(network, n_outputs, hparams)


def _with_channels(conv: nn.Conv2d, n_channels: int) -> nn.Conv2d:
    """The same convolution for ``n_channels`` inputs: input i gets the weights of colour i mod 3."""
    wider = nn.Conv2d(
        n_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, bias=conv.bias is not None
    )
    with torch.no_grad():
        wider.weight.copy_(conv.weight[:, [i % 3 for i in range(n_channels)]])
    return wider
