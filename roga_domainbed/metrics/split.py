"""Every metric of one environment's split, frame and video level, by the names they have in records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from roga_domainbed.metrics.multiclass import macro_auc
from roga_domainbed.metrics.table import BINARY
from roga_domainbed.metrics.video import video_scores


@dataclass
class SplitScores:
    """What a network says of one split, in the order in which it was read.

    Attributes:
        labels: (N,) int.
        predicted: (N,) int, the class with the largest logit.
        probabilities: (N, C), rows that sum to 1; float64 for a binary task, float32 otherwise.
        indices: (N,) int, which samples of the environment.
        videos: N keys; None where the dataset knows no videos.
    """

    labels: np.ndarray
    predicted: np.ndarray
    probabilities: np.ndarray
    indices: Sequence[int]
    videos: list[str] | None = None

    @property
    def fake(self) -> np.ndarray | None:
        """(N,) probability of class 1; None unless the task is binary."""
        return self.probabilities[:, 1] if self.probabilities.shape[1] == 2 else None


@dataclass
class SplitMetrics:
    """Record keys of one split, without their prefix.

    Attributes:
        values: metric → number, or None where it has no value.
        why_null: metric → the reason it has none.
    """

    values: dict[str, float | int | None] = field(default_factory=dict)
    why_null: dict[str, str] = field(default_factory=dict)

    def _add(self, name: str, function: object, *arguments: object) -> None:
        try:
            self.values[name] = function(*arguments)
        except ValueError as error:
            self.values[name] = None
            self.why_null[name] = str(error)


def split_metrics(scores: SplitScores) -> SplitMetrics:
    """The number of samples and accuracy; further all of ``BINARY``, or for more than two classes macro AUC.

    A binary task whose dataset knows videos has ``BINARY`` of videos too, by the mean of a video's frames, under
    ``video_<name>``.
    """
    metrics = SplitMetrics()
    metrics.values["n"] = len(scores.labels)
    metrics.values["acc"] = float((scores.predicted == scores.labels).mean())
    if scores.fake is None:
        metrics._add("macro_auc", macro_auc, scores.probabilities, scores.labels)
        return metrics
    for name, metric in BINARY.items():
        if name != "acc":  # that of the largest logit, which a score that is no number has too
            metrics._add(name, metric, scores.fake, scores.labels)
    if scores.videos is not None:
        _add_video_level(metrics, scores)
    return metrics


def _add_video_level(metrics: SplitMetrics, scores: SplitScores) -> None:
    metrics.values["video_n"] = len(set(scores.videos))
    try:
        pooled, labels = video_scores(scores.fake, scores.labels, scores.videos)
    except ValueError as error:  # a video of both labels: the dataset's keys are at fault
        names = [f"video_{name}" for name in BINARY]
        metrics.values.update(dict.fromkeys(names))
        metrics.why_null.update(dict.fromkeys(names, str(error)))
        return
    for name, metric in BINARY.items():
        metrics._add(f"video_{name}", metric, pooled, labels)
