"""Convert between one minibatch per environment and one pooled batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from roga_domainbed.engine.lib.misc import Minibatch
from roga_domainbed.errors import RogaError


def pool(minibatches: Sequence[Minibatch]) -> tuple[torch.Tensor, torch.Tensor]:
    """All inputs and all labels, environment after environment."""
    return torch.cat([x for x, _ in minibatches]), torch.cat([y for _, y in minibatches])


def unpool(pooled: torch.Tensor, minibatches: Sequence[Minibatch]) -> tuple[torch.Tensor, ...]:
    """The rows of ``pooled`` that belong to each environment: the inverse of ``pool``."""
    return pooled.split([len(x) for x, _ in minibatches])


def domain_labels(minibatches: Sequence[Minibatch]) -> torch.Tensor:
    """(B,) int64: the position in ``minibatches`` of each sample of the pooled batch."""
    device = minibatches[0][1].device
    counts = torch.tensor([len(x) for x, _ in minibatches], device=device)
    return torch.arange(len(counts), device=device).repeat_interleave(counts)


def require_two_samples(minibatches: Sequence[Minibatch], algorithm: str) -> None:
    """Refuse minibatches of one sample, for which a statistic within an environment is NaN.

    Raises:
        RogaError: if a minibatch has fewer than two samples.
    """
    if min(len(x) for x, _ in minibatches) < 2:
        raise RogaError(
            f"{algorithm} needs at least 2 samples of each environment: set hparams 'batch_size' above 1"
        )


def number(value: torch.Tensor) -> float | torch.Tensor:
    """A scalar for the records: a float, or on a GPU the tensor, because reading its value would synchronize."""
    return value.item() if value.device.type == "cpu" else value.detach()
