"""Between one minibatch for each environment and one pooled batch."""

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


def require_two_samples(minibatches: Sequence[Minibatch], algorithm: str) -> None:
    """Refuse a minibatch of one, where a statistic within an environment would be nan.

    Raises:
        RogaError: a minibatch has fewer than two samples.
    """
    if min(len(x) for x, _ in minibatches) < 2:
        raise RogaError(
            f"{algorithm} needs at least 2 samples of each environment: set hparams 'batch_size' above 1"
        )


def number(value: torch.Tensor) -> float | torch.Tensor:
    """A scalar for the records: a float, or on a GPU the tensor, since asking for its value would wait for it."""
    return value.item() if value.device.type == "cpu" else value.detach()
