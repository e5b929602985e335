"""Which frames of a video are taken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def spaced_indices(count: int, n: int) -> list[int]:
    """``n`` evenly spaced frame indices of a video of ``count`` frames, the first and the last included.

    The i-th of n is ``floor(i (count − 1) / (n − 1))``, in integers: the choice of DeepfakeBench's preprocessing
    without its floating-point rounding. For n = 1 it is the first frame.

    Args:
        count: number of frames, ≥ 0.
        n: number wanted, ≥ 1; a video with fewer frames gives all of them.

    Returns:
        Ascending, without repetition, ``min(count, n)`` long.
    """
    if n < 1 or count < 0:
        raise ValueError(f"need n >= 1 and count >= 0; got n={n}, count={count}")
    if count <= n:
        return list(range(count))
    if n == 1:
        return [0]
    return [i * (count - 1) // (n - 1) for i in range(n)]


def spaced(items: Sequence[T], n: int) -> list[T]:
    """``n`` of ``items`` at ``spaced_indices``."""
    return [items[i] for i in spaced_indices(len(items), n)]
