"""Minibatches of reals and of fakes blended from them; the data's own fakes are left out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from roga_domainbed.errors import RogaError
from roga_domainbed.input.augmentation import apply
from roga_domainbed.input.augmentation.draws import Draws
from roga_domainbed.input.augmentation.geometry import crop_resize
from roga_domainbed.input.augmentation.self_blend import self_blended
from roga_domainbed.input.minibatches import IndexSampler

REAL, FAKE = 0, 1


def reals_of(sampler: IndexSampler, labels: np.ndarray, env: int) -> IndexSampler:
    """Draws reals alone, for the first half of a minibatch; the longer half where its size is odd.

    Args:
        sampler: of the environment.
        labels: of all its samples.
        env: its index, for a message.

    Raises:
        RogaError: there is no real.
    """
    reals = sampler.indices[labels[sampler.indices] == REAL]
    if not len(reals):
        raise RogaError(
            f"augmentation 'sbi' makes fakes of reals, and environment {env} has no real to train on: choose another"
        )
    return IndexSampler(reals, (sampler.batch_size + 1) // 2)


def pairs(
    images: Sequence[Tensor], n_fakes: int, drawn: Draws, side: int, rngs: Sequence[np.random.Generator]
) -> tuple[Tensor, Tensor, Draws]:
    """Reals, then the fakes blended from the first of them, all augmented; a fake as its real is.

    Args:
        images: N reals, (H, W, 3) uint8.
        n_fakes: N or one less.
        drawn: N rows.
        side: of the result.
        rngs: a generator for each real.

    Returns:
        (N + n_fakes, 3, side, side) uint8, their labels, and their draws.
    """
    cut = crop_resize(images, drawn.boxes, drawn.flip, side)
    blended = [self_blended(real, rng) for real, rng in zip(cut, rngs, strict=True)]
    pixels = torch.stack([real for real, _ in blended] + [fake for _, fake in blended[:n_fakes]])
    labels = torch.tensor([REAL] * len(images) + [FAKE] * n_fakes)
    drawn = drawn.of(np.r_[: len(images), :n_fakes])
    return apply.degraded(pixels, drawn), labels, drawn
