"""Uncertainty of results, and comparisons of algorithms: pure functions of arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

RESAMPLES = 2000
FEWEST_TO_RESAMPLE = 6


def mean_and_error(values: ArrayLike) -> tuple[float, float]:
    """Mean over trials and its error as upstream prints it: population standard deviation / √n.

    Args:
        values: (n,) float, one a trial.
    """
    values = np.asarray(values, dtype=np.float64)
    return float(values.mean()), float(values.std() / np.sqrt(len(values)))


def mean_interval(
    values: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """Confidence interval of a mean by the studentized cluster bootstrap; with few clusters, by Student's t.

    Whole clusters (trials, videos) are drawn with replacement, and the mean's distance from the observed one is
    measured in its own standard error: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 12.5.
    Percentile intervals are too short for the few trials of a sweep. The standard error of a mean over clusters
    of unequal size is that of a ratio estimator. Fewer than ``FEWEST_TO_RESAMPLE`` clusters have too few distinct
    resamples for a quantile (of three, an interval of nominal 95 % covers 82 %): there the same mean and
    standard error go with Student's quantiles.

    Args:
        values: (N,) float.
        clusters: (N,) keys; values of one cluster are not independent. Every value its own cluster by default.
        level: nominal coverage.
        resamples: how many.
        seed: of the resampling.

    Returns:
        Lower and upper limit; both NaN with fewer than three clusters, which say nothing of a spread.
    """
    values = np.asarray(values, dtype=np.float64)
    keys = np.arange(len(values)) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    sums, sizes = np.bincount(keys, weights=values), np.bincount(keys).astype(float)
    n = len(sums)
    if n < 3:
        return float("nan"), float("nan")
    mean, error = _ratio(sums[None], sizes[None])
    if n < FEWEST_TO_RESAMPLE:
        from scipy.stats import t as student

        reach = student.ppf((1 + level) / 2, n - 1) * error[0]
        return float(mean[0] - reach), float(mean[0] + reach)
    drawn = np.random.RandomState(seed).randint(0, n, (resamples, n))
    means, errors = _ratio(sums[drawn], sizes[drawn])
    usable = errors > 1e-12 * max(error[0], 1e-300)  # all drawn clusters alike: no spread to measure by
    if not usable.any():
        return float(mean[0]), float(mean[0])
    t = (means[usable] - mean[0]) / errors[usable]
    low, high = np.quantile(t, [(1 + level) / 2, (1 - level) / 2])
    return float(mean[0] - low * error[0]), float(mean[0] - high * error[0])


def metric_interval(
    metric: Callable[[np.ndarray, np.ndarray], float],
    scores: ArrayLike,
    labels: ArrayLike,
    clusters: ArrayLike,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """Confidence interval of any metric by the BCa bootstrap over videos, reals and fakes drawn apart.

    Frames of a video are drawn together: taken as independent, they make an interval far too short. Bias
    correction and acceleration (jackknife over videos): Efron, Better Bootstrap Confidence Intervals, JASA 1987.

    Args:
        metric: function of scores and labels, such as ``metrics.binary.auc``.
        scores: (N,) float.
        labels: (N,) int 0 or 1, equal within a cluster.
        clusters: (N,) keys, the video of every frame.
        level: nominal coverage.
        resamples: how many; the metric is computed that often, and once for every video.
        seed: of the resampling.

    Raises:
        ValueError: if a class has fewer than two videos, or the metric refuses the data.
    """
    scores, labels = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    of_class = _videos(labels, clusters)

    def value(videos: Sequence[np.ndarray]) -> float:
        rows = np.concatenate(videos)
        return metric(scores[rows], labels[rows])

    observed = value(of_class[0] + of_class[1])
    rng = np.random.RandomState(seed)
    drawn = np.array(
        [
            value([videos[i] for videos in of_class for i in rng.randint(0, len(videos), len(videos))])
            for _ in range(resamples)
        ]
    )
    left_out = [
        np.array([value(own[:i] + own[i + 1 :] + other) for i in range(len(own))])
        for own, other in (of_class, of_class[::-1])
    ]
    return _bca(observed, drawn, left_out, level)


def auc_interval(
    scores: ArrayLike,
    labels: ArrayLike,
    clusters: ArrayLike,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """Confidence interval of the AUC: what ``metric_interval`` gives for it, some hundred times faster.

    The AUC is a ratio of sums over pairs of videos: W_rf counts the pairs of frames of real r and fake f that are
    in the right order (ties half), P_rf all pairs. With the counts c and d of how often each video was drawn, the
    AUC of a resample is c'Wd / c'Pd, so all of them are two products of matrices.

    Args:
        scores: (N,) float, or (N, T) of T trials that were tested on the same frames; then the interval is that
            of the mean AUC over the trials.
        labels: (N,) int 0 or 1, equal within a cluster.
        clusters: (N,) keys, the video of every frame.
        level: nominal coverage.
        resamples: how many.
        seed: of the resampling; the same videos are drawn as by ``metric_interval``.

    Raises:
        ValueError: if a class has fewer than two videos.
    """
    scores = np.asarray(scores, dtype=np.float64)
    reals, fakes = _videos(np.asarray(labels), clusters)
    trials = scores.reshape(len(scores), -1).T
    right = np.mean([_pairs_in_order(trial, reals, fakes) for trial in trials], axis=0)
    pairs = np.outer([len(video) for video in reals], [len(video) for video in fakes]).astype(float)

    rng = np.random.RandomState(seed)
    counts = [np.empty((resamples, len(reals))), np.empty((resamples, len(fakes)))]
    for i in range(resamples):
        for own in counts:
            n = own.shape[1]
            own[i] = np.bincount(rng.randint(0, n, n), minlength=n)
    real, fake = counts
    drawn = ((real @ right) * fake).sum(1) / ((real @ pairs) * fake).sum(1)
    left_out = [(right.sum() - right.sum(axis)) / (pairs.sum() - pairs.sum(axis)) for axis in (1, 0)]
    return _bca(right.sum() / pairs.sum(), drawn, left_out, level)


def holm(p_values: ArrayLike) -> np.ndarray:
    """p-values corrected for their number: Holm, A Simple Sequentially Rejective Multiple Test Procedure, 1979.

    Args:
        p_values: (m,) in [0, 1].

    Returns:
        (m,) corrected, in the same order.
    """
    p_values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p_values, kind="stable")
    steps = (len(p_values) - np.arange(len(p_values))) * p_values[order]
    corrected = np.empty_like(p_values)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return corrected


@dataclass(frozen=True)
class Comparison:
    """An algorithm against the baseline over the pairs that both have.

    Attributes:
        algorithm: its name.
        pairs: how many (dataset, test environment, trial) both have.
        difference: mean of algorithm − baseline, in the unit of the values.
        interval: its 95 % confidence interval, from ``mean_interval`` over pairs.
        p_value: two-sided Wilcoxon signed-rank test, Holm-corrected over the algorithms; NaN without pairs.
        wins: pairs in which the algorithm is better.
        ties: pairs no further apart than ``tie_within``.
        losses: the rest.
    """

    algorithm: str
    pairs: int
    difference: float
    interval: tuple[float, float]
    p_value: float
    wins: int
    ties: int
    losses: int


def compare(
    values: Mapping[str, Mapping[tuple, float]],
    baseline: str,
    *,
    lower_is_better: bool = False,
    tie_within: float = 0.0005,
) -> list[Comparison]:
    """Every algorithm against ``baseline``, paired.

    Args:
        values: algorithm → (dataset, test environment, trial) → value.
        baseline: a key of ``values``.
        lower_is_better: for error rates.
        tie_within: differences up to it are ties; by default what a percentage with one decimal cannot show.
    """
    from scipy.stats import wilcoxon

    found = []
    for algorithm, own in values.items():
        if algorithm == baseline:
            continue
        keys = sorted(own.keys() & values[baseline].keys())
        gains = np.array([own[key] - values[baseline][key] for key in keys])
        better = -gains if lower_is_better else gains
        p_value = float("nan") if not keys else float(wilcoxon(gains).pvalue) if gains.any() else 1.0
        wins, losses = int((better > tie_within).sum()), int((better < -tie_within).sum())
        difference = float(gains.mean()) if keys else float("nan")
        found.append(
            (
                algorithm,
                len(keys),
                difference,
                mean_interval(gains),
                p_value,
                wins,
                len(keys) - wins - losses,
                losses,
            )
        )
    judged = [row for row in found if row[1]]
    corrected = dict(zip([row[0] for row in judged], holm([row[4] for row in judged]).tolist(), strict=True))
    return [Comparison(*row[:4], corrected.get(row[0], row[4]), *row[5:]) for row in found]


def average_ranks(
    values: Mapping[str, Mapping[tuple, float]], *, lower_is_better: bool = False
) -> tuple[dict[str, float], int]:
    """Mean rank of each algorithm (1 is best, ties share) over the blocks that all have, and their number.

    Demšar, Statistical Comparisons of Classifiers over Multiple Data Sets, JMLR 2006, section 3.2.2. NaN without
    a common block.
    """
    from scipy.stats import rankdata

    blocks = sorted(set.intersection(*(set(own) for own in values.values()))) if values else []
    if not blocks:
        return dict.fromkeys(values, float("nan")), 0
    table = np.array([[own[block] for own in values.values()] for block in blocks])
    ranks = rankdata(table if lower_is_better else -table, axis=1).mean(axis=0)
    return dict(zip(values, ranks.tolist(), strict=True)), len(blocks)


def _ratio(sums: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Σ sums / Σ sizes of each row, and its standard error over the row's clusters."""
    n = sums.shape[1]
    total = sizes.sum(axis=1)
    means = sums.sum(axis=1) / total
    residuals = sums - means[:, None] * sizes
    return means, np.sqrt(n / (n - 1) * (residuals**2).sum(axis=1)) / total


def _videos(labels: np.ndarray, clusters: ArrayLike) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The rows of each video: those of the reals, those of the fakes; two of each at least."""
    inverse = np.unique(clusters, return_inverse=True)[1]
    order = np.argsort(inverse, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(inverse))[:-1])
    reals, fakes = ([video for video in members if labels[video[0]] == label] for label in (0, 1))
    if min(len(reals), len(fakes)) < 2:
        raise ValueError(f"{len(reals)} real and {len(fakes)} fake videos: two of each are needed")
    return reals, fakes


def _pairs_in_order(
    scores: np.ndarray, reals: Sequence[np.ndarray], fakes: Sequence[np.ndarray]
) -> np.ndarray:
    """(reals, fakes): how many pairs of their frames have the fake's score above the real's, ties half."""
    of_reals = scores[np.concatenate(reals)]
    starts = np.cumsum([0, *map(len, reals[:-1])])
    columns = []
    for video in fakes:
        own = np.sort(scores[video])
        below_or_tied = np.searchsorted(own, of_reals, "left") + np.searchsorted(own, of_reals, "right")
        columns.append(np.add.reduceat(len(own) - below_or_tied / 2, starts))
    return np.stack(columns, axis=1)


def _bca(
    observed: float, drawn: np.ndarray, left_out: Sequence[np.ndarray], level: float
) -> tuple[float, float]:
    """The BCa interval from resampled values and, for each sampled group, the values without one member each."""
    from scipy.stats import norm

    below = (np.mean(drawn < observed) + np.mean(drawn <= observed)) / 2
    if below in (0.0, 1.0) or np.ptp(drawn) == 0:
        return float(drawn.min()), float(drawn.max())
    skews, spreads = 0.0, 0.0
    for values in left_out:
        n = len(values)
        influence = (n - 1) * (values.mean() - values)
        skews += np.sum(influence**3) / n**3
        spreads += np.sum(influence**2) / n**2
    acceleration = skews / (6 * spreads**1.5) if spreads > 0 else 0.0
    bias = norm.ppf(below)
    z = bias + norm.ppf([(1 - level) / 2, (1 + level) / 2])
    low, high = np.quantile(drawn, norm.cdf(bias + z / (1 - acceleration * z)))
    return float(low), float(high)
