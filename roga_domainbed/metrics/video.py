"""From frames to videos: one score a video."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike


def video_scores(
    scores: ArrayLike, labels: ArrayLike, videos: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """The mean score of each video's frames.

    Args:
        scores: (N,) float, a probability of fake for each frame.
        labels: (N,) int, equal within a video.
        videos: N keys. Environment, label and stem belong into a key: by stem alone the four FaceForensics++
            fakes of one pair would collapse into one video.

    Returns:
        (V,) mean scores and (V,) labels, in order of first appearance.

    Raises:
        ValueError: if a video has frames of both labels.
    """
    scores, labels = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    _, first, inverse = np.unique(np.asarray(videos, dtype=object), return_index=True, return_inverse=True)
    counts = np.bincount(inverse)
    means = np.bincount(inverse, weights=scores) / counts
    video_labels = labels[first]
    mixed = np.flatnonzero(labels != video_labels[inverse])
    if mixed.size:
        raise ValueError(f"video {videos[mixed[0]]!r} has frames of both labels: its key is not unique")
    order = np.argsort(first)
    return means[order], video_labels[order]
