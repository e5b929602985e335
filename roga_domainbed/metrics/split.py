"""All metrics of one split of an environment, with their names in records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from roga_domainbed.metrics.metric import METRICS, VIDEO, Metric
from roga_domainbed.metrics.video import video_scores


@dataclass
class SplitScores:
    """The predictions of a network for one split, in reading order.

    Attributes:
        labels: (N,) int.
        predicted: (N,) int, the class with the largest logit.
        probabilities: (N, C), rows that sum to 1; float64 for a binary task, float32 otherwise.
        indices: (N,) int, of the samples in the environment.
        videos: N keys, None for a sample of no known video; None if the dataset has no videos.
    """

    labels: np.ndarray
    predicted: np.ndarray
    probabilities: np.ndarray
    indices: Sequence[int]
    videos: list[str | None] | None = None

    @property
    def fake(self) -> np.ndarray | None:
        """(N,) probability of class 1; None unless the task is binary."""
        return self.probabilities[:, 1] if self.probabilities.shape[1] == 2 else None


@dataclass
class SplitMetrics:
    """Record keys of one split, without their prefix.

    Attributes:
        values: metric → number, or None if it is undefined.
        why_null: metric → the reason why it is undefined.
    """

    values: dict[str, float | int | None] = field(default_factory=dict)
    why_null: dict[str, str] = field(default_factory=dict)

    def _add(self, name: str, metric: Metric, scores: np.ndarray, labels: np.ndarray) -> None:
        try:
            self.values[name] = metric.function(scores, labels)
        except ValueError as error:
            self.values[name] = None
            self.why_null[name] = str(error)


def split_metrics(scores: SplitScores) -> SplitMetrics:
    """The number of samples, the accuracy of the largest logit, and every metric of ``METRICS`` for the task.

    For a binary task whose dataset has videos, also ``video_<name>``: the metric of the mean scores of the videos.
    """
    found = SplitMetrics()
    found.values["n"] = len(scores.labels)
    found.values["acc"] = float((scores.predicted == scores.labels).mean())
    is_binary = scores.fake is not None
    metrics = [metric for metric in METRICS if metric.many_classes != is_binary]
    for metric in metrics:
        if metric.name != "acc":  # which is defined for scores that are not finite, too
            found._add(metric.name, metric, scores.fake if is_binary else scores.probabilities, scores.labels)
    if is_binary and scores.videos is not None:
        _add_video_level(found, metrics, scores)
    return found


def _add_video_level(found: SplitMetrics, metrics: Sequence[Metric], scores: SplitScores) -> None:
    known = [i for i, video in enumerate(scores.videos) if video is not None]
    videos = [scores.videos[i] for i in known]
    found.values[f"{VIDEO}n"] = len(set(videos))
    names = [VIDEO + metric.name for metric in metrics]
    try:
        pooled, labels = video_scores(scores.fake[known], scores.labels[known], videos)
    except ValueError as error:  # a video with both labels: the keys of the dataset are wrong
        found.values.update(dict.fromkeys(names))
        found.why_null.update(dict.fromkeys(names, str(error)))
        return
    for name, metric in zip(names, metrics, strict=True):
        found._add(name, metric, pooled, labels)
