"""Scores of videos from scores of frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike


def video_scores(
    scores: ArrayLike, labels: ArrayLike, videos: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """The score of each video: the mean score of its frames, as is usual in the field.

    Args:
        scores: (N,) float, a probability of fake for each frame.
        labels: (N,) int, equal within a video.
        videos: N keys. A key needs environment, label and stem: by stem alone, the four FaceForensics++ fakes of
            one pair would become one video.

    Returns:
        (V,) scores and (V,) labels, in order of first appearance.

    Raises:
        ValueError: if a video has frames of both labels.
    """
    scores, labels = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    number: dict[str, int] = {}
    inverse = np.array([number.setdefault(video, len(number)) for video in videos], dtype=np.int64)
    _, first = np.unique(inverse, return_index=True)
    video_labels = labels[first]
    mixed = np.flatnonzero(labels != video_labels[inverse])
    if mixed.size:
        raise ValueError(f"video {videos[mixed[0]]!r} has frames of both labels: its key is not unique")
    return np.bincount(inverse, weights=scores) / np.bincount(inverse), video_labels
