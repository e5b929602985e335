"""The metrics of binary tasks and their rows: functions of the scores and labels of frames or videos.

A higher score means *fake* (label 1). Some metrics need probabilities; their docstrings say so. The AUC, the average
precision and the curves are scikit-learn's to the last digit, without its import, which takes longer than they do.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from roga_domainbed.metrics.metric import METRICS, Metric

ECE_BINS = 15


def accuracy(scores: ArrayLike, labels: ArrayLike, *, threshold: float = 0.5) -> float:
    """Fraction of samples on the correct side of ``threshold``; a score equal to it counts as real.

    The comparison is strict as in DeepfakeBench, and as upstream resolves a tie of the two logits.

    Args:
        scores: (N,) float, probability of fake.
        labels: (N,) int, 0 real and 1 fake; one class alone is allowed, none is not.
        threshold: in the unit of ``scores``.

    Returns:
        A fraction in [0, 1].

    Raises:
        ValueError: if there are no samples, a score is not finite or a label is neither 0 nor 1.
    """
    scores, labels = checked(scores, labels, both_classes=False)
    return float(np.mean((scores > threshold) == labels))


def balanced_accuracy(scores: ArrayLike, labels: ArrayLike, *, threshold: float = 0.5) -> float:
    """Mean of the fractions of reals and of fakes that are recognized: ½ at chance for any real:fake ratio.

    Args:
        scores: (N,) float, probability of fake.
        labels: (N,) int, 0 real and 1 fake; both must occur.
        threshold: in the unit of ``scores``; a score equal to it counts as real.

    Returns:
        A fraction in [0, 1].

    Raises:
        ValueError: if only one class is present or a score is not finite.
    """
    scores, labels = checked(scores, labels)
    right = (scores > threshold) == labels
    return float((right[labels == 0].mean() + right[labels == 1].mean()) / 2)


def auc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Area under the ROC curve; ties count half.

    Args:
        scores: (N,) float; higher means fake.
        labels: (N,) int, 0 real and 1 fake; both must occur.

    Returns:
        A fraction in [0, 1].

    Raises:
        ValueError: if only one class is present or a score is not finite.
    """
    scores, labels = checked(scores, labels)
    fpr, tpr = roc_curve(scores, labels, corners=True)
    return float(np.sum(np.diff(fpr) * (tpr[1:] + tpr[:-1]) / 2))


def average_precision(scores: ArrayLike, labels: ArrayLike) -> float:
    """Average precision with fake as the positive class: Σ (R_n − R_{n−1}) P_n, as in scikit-learn.

    It depends on the fraction of fakes: do not compare it between sets with different real:fake ratios.

    Args:
        scores: (N,) float; higher means fake.
        labels: (N,) int, 0 real and 1 fake; both must occur.

    Returns:
        A fraction in (0, 1].

    Raises:
        ValueError: if only one class is present or a score is not finite.
    """
    reals, fakes = _called_fake(*checked(scores, labels))
    precision = fakes / (reals + fakes)
    recall = np.append(
        fakes[::-1] / fakes[-1], 0.0
    )  # from 1 down, as scikit-learn adds: the last digit depends on it
    return float(-np.sum(np.diff(recall) * precision[::-1]))


def eer(scores: ArrayLike, labels: ArrayLike) -> float:
    """Equal error rate: the point where the false-positive and the false-negative rate are equal.

    Interpolates linearly between the two ROC points around it. DeepfakeBench takes the nearest point instead
    (``eer_nearest``); on small sets the two differ visibly.

    Args:
        scores: (N,) float; higher means fake.
        labels: (N,) int, 0 real and 1 fake; both must occur.

    Returns:
        A fraction in [0, 1], lower is better.

    Raises:
        ValueError: if only one class is present or a score is not finite.
    """
    scores, labels = checked(scores, labels)
    fpr, tpr = roc_curve(scores, labels)
    gap = (1.0 - tpr) - fpr  # falls from 1 to −1 along the curve
    after = int(np.argmax(gap <= 0))
    before = after - 1
    weight = gap[before] / (gap[before] - gap[after])
    return float(fpr[before] + weight * (fpr[after] - fpr[before]))


def eer_nearest(scores: ArrayLike, labels: ArrayLike) -> float:
    """Equal error rate as DeepfakeBench defines it, for comparison with its tables.

    The false-positive rate of the ROC point with the smallest |FNR − FPR|, the first of equals, without
    interpolation. Collinear points of the curve are dropped first, as scikit-learn's ``roc_curve`` does by default.

    Arguments, result and errors are those of ``eer``.
    """
    scores, labels = checked(scores, labels)
    fpr, tpr = roc_curve(scores, labels, corners=True)
    return float(fpr[np.argmin(np.abs((1.0 - tpr) - fpr))])


def tpr_at_fpr(scores: ArrayLike, labels: ArrayLike, max_fpr: float) -> float:
    """The largest true-positive rate at a false-positive rate of at most ``max_fpr``.

    It is a point of the ROC curve, without interpolation: some threshold reaches it. With fewer than 1 / ``max_fpr``
    reals, no false positive is allowed.

    Args:
        scores: (N,) float; higher means fake.
        labels: (N,) int, 0 real and 1 fake; both must occur.
        max_fpr: in [0, 1], such as 0.01 or 0.001.

    Returns:
        A fraction in [0, 1].

    Raises:
        ValueError: if only one class is present or a score is not finite.
    """
    scores, labels = checked(scores, labels)
    fpr, tpr = roc_curve(scores, labels)
    return float(tpr[fpr <= max_fpr].max())


def log_loss(scores: ArrayLike, labels: ArrayLike) -> float:
    """Mean negative log-likelihood in nats: −log p of a fake, −log(1 − p) of a real.

    As in scikit-learn, p is clipped to float64's machine epsilon away from 0 and 1: a fully confident mistake costs
    36 nats, not infinitely many.

    Args:
        scores: (N,) float in [0, 1], probability of fake.
        labels: (N,) int, 0 real and 1 fake; one class alone is allowed, none is not.

    Returns:
        A number ≥ 0, lower is better.

    Raises:
        ValueError: if there are no samples, or a score is no probability.
    """
    scores, labels = _probabilities(scores, labels)
    eps = np.finfo(np.float64).eps
    of_the_label = np.where(labels == 1, scores, 1.0 - scores)
    return float(-np.log(np.clip(of_the_label, eps, 1.0 - eps)).mean())


def ece(scores: ArrayLike, labels: ArrayLike, *, bins: int = ECE_BINS) -> float:
    """Expected calibration error of the predicted class: Σ_b |B_b|/N · |acc(B_b) − conf(B_b)|.

    The confidence is max(p, 1 − p), in ``bins`` equal bins ((b−1)/bins, b/bins] of
    (0, 1]: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, equation 3, with their 15 bins. In a
    binary task the confidence is at least ½, so about half of the bins are empty.

    Args:
        scores: (N,) float in [0, 1], probability of fake.
        labels: (N,) int, 0 real and 1 fake; one class alone is allowed, none is not.
        bins: how many.

    Returns:
        A fraction in [0, 1], lower is better.

    Raises:
        ValueError: if there are no samples, or a score is no probability.
    """
    scores, labels = _probabilities(scores, labels)
    confidence = np.maximum(scores, 1.0 - scores)
    right = (scores > 0.5) == labels
    bin_of = np.ceil(confidence * bins).astype(int) - 1
    gaps = np.bincount(bin_of, weights=right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(scores))


def roc_curve(
    scores: np.ndarray, labels: np.ndarray, *, corners: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """The points of the ROC curve, from (0, 0) to (1, 1).

    Args:
        scores: (N,) float; higher means fake.
        labels: (N,) int, 0 real and 1 fake; both must occur, which is not checked.
        corners: leave out points midway between their neighbours, as scikit-learn does.

    Returns:
        (K + 1,) false-positive rates and (K + 1,) true-positive rates, for K different scores or fewer.
    """
    reals, fakes = _called_fake(scores, labels)
    if corners:
        kept = np.ones(len(reals), bool)
        kept[1:-1] = (np.diff(reals, 2) != 0) | (np.diff(fakes, 2) != 0)
        reals, fakes = reals[kept], fakes[kept]
    return np.append(0, reals) / reals[-1], np.append(0, fakes) / fakes[-1]


def checked(
    scores: ArrayLike, labels: ArrayLike, *, both_classes: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Scores as float64 and labels as an array; ``ValueError`` with the reason if they define no metric."""
    scores, labels = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    if scores.ndim != 1 or scores.shape != labels.shape:
        raise ValueError(
            f"scores and labels must be one-dimensional and of one length; got {scores.shape} and {labels.shape}"
        )
    if not np.isfinite(scores).all():
        raise ValueError(f"{int((~np.isfinite(scores)).sum())} of {len(scores)} scores are not finite")
    present = set(np.unique(labels).tolist())
    if not present <= {0, 1}:
        raise ValueError(f"labels must be 0 (real) or 1 (fake); got {sorted(present)}")
    if len(present) < (2 if both_classes else 1):
        only = "no samples" if not present else f"only {'fakes' if present == {1} else 'reals'}"
        needed = "both classes are" if both_classes else "at least one is"
        raise ValueError(f"{only} among {len(labels)} samples: {needed} needed")
    return scores, labels


def _probabilities(scores: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    scores, labels = checked(scores, labels, both_classes=False)
    outside = (scores < 0) | (scores > 1)
    if outside.any():
        raise ValueError(
            f"{int(outside.sum())} of {len(scores)} scores are outside [0, 1]: not probabilities"
        )
    return scores, labels


def _called_fake(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many reals and how many fakes score at least as high as each of the K different scores, the highest first."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)  # of those with one score
    fakes = np.cumsum(labels[order] == 1)[last]
    return last + 1 - fakes, fakes


ACCURACY = Metric("acc", accuracy, "accuracy", "acc")

for row in (
    ACCURACY,
    Metric("balanced_acc", balanced_accuracy, "balanced accuracy", "bal_acc"),
    Metric("auc", auc, "AUC", "auc"),
    Metric("ap", average_precision, "average precision", "ap"),
    Metric("eer", eer, "EER", "eer", lower_is_better=True),
    Metric("eer_nearest", eer_nearest, "EER (nearest point)", lower_is_better=True),
    Metric("tpr_at_fpr_1pct", partial(tpr_at_fpr, max_fpr=0.01), "TPR at 1 % FPR", "tpr@1%"),
    Metric("tpr_at_fpr_0_1pct", partial(tpr_at_fpr, max_fpr=0.001), "TPR at 0.1 % FPR", "tpr@0.1%"),
    Metric(
        "log_loss", log_loss, "log-loss", "log_loss", lower_is_better=True, unit="1/100 nat", most=math.inf
    ),
    Metric("ece", ece, "calibration error", "ece", lower_is_better=True),
):
    METRICS.add(row)
