"""A network between two others."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def move_towards(network: nn.Module, target: nn.Module, fraction: float) -> None:
    """Move the weights and buffers of ``network`` the ``fraction``, in [0, 1], of the way to ``target``'s.

    Integer buffers, such as a batch norm's counter, become those of ``target``.
    """
    there = target.state_dict()
    for name, here in network.state_dict().items():
        if here.is_floating_point():
            here.lerp_(there[name], fraction)
        else:
            here.copy_(there[name])
