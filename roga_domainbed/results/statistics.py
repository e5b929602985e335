"""Confidence intervals, and comparisons of the rows of a table: pure functions of arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

RESAMPLES = 2000
FEWEST_TO_RESAMPLE = 6


def mean_interval(
    values: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """Confidence interval of a mean by the studentized cluster bootstrap; with few clusters, by Student's t.

    Whole clusters (trials, videos) are drawn with replacement. The distance of each resample's mean from the observed
    mean is divided by the resample's own standard error (Efron and Tibshirani, An Introduction to the Bootstrap, 1993,
    section 12.5): percentile intervals are too short for the few trials of a sweep. Clusters may differ in size, so
    the standard error is that of a ratio estimator. Fewer than ``FEWEST_TO_RESAMPLE`` clusters have too few distinct
    resamples (of three, a 95 % interval would cover 82 %): they get Student's t with the same standard error.

    Args:
        values: (N,) float.
        clusters: (N,) keys; values of one cluster are not independent. By default each value is a cluster.
        level: nominal coverage.
        resamples: how many.
        seed: of the resampling.

    Returns:
        Lower and upper limit; both NaN with fewer than three clusters.
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


def auc_interval(
    scores: ArrayLike,
    labels: ArrayLike,
    clusters: ArrayLike,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """Confidence interval of the AUC by the BCa bootstrap over videos; reals and fakes are drawn separately.

    Frames of one video are drawn together: treated as independent, they make the interval far too short. BCa (bias
    correction and acceleration): Efron, Better Bootstrap Confidence Intervals, JASA 1987. The result equals that of
    ``scipy.stats.bootstrap`` over the two lists of videos, ten times faster: the AUC is a ratio of sums over pairs of
    videos. W_rf counts the pairs of frames of real r and fake f in the right order (ties half), P_rf all pairs; with
    c and d, how often each video was drawn, the AUC of a resample is c'Wd / c'Pd.

    Args:
        scores: (N,) float, or (N, T) of T trials tested on the same frames; then the interval is that of their mean
            AUC.
        labels: (N,) int 0 or 1, equal within a cluster.
        clusters: (N,) keys, the video of every frame.
        level: nominal coverage.
        resamples: how many.
        seed: of the resampling.

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
    """A row of a table against the baseline, over the pairs that both have.

    Attributes:
        name: of the row.
        pairs: how many (dataset, test environment, trial) both have.
        difference: mean of row − baseline, in the unit of the values.
        interval: its 95 % confidence interval, from ``mean_interval`` over pairs.
        p_value: two-sided Wilcoxon signed-rank test, Holm-corrected over the rows; NaN without pairs.
        wins: pairs in which the row is better.
        ties: pairs no further apart than ``tie_within``.
        losses: pairs in which the row is worse.
    """

    name: str
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
    """Every row against ``baseline``, paired.

    Args:
        values: row → (dataset, test environment, trial) → value.
        baseline: a key of ``values``.
        lower_is_better: for error rates.
        tie_within: differences up to it are ties; by default what a percentage with one decimal cannot show.
    """
    from scipy.stats import wilcoxon

    found = []
    for name, own in values.items():
        if name == baseline:
            continue
        keys = sorted(own.keys() & values[baseline].keys())
        gains = np.array([own[key] - values[baseline][key] for key in keys])
        better = -gains if lower_is_better else gains
        p_value = float("nan") if not keys else float(wilcoxon(gains).pvalue) if gains.any() else 1.0
        wins, losses = int((better > tie_within).sum()), int((better < -tie_within).sum())
        difference = float(gains.mean()) if keys else float("nan")
        counts = wins, len(keys) - wins - losses, losses
        found.append(Comparison(name, len(keys), difference, mean_interval(gains), p_value, *counts))
    corrected = iter(holm([row.p_value for row in found if row.pairs]).tolist())
    return [replace(row, p_value=next(corrected)) if row.pairs else row for row in found]


def average_ranks(
    values: Mapping[str, Mapping[tuple, float]], *, lower_is_better: bool = False
) -> tuple[dict[str, float], int]:
    """Mean rank of each row (1 is best, ties share) over the blocks that all rows have, and the number of blocks.

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
    """The indices of each video's frames, first of the real videos, then of the fake ones."""
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
    """(reals, fakes): in how many pairs of frames the fake has the higher score; ties count half."""
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
    """The BCa interval.

    Args:
        observed: the value of the sample.
        drawn: (resamples,) values of the resamples.
        left_out: for each group that was resampled, the values with one member left out.
        level: nominal coverage.
    """
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
