"""Minibatches as a function of the step: which indices, and how each image is augmented.

Nothing here has a state to save. The indices of environment e at step t come from ``generator(seed, "minibatch", t,
e)``. Before sample j is read, torch, numpy and ``random`` are seeded with ``derive(seed, "sample", t, e, j)``, so the
dataset draws the same augmentation in any worker process.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from roga_domainbed.input.environment import Environment
from roga_domainbed.seeds import derive, generator

Batch = tuple[Tensor, Tensor]
#: (purpose, step, position of the environment among ``environments``, position in the minibatch, index)
Key = tuple[str, int, int, int, int]


class IndexSampler:
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


class TrainingSamples:
    """Step → one (x, y) an environment, each sample from the environment's own ``__getitem__``.

    Args:
        environments: where the samples are.
        samplers: one an environment.
        seed: the run's seed.
        purpose: separates the training minibatches from the unlabelled ones.
    """

    def __init__(
        self, environments: Sequence[Environment], samplers: Sequence[IndexSampler], seed: int, purpose: str
    ):
        self.environments, self.samplers, self.seed, self.purpose = environments, samplers, seed, purpose

    def __call__(self, step: int) -> list[Batch]:
        """The minibatches of that step."""
        return [
            _stacked(
                self._sample((self.purpose, step, env, position, int(index)))
                for position, index in enumerate(sampler.at(self.seed, self.purpose, step, env))
            )
            for env, sampler in enumerate(self.samplers)
        ]

    def _sample(self, key: Key) -> tuple[Tensor, int]:
        purpose, step, env, position, index = key
        return _seeded_sample(self.environments[env], self.seed, (purpose, step, env, position), index)


class EvaluationSamples:
    """(environment, indices) → their (x, y), without augmentation."""

    def __init__(self, environments: Sequence[Environment], seed: int):
        self.views = [environment.evaluation for environment in environments]
        self.seed = seed

    def __call__(self, task: tuple[int, Sequence[int]]) -> Batch:
        """The samples, in the order of their indices."""
        env, indices = task
        return _stacked(
            _seeded_sample(self.views[env], self.seed, ("evaluate", 0, 0, int(index)), int(index))
            for index in indices
        )


def _seeded_sample(environment: Environment, seed: int, where: tuple, index: int) -> tuple[Tensor, int]:
    if environment.may_draw:
        seed_everything(derive(seed, *where))
    x, y = environment[index]
    return x, int(y)


def _stacked(samples: Any) -> Batch:
    x, y = zip(*samples, strict=True)
    return torch.stack(x), torch.tensor(y)
