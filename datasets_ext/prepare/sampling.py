"""Which frames of a video are taken."""

from __future__ import annotations


def spaced_indices(count: int, n: int) -> list[int]:
    """``n`` evenly spaced frame indices of a video of ``count`` frames, the first and the last among them.

    The i-th of n is ``floor(i (count − 1) / (n − 1))``, in integers, which is the choice of DeepfakeBench's
    preprocessing without the rounding of floats. One frame alone is the first.

    Args:
        count: number of frames, ≥ 0.
        n: number wanted, ≥ 1; a video with no more frames than that gives all of them.

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
