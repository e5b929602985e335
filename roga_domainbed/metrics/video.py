"""From frames to videos: one score a video."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

POOLINGS = ("mean", "max", "top_k")


def video_scores(
    scores: ArrayLike, labels: ArrayLike, videos: Sequence[str], *, pooling: str = "mean", k: int = 5
) -> tuple[np.ndarray, np.ndarray]:
    """One score for each video's frames.

    Args:
        scores: (N,) float, a probability of fake for each frame.
        labels: (N,) int, equal within a video.
        videos: N keys. Environment, label and stem belong into a key: by stem alone the four FaceForensics++
            fakes of one pair would collapse into one video.
        pooling: ``mean`` of all frames (the field's convention), their ``max``, or ``top_k``, the mean of the
            ``k`` largest (of all, where there are fewer).
        k: how many frames ``top_k`` takes, at least 1.

    Returns:
        (V,) scores and (V,) labels, in order of first appearance.

    Raises:
        ValueError: if a video has frames of both labels, or ``pooling`` or ``k`` is none of the above.
    """
    if pooling not in POOLINGS or k < 1:
        raise ValueError(f"pooling must be one of {', '.join(POOLINGS)} and k >= 1; got {pooling!r} and {k}")
    scores, labels = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    number: dict[str, int] = {}
    inverse = np.array([number.setdefault(video, len(number)) for video in videos], dtype=np.int64)
    _, first = np.unique(inverse, return_index=True)
    video_labels = labels[first]
    mixed = np.flatnonzero(labels != video_labels[inverse])
    if mixed.size:
        raise ValueError(f"video {videos[mixed[0]]!r} has frames of both labels: its key is not unique")
    if pooling != "mean":
        best_first = np.lexsort((-scores, inverse))
        frames = np.bincount(inverse)
        rank = np.arange(len(scores)) - np.repeat(np.cumsum(frames) - frames, frames)
        kept = best_first[rank < (1 if pooling == "max" else k)]
        scores, inverse = scores[kept], inverse[kept]
    pooled = np.bincount(inverse, weights=scores) / np.bincount(inverse)
    return pooled, video_labels
