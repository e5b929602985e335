"""Loaders of whole minibatches without end for training, and of one pass for evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

from roga_domainbed.errors import RogaError


class _EndlessBatches(Sampler[list[int]]):
    """Lists of ``batch_size`` indices for ever.

    Its random numbers come from a generator of its own, seeded once from torch's: what else a run draws does not
    change the order of its samples.
    """

    def __init__(self, n: int, weights: torch.Tensor | None, batch_size: int, replacement: bool):
        self._n, self._weights, self._batch_size = n, weights, batch_size
        # Fewer samples than a minibatch: only with replacement can it be filled.
        self._replacement = replacement or n < batch_size
        self._seed = int(torch.empty((), dtype=torch.int64).random_())

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(self._seed)
        while True:
            if self._weights is not None:
                yield torch.multinomial(
                    self._weights, self._batch_size, self._replacement, generator=generator
                ).tolist()
            elif self._replacement:
                yield torch.randint(self._n, (self._batch_size,), generator=generator).tolist()
            else:
                order = torch.randperm(self._n, generator=generator)
                whole = self._n - self._n % self._batch_size
                for start in range(0, whole, self._batch_size):
                    yield order[start : start + self._batch_size].tolist()


class InfiniteDataLoader:
    """Minibatches drawn with replacement, without end; each has ``batch_size`` rows.

    Args:
        dataset: what to draw from.
        weights: (N,) probability of each sample up to a factor; None for equal ones.
        batch_size: rows of a minibatch.
        num_workers: loader processes; 0 reads in this one.

    Raises:
        RogaError: the dataset is empty.
    """

    _REPLACEMENT = True

    def __init__(self, dataset: Any, weights: torch.Tensor | None, batch_size: int, num_workers: int):
        _require_samples(dataset)
        batches = _EndlessBatches(len(dataset), weights, batch_size, self._REPLACEMENT)
        self._batches = iter(DataLoader(dataset, batch_sampler=batches, num_workers=num_workers))

    def __iter__(self) -> Iterator[Any]:
        return self._batches

    def __len__(self) -> int:
        raise ValueError("an infinite loader has no length")


class InfiniteDataLoaderWithoutReplacement(InfiniteDataLoader):
    """As ``InfiniteDataLoader``, from reshuffled epochs whose last, partial minibatch is dropped.

    With weights every minibatch is drawn anew, without repeating a sample inside it. A dataset smaller than a
    minibatch is drawn from with replacement.
    """

    _REPLACEMENT = False


class FastDataLoader:
    """One pass over the dataset for each iteration, in a new order every time; the last minibatch may be short.

    The processes start with the first pass and stay, so that loaders waiting for their turn cost nothing.

    Raises:
        RogaError: the dataset is empty.
    """

    def __init__(self, dataset: Any, batch_size: int, num_workers: int):
        _require_samples(dataset)
        self._loader = DataLoader(
            dataset,
            batch_size=batch_size,
            shuffle=True,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
        )

    def __iter__(self) -> Iterator[Any]:
        return iter(self._loader)

    def __len__(self) -> int:
        return len(self._loader)


def _require_samples(dataset: Any) -> None:
    if len(dataset) == 0:
        raise RogaError(
            "a split has no samples to load: the environment is too small for this --holdout_fraction or "
            "--uda_holdout_fraction"
        )
