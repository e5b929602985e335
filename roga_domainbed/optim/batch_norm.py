"""Batch-norm buffers under several forward passes a step: they move once, by the passes at θ.

A second pass at a perturbed point must use batch statistics, as training does, and leave the buffers alone.
Where a step has one pass at θ for each of K domains, each pass starts from the same buffers and their mean is
kept: that is one momentum step towards the mean of the domains' statistics, and the order of the domains does
not matter.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.instancenorm import _InstanceNorm


class RunningStatistics:
    """The running mean and variance of every tracking norm layer of a model.

    Args:
        model: the network that the closures run; None if there is nothing to protect.
    """

    def __init__(self, model: nn.Module | None):
        self.model = model
        self._of_this_step: list[_NormBase] | None = None  # walking through a model for each pass adds up

    def _layers(self) -> list[_NormBase]:
        if self._of_this_step is not None:
            return self._of_this_step
        if self.model is None:
            return []
        return [
            layer
            for layer in self.model.modules()
            if isinstance(layer, _NormBase) and layer.running_mean is not None
        ]

    def buffers(self) -> list[Tensor]:
        """Running means and variances, and how many minibatches they have seen."""
        return [buffer for layer in self._layers() for buffer in layer.buffers(recurse=False)]

    @contextmanager
    def untouched(self) -> Iterator[None]:
        """Inside, training-mode layers use batch statistics; afterwards all buffers are as before."""
        layers = self._layers()
        batch = [layer for layer in layers if not isinstance(layer, _InstanceNorm)]
        # Instance norm reads and moves its buffers whatever the flag says.
        others = [b for layer in layers if isinstance(layer, _InstanceNorm) for b in layer.buffers()]
        copies = [buffer.clone() for buffer in others]
        tracked = [layer.track_running_stats for layer in batch]
        for layer in batch:
            # In training mode this alone keeps batch norm's buffers out of the forward pass; in evaluation mode
            # it still reads them.
            layer.track_running_stats = False
        try:
            yield
        finally:
            for layer, track in zip(batch, tracked, strict=True):
                layer.track_running_stats = track
            for buffer, copy in zip(others, copies, strict=True):
                buffer.copy_(copy)

    @contextmanager
    def moved_once(self) -> Iterator[MeanOfPasses]:
        """Inside, wrap each pass at θ in ``with passes.one():``; an exception puts the buffers back."""
        layers = self._layers()
        passes = MeanOfPasses(layers)
        self._of_this_step = layers
        try:
            yield passes
        except BaseException:
            passes.restore()
            raise
        finally:
            self._of_this_step = None
        passes.keep_mean()


class MeanOfPasses:
    """The buffers before a step, and the sum of what each pass at θ makes of them."""

    def __init__(self, layers: list[_NormBase]):
        self._floats = [buffer for layer in layers for buffer in (layer.running_mean, layer.running_var)]
        self._counts = [
            layer.num_batches_tracked for layer in layers if layer.num_batches_tracked is not None
        ]
        self._floats_before = [buffer.clone() for buffer in self._floats]
        self._counts_before = [count.clone() for count in self._counts]
        self._sum: list[Tensor] = []
        self._n = 0
        self._in_buffers = True  # the mean of a single pass is there already

    @contextmanager
    def one(self) -> Iterator[None]:
        """Around one pass, which starts from the buffers before the step."""
        if self._n:
            self.restore()
        yield
        self._n += 1
        if self._n == 1:
            self._sum = [buffer.clone() for buffer in self._floats]
        elif self._floats:
            torch._foreach_add_(self._sum, self._floats)

    @contextmanager
    def over_ranks(self, n_passes: int) -> Iterator[list[Tensor]]:
        """Inside, the tensors that processes with passes of their own must sum; ``n_passes`` are theirs together."""
        sums = self._sum or [torch.zeros_like(buffer) for buffer in self._floats]
        moved = [
            ((count - before) * self._n).to(self._floats[0].dtype)
            for count, before in zip(self._counts, self._counts_before, strict=True)
        ]
        yield [*sums, *moved]
        self._sum, self._n, self._in_buffers = sums, n_passes, False
        for count, before, steps in zip(self._counts, self._counts_before, moved, strict=True):
            count.copy_(before + (steps / n_passes).round().to(before.dtype))

    def keep_mean(self) -> None:
        """Give the buffers the mean over the passes."""
        if self._floats and (self._n > 1 or not self._in_buffers):
            torch._foreach_div_(self._sum, self._n)
            torch._foreach_copy_(self._floats, self._sum)

    def restore(self) -> None:
        """Put the buffers back to what they were before the step."""
        if self._floats:
            torch._foreach_copy_(self._floats, self._floats_before)
        if self._counts:
            torch._foreach_copy_(self._counts, self._counts_before)
