"""The 95 % interval of a table's cell, and over what it was taken."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from roga_domainbed.errors import RogaError
from roga_domainbed.metrics import Metric
from roga_domainbed.metrics.binary import auc
from roga_domainbed.metrics.video import video_scores
from roga_domainbed.report.scores import Scores, StoredScores
from roga_domainbed.report.study import Candidate, CellKey, Study
from roga_domainbed.results.statistics import auc_interval, mean_interval

#: ``Interval.over`` → what an interval over it answers.
OVER = {
    "videos": "how far the value moves with other test videos; the models stay as they are",
    "samples": "how far the value moves with other test samples (videos are not known); the models stay as they are",
    "trials": "how far the mean moves with other trials; the test set stays as it is",
}


@dataclass(frozen=True)
class Interval:
    """Lower and upper limit as fractions, NaN if there is none.

    Attributes:
        low: lower limit.
        high: upper limit.
        over: a key of ``OVER``; empty if there is no interval.
        note: why there is none, or why it is not over videos.
    """

    low: float = math.nan
    high: float = math.nan
    over: str = ""
    note: str = ""


def cell_intervals(study: Study, stored: StoredScores) -> dict[CellKey, Interval]:
    """The interval of every cell of the first rule's tables.

    From stored scores, resampled by video, where they belong to the very step the rule chose and give the number
    that is in the table; otherwise over trials, cut where the metric ends.

    Args:
        study: whose cells.
        stored: the scores of the chosen runs on their test environments.
    """
    cells: dict[CellKey, list[Candidate]] = {}
    for candidate in study.chosen:
        if not math.isnan(candidate.test):
            cells.setdefault(candidate.cell, []).append(candidate)
    return {cell: _interval(trials, study.metric, stored) for cell, trials in cells.items()}


def _interval(trials: Sequence[Candidate], metric: Metric, stored: StoredScores) -> Interval:
    try:
        return _over_scores(trials, metric.name, stored)
    except RogaError as error:
        why = str(error)
    low, high = mean_interval([trial.test for trial in trials])
    if math.isnan(low):
        few = f"{len(trials)} trial{'s' * (len(trials) > 1)}, an interval over trials needs 3"
        return Interval(note=f"{why}; {few}")
    return Interval(max(low, 0.0), min(high, metric.most), "trials", why)


def _over_scores(trials: Sequence[Candidate], metric: str, stored: StoredScores) -> Interval:
    """Raises RogaError with the reason if the scores cannot give one."""
    if metric not in ("auc", "video_auc", "acc"):
        raise RogaError(f"intervals over videos are made for acc, auc and video_auc, not for {metric}")
    earlier = sorted({trial.step for trial in trials if trial.step != trial.last_step})
    found = [stored[trial.source, trial.env] for trial in trials if (trial.source, trial.env) in stored]
    if len(found) < len(trials):
        raise RogaError("no stored scores")
    if earlier:
        raise RogaError(
            f"stored scores are of the last step, the rule chose step {', '.join(map(str, earlier))}"
        )
    first = found[0]
    if not first.has_videos and metric == "video_auc":
        raise RogaError("the stored scores know no videos")
    for other in found[1:]:
        if not np.array_equal(first.samples, other.samples) or not np.array_equal(first.labels, other.labels):
            raise RogaError("the trials were tested on different samples")
    columns, labels, clusters = _columns(found, metric)
    if metric == "acc":
        right = ((columns > 0.5) == labels[:, None]).mean(axis=1)
        value, limits = right.mean(), mean_interval(right, clusters)
    else:
        try:
            limits = auc_interval(columns, labels, clusters)
        except ValueError as error:
            raise RogaError(str(error)) from None
        value = np.mean([auc(column, labels) for column in columns.T])
    shown = float(np.mean([trial.test for trial in trials]))
    if abs(value - shown) > 1e-4:
        raise RogaError(f"the stored scores give {100 * value:.2f}, the records {100 * shown:.2f}: not used")
    return Interval(*limits, "videos" if first.has_videos else "samples")


def _columns(found: Sequence[Scores], metric: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N, trials) scores with their labels and clusters: of frames, or of videos for a metric of videos."""
    first = found[0]
    if metric != "video_auc":
        return np.stack([own.scores for own in found], axis=1), first.labels, first.clusters
    pooled = [video_scores(own.scores, own.labels, list(own.clusters)) for own in found]
    labels = pooled[0][1]
    return np.stack([scores for scores, _ in pooled], axis=1), labels, np.arange(len(labels))
