"""Minibatches as a function of the step: which indices, and how each image is augmented.

Nothing here has a state to save. The indices of environment e at step t come from ``generator(seed,
"minibatch", t, e)``, and before sample j is read, torch, numpy and ``random`` are seeded with ``derive(seed,
"sample", t, e, j)``: whatever augmentation the dataset draws is the same in any worker process.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from roga_domainbed.errors import RogaError
from roga_domainbed.seeds import derive, generator
from roga_domainbed.trainer.stop import ignore_in_worker

Batch = tuple[Tensor, Tensor]
#: (purpose, step, position of the environment among ``environments``, position in the minibatch, index)
Key = tuple[str, int, int, int, int]


class IndexDraw:
    """Draws the indices of one environment's minibatches, with replacement, as upstream does.

    Args:
        indices: the in-split.
        batch_size: how many a step.
        weights: probability of each index, or None for equal ones.
    """

    def __init__(self, indices: Sequence[int], batch_size: int, weights: np.ndarray | None = None):
        self.indices = np.asarray(indices)
        self.batch_size = batch_size
        self._cumulative = None if weights is None else np.cumsum(weights / weights.sum())

    def at(self, seed: int, purpose: str, step: int, env: int) -> np.ndarray:
        """(batch_size,) indices for that step."""
        rng = generator(seed, purpose, step, env)
        if self._cumulative is None:
            picks = rng.integers(0, len(self.indices), size=self.batch_size)
        else:
            uniform = rng.random(self.batch_size)
            picks = np.minimum(
                np.searchsorted(self._cumulative, uniform, side="right"), len(self.indices) - 1
            )
        return self.indices[picks]


def seed_everything(seed: int) -> None:
    """Seed the global generators of torch, numpy and ``random``: datasets and algorithms draw from any of them."""
    # Not torch.manual_seed: without CUDA that formats a stack trace at every call, 0.2 ms for each image.
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - the global state is the point
    random.seed(seed)


class Samples(Dataset):
    """The environments of a run behind one ``__getitem__``, so that one pool of workers serves them all."""

    def __init__(self, environments: Sequence[Any], seed: int):
        self.environments = environments
        self.seed = seed

    def __getitem__(self, key: Key) -> tuple[int, Tensor, int] | RogaError:
        purpose, step, env, position, index = key
        seed_everything(derive(self.seed, purpose, step, env, position))
        try:
            x, y = self.environments[env][index]
        except RogaError as error:
            return error  # raised by the parent: an exception from a worker would come with its traceback
        return env, x, int(y)


def _collate(items: list) -> list[Batch] | RogaError:
    for item in items:
        if isinstance(item, RogaError):
            return item
    by_env: dict[int, list] = {}
    for env, x, y in items:
        by_env.setdefault(env, []).append((x, y))
    return [
        (torch.stack([x for x, _ in pairs]), torch.tensor([y for _, y in pairs])) for pairs in by_env.values()
    ]


class _Plan:
    """A batch sampler: the keys of every step, computed when they are needed."""

    def __init__(self, draws: Sequence[IndexDraw], seed: int, purpose: str, steps: range):
        self.draws, self.seed, self.purpose, self.steps = draws, seed, purpose, steps

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[Key]]:
        for step in self.steps:
            yield [
                (self.purpose, step, env, position, int(index))
                for env, draw in enumerate(self.draws)
                for position, index in enumerate(draw.at(self.seed, self.purpose, step, env))
            ]


def training_minibatches(
    environments: Sequence[Any],
    draws: Sequence[IndexDraw],
    *,
    seed: int,
    purpose: str,
    steps: range,
    n_workers: int,
    device: torch.device,
) -> Iterator[list[Batch]]:
    """One list of (x, y) a step, an entry for each environment, on ``device``.

    Args:
        environments: datasets that give ``(image tensor, label)``.
        draws: one an environment.
        seed: the run's seed.
        purpose: separates the training minibatches from the unlabelled ones.
        steps: which steps.
        n_workers: processes that read ahead; 0 reads here. It changes no number.
        device: where the batches go.
    """
    loader = DataLoader(
        Samples(environments, seed),
        batch_sampler=_Plan(draws, seed, purpose, steps),
        collate_fn=_collate,
        num_workers=n_workers,
        worker_init_fn=ignore_in_worker,
        pin_memory=device.type == "cuda",
    )
    yield from _on_device(loader, device)


def sequential_batches(
    environment: Any,
    indices: Sequence[int],
    *,
    seed: int,
    batch_size: int,
    n_workers: int,
    device: torch.device,
) -> Iterator[Batch]:
    """(x, y) for ``indices`` in their order; the last batch may be smaller."""
    chunks = [indices[i : i + batch_size] for i in range(0, len(indices), batch_size)]
    loader = DataLoader(
        Samples([environment], seed),
        batch_sampler=[[("evaluate", 0, 0, int(index), int(index)) for index in chunk] for chunk in chunks],
        collate_fn=_collate,
        num_workers=n_workers,
        worker_init_fn=ignore_in_worker,
        pin_memory=device.type == "cuda",
    )
    for (batch,) in _on_device(loader, device):
        yield batch


def _on_device(loader: DataLoader, device: torch.device) -> Iterator[list[Batch]]:
    for batches in loader:
        if isinstance(batches, RogaError):
            raise batches
        yield [(x.to(device, non_blocking=True), y.to(device, non_blocking=True)) for x, y in batches]
