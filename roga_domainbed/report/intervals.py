"""The 95 % interval of every cell, and whether it is over videos, samples or trials."""

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
from roga_domainbed.results.selected import CellKey, JudgedRun, Selected
from roga_domainbed.results.statistics import auc_interval, mean_interval

#: ``Interval.over`` → what such an interval says.
OVER = {
    "videos": "how much the value would change with other test videos and the same models",
    "samples": "how much the value would change with other test samples and the same models; videos are not known",
    "trials": "how much the mean would change with other trials and the same test set",
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


def cell_intervals(selected: Selected, stored: StoredScores) -> dict[CellKey, Interval]:
    """The interval of every cell.

    By resampling the videos of the scores that were stored at the chosen step, where these give the number that is in
    the table; otherwise over trials, cut at the limits of the metric.

    Args:
        selected: what a rule chose.
        stored: the scores of the chosen runs on their test environments.
    """
    return {cell: _interval(trials, selected.metric, stored) for cell, trials in selected.trials.items()}


def _interval(trials: Sequence[JudgedRun], metric: Metric, stored: StoredScores) -> Interval:
    try:
        return _over_scores(trials, metric.name, stored)
    except RogaError as error:
        why = str(error)
    means = trial_means(trials)
    low, high = mean_interval(means)
    if math.isnan(low):
        return Interval(note=f"{why}; an interval over trials needs 3, not {len(means)}")
    return Interval(max(low, 0.0), min(high, metric.most), "trials", why)


def trial_means(runs: Sequence[JudgedRun]) -> list[float]:
    """The number of each trial: of one run, or the mean over runs that hold the environment out with others."""
    tests: dict[int, list[float]] = {}
    for run in runs:
        tests.setdefault(run.trial, []).append(run.test)
    return [sum(own) / len(own) for own in tests.values()]


def _over_scores(trials: Sequence[JudgedRun], metric: str, stored: StoredScores) -> Interval:
    """The interval from stored scores; RogaError says why there is none."""
    if metric not in ("auc", "video_auc", "acc"):
        raise RogaError(f"intervals over videos exist for acc, auc and video_auc, not for {metric}")
    lacking = [trial for trial in trials if (trial.source, trial.env, trial.step) not in stored]
    if any(trial.step != trial.last_step for trial in lacking):
        raise RogaError("no stored scores of the step that the rule chose")
    if lacking:
        raise RogaError("no stored scores")
    found = [stored[trial.source, trial.env, trial.step] for trial in trials]
    first = found[0]
    if not first.has_videos and metric == "video_auc":
        raise RogaError("the stored scores name no videos")
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
        raise RogaError(f"the stored scores give {100 * value:.2f}, the records {100 * shown:.2f}")
    low, high = limits
    # of a few videos Student's t goes beyond what an accuracy can be
    return Interval(max(low, 0.0), min(high, 1.0), "videos" if first.has_videos else "samples")


def _columns(found: Sequence[Scores], metric: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N, trials) scores with their labels and clusters: of frames, or of videos for a metric of videos."""
    first = found[0]
    if metric != "video_auc":
        return np.stack([own.scores for own in found], axis=1), first.labels, first.clusters
    pooled = [video_scores(own.scores, own.labels, list(own.clusters)) for own in found]
    labels = pooled[0][1]
    return np.stack([scores for scores, _ in pooled], axis=1), labels, np.arange(len(labels))
