"""The running statistics of batch norms, estimated anew for weights that were not trained but averaged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from roga_domainbed.engine.lib.misc import evaluation_mode

#: Minibatches of an estimate: with batch norm's usual momentum m = 0.1 the statistics of the plain weights are as exact
#: as those of (2 − m)/m = 19 minibatches.
N_MINIBATCHES = 20


def counts(network: nn.Module) -> dict[str, int]:
    """Name → how many minibatches it has had, of each batch norm that counts them."""
    return {
        name: int(module.num_batches_tracked)
        for name, module in network.named_modules()
        if isinstance(module, _BatchNorm) and module.num_batches_tracked is not None
    }


def live_layers(network: nn.Module, counts_before: Mapping[str, int]) -> list[_BatchNorm]:
    """The batch norms whose running statistics training has moved since ``counts_before``.

    Frozen ones are not among them. Nor are those of MLDG, which trains copies of its network: where the plain weights
    are evaluated with the first statistics, so are the averaged ones.
    """
    now = counts(network)
    return [
        module
        for name, module in network.named_modules()
        if isinstance(module, _BatchNorm)
        and module.running_mean is not None
        and module.training
        and (name not in now or now[name] != counts_before.get(name))
    ]


def buffers(layers: Iterable[_BatchNorm]) -> list[Tensor]:
    """What a forward pass in training mode changes in ``layers``."""
    return [buffer for layer in layers for buffer in layer.buffers(recurse=False)]


@torch.no_grad()
def estimate(algorithm: Any, layers: Sequence[_BatchNorm], minibatches: Iterable[Tensor]) -> None:
    """Set the running statistics of ``layers`` to the mean over ``minibatches`` of each one's statistics.

    All other layers are in evaluation mode: what follows a dropout, say, is estimated as an evaluation meets it, and
    nothing random is drawn for it. The counts of minibatches stay.

    Args:
        algorithm: has ``predict``.
        layers: batch norms of it.
        minibatches: (B, channels, height, width) each; at least one.
    """
    moving = [buffer for layer in layers for buffer in (layer.running_mean, layer.running_var)]
    numbers = [(n, n.clone()) for layer in layers if (n := layer.num_batches_tracked) is not None]
    momenta = [layer.momentum for layer in layers]
    sums = [torch.zeros_like(buffer) for buffer in moving]
    n_minibatches = 0
    with evaluation_mode(algorithm):
        try:
            for layer in layers:
                layer.training, layer.momentum = True, 1.0  # a pass leaves the statistics of its minibatch
            for x in minibatches:
                algorithm.predict(x)
                torch._foreach_add_(sums, moving)
                n_minibatches += 1
        finally:
            for layer, momentum in zip(layers, momenta, strict=True):
                layer.momentum = momentum
    torch._foreach_div_(sums, n_minibatches)
    torch._foreach_copy_(moving, sums)
    for number, before in numbers:
        number.copy_(before)
