"""Confidence intervals, and comparisons of the rows of a table: pure functions of arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

RESAMPLES = 2000
FEWEST_TO_RESAMPLE = 6
_AT_ONCE = 2**16  # frames times resamples: what stays in a processor's cache


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
    real, fake = _draws(rng, (len(reals), len(fakes)), resamples)
    drawn = ((real @ right) * fake).sum(1) / ((real @ pairs) * fake).sum(1)
    left_out = [(right.sum() - right.sum(axis)) / (pairs.sum() - pairs.sum(axis)) for axis in (1, 0)]
    return _bca(right.sum() / pairs.sum(), drawn, left_out, level)


def _draws(rng: np.random.RandomState, sizes: Sequence[int], resamples: int) -> list[np.ndarray]:
    """For each size n a (resamples, n) array: how often each of n was drawn in n draws with replacement."""
    counts = [np.empty((resamples, n)) for n in sizes]
    for i in range(resamples):
        for own in counts:
            n = own.shape[1]
            own[i] = np.bincount(rng.randint(0, n, n), minlength=n)
    return counts


def roc_intervals(
    scores: ArrayLike,
    labels: ArrayLike,
    clusters: ArrayLike,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Confidence intervals of the AUC and the EER over videos, from the resamples of ``auc_interval``.

    The AUC's interval is that of ``auc_interval``. Time and memory grow with the frames, not with the pairs of videos:
    thousands of images that belong to no video are as quick. The EER's is the percentile interval (Efron and
    Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13): the EER is a quantile of its kind, and BCa's
    acceleration, which is made by leaving out one video at a time, is not consistent for quantiles.

    Args:
        scores: (N,) float, any scale; higher means fake.
        labels: (N,) int 0 or 1, equal within a cluster.
        clusters: (N,) keys, the video of every frame.
        level: nominal coverage.
        resamples: how many.
        seed: of the resampling.

    Returns:
        ``auc`` and ``eer`` → lower and upper limit.

    Raises:
        ValueError: if a class has fewer than two videos.
    """
    curve = _WeightedRoc(np.asarray(scores, dtype=np.float64), np.asarray(labels), clusters)
    rng = np.random.RandomState(seed)
    at_once = max(1, _AT_ONCE // len(curve.labels))
    aucs, eers = [], []
    for start in range(0, resamples, at_once):
        auc, eer = curve.auc_and_eer(*_draws(rng, curve.n_clusters, min(at_once, resamples - start)))
        aucs.append(auc)
        eers.append(eer)
    observed, left_out = curve.auc_and_left_out()
    low, high = np.quantile(np.concatenate(eers), [(1 - level) / 2, (1 + level) / 2])
    return {
        "auc": _bca(observed, np.concatenate(aucs), left_out, level),
        "eer": (float(low), float(high)),
    }


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


class _WeightedRoc:
    """ROC curves of one set of frames, each with other weights of its videos.

    Attributes:
        labels: (N,) 0 or 1.
        n_clusters: how many real videos there are, and how many fake ones.
    """

    def __init__(self, scores: np.ndarray, labels: np.ndarray, clusters: ArrayLike):
        self.labels = labels
        _, first, inverse = np.unique(clusters, return_index=True, return_inverse=True)
        label_of = labels[first]
        self.n_clusters = int((label_of == 0).sum()), int((label_of == 1).sum())
        if min(self.n_clusters) < 2:
            raise ValueError(
                f"{self.n_clusters[0]} real and {self.n_clusters[1]} fake videos: two of each are needed"
            )
        number = np.empty(len(label_of), np.int64)  # of a video among those of its label
        for label, n in enumerate(self.n_clusters):
            number[label_of == label] = np.arange(n)
        thresholds, at = np.unique(-scores, return_inverse=True)  # the largest score first
        self._videos, self._thresholds, self._up_to = [], [], []
        for label in (0, 1):
            own = np.flatnonzero(labels == label)
            own = own[np.argsort(at[own], kind="stable")]
            self._videos.append(number[inverse[own]])
            self._thresholds.append(at[own])
            # how many frames have at least the score of a threshold; before the first threshold, none
            self._up_to.append(np.searchsorted(at[own], np.arange(-1, len(thresholds)), "right"))
        reals_up_to, of_fakes = self._up_to[0], self._thresholds[1]
        self._reals_above, self._reals_not_below = reals_up_to[of_fakes], reals_up_to[of_fakes + 1]

    def auc_and_eer(self, reals: np.ndarray, fakes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(R,) AUCs and (R,) EERs, where the real videos count (R, reals) times and the fake ones (R, fakes) times."""
        of_fakes = np.take(fakes, self._videos[1], axis=1)
        at_least = [_cumulated(np.take(reals, self._videos[0], axis=1)), _cumulated(of_fakes)]
        n_reals, n_fakes = (sums[:, -1] for sums in at_least)
        above, not_below = (
            np.einsum("rf,rf->r", of_fakes, np.take(at_least[0], place, axis=1))
            for place in (self._reals_above, self._reals_not_below)
        )
        wrong = (above + not_below) / 2  # ties count half
        return 1 - wrong / (n_reals * n_fakes), self._eer(at_least, n_reals, n_fakes)

    def _eer(self, at_least: Sequence[np.ndarray], n_reals: np.ndarray, n_fakes: np.ndarray) -> np.ndarray:
        """As ``metrics.binary.eer``: interpolated between the points before and after the crossing."""
        rows = np.arange(len(n_reals))

        def rates(point: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            """The false-positive rates, and by how much the false-negative rates are larger."""
            fpr = at_least[0][rows, self._up_to[0][point]] / n_reals
            return fpr, 1.0 - at_least[1][rows, self._up_to[1][point]] / n_fakes - fpr

        before = np.zeros(len(rows), np.int64)
        after = np.full(len(rows), len(self._up_to[0]) - 1)
        while (after - before > 1).any():
            middle = (before + after) // 2
            is_before = rates(middle)[1] > 0
            before, after = np.where(is_before, middle, before), np.where(is_before, after, middle)
        (fpr, gap), (next_fpr, next_gap) = rates(before), rates(after)
        return fpr + gap / (gap - next_gap) * (next_fpr - fpr)

    def auc_and_left_out(self) -> tuple[float, list[np.ndarray]]:
        """The AUC of all frames, and those with each real video left out, and with each fake one."""
        right, pairs = [], []
        for label, n in enumerate(self.n_clusters):
            others, own = self._thresholds[1 - label], self._thresholds[label]
            below_or_tied = np.searchsorted(others, own, "left") + np.searchsorted(others, own, "right")
            in_order = below_or_tied / 2 if label == 0 else len(others) - below_or_tied / 2
            right.append(np.bincount(self._videos[label], weights=in_order, minlength=n))
            pairs.append(np.bincount(self._videos[label], minlength=n) * float(len(others)))
        total_right, total = right[0].sum(), pairs[0].sum()
        left_out = [(total_right - own) / (total - of) for own, of in zip(right, pairs, strict=True)]
        return float(total_right / total), left_out


def _cumulated(counts: np.ndarray) -> np.ndarray:
    """(R, N + 1) sums of the first 0, 1 … N of the (R, N) counts."""
    sums = np.zeros((len(counts), counts.shape[1] + 1))
    np.cumsum(counts, axis=1, out=sums[:, 1:])
    return sums


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
    normal = NormalDist()  # scipy.stats has the same functions, and takes a second to import
    bias = normal.inv_cdf(below)
    ends = [bias + normal.inv_cdf(share) for share in ((1 - level) / 2, (1 + level) / 2)]
    low, high = np.quantile(drawn, [normal.cdf(bias + z / (1 - acceleration * z)) for z in ends])
    return float(low), float(high)
