"""Threshold-free metrics of a binary task. Scores are any monotone scale, higher means *fake* (label 1)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import auc as area_under
from sklearn.metrics import average_precision_score, roc_curve


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
    fpr, tpr, _ = roc_curve(labels, scores)
    # roc_auc_score's number, without its checks, which take longer than the curve
    return float(area_under(fpr, tpr))


def average_precision(scores: ArrayLike, labels: ArrayLike) -> float:
    """Average precision with fake as the positive class: Σ (R_n − R_{n−1}) P_n, as in scikit-learn.

    It depends on the share of fakes: do not compare it across sets with different real:fake ratios.

    Args:
        scores: (N,) float; higher means fake.
        labels: (N,) int, 0 real and 1 fake; both must occur.

    Returns:
        A fraction in (0, 1].

    Raises:
        ValueError: if only one class is present or a score is not finite.
    """
    scores, labels = checked(scores, labels)
    return float(average_precision_score(labels, scores))


def eer(scores: ArrayLike, labels: ArrayLike) -> float:
    """Equal error rate: where the false-positive and the false-negative rate cross.

    Linear interpolation between the two ROC points around the crossing, not the nearest point (the convention
    of DeepfakeBench): on small sets the two differ visibly.

    Args:
        scores: (N,) float; higher means fake.
        labels: (N,) int, 0 real and 1 fake; both must occur.

    Returns:
        A fraction in [0, 1], lower is better.

    Raises:
        ValueError: if only one class is present or a score is not finite.
    """
    scores, labels = checked(scores, labels)
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    gap = (1.0 - tpr) - fpr  # falls from 1 to −1 along the curve
    after = int(np.argmax(gap <= 0))
    before = after - 1
    weight = gap[before] / (gap[before] - gap[after])
    return float(fpr[before] + weight * (fpr[after] - fpr[before]))


def eer_nearest(scores: ArrayLike, labels: ArrayLike) -> float:
    """Equal error rate in the convention of DeepfakeBench: for comparison with its tables.

    The false-positive rate of the ROC point where |FNR − FPR| is smallest, the first of equals, without
    interpolation; points on a straight piece of the curve are dropped before, as scikit-learn's ``roc_curve``
    does by default.

    Args:
        scores: (N,) float; higher means fake.
        labels: (N,) int, 0 real and 1 fake; both must occur.

    Returns:
        A fraction in [0, 1], lower is better.

    Raises:
        ValueError: if only one class is present or a score is not finite.
    """
    scores, labels = checked(scores, labels)
    fpr, tpr, _ = roc_curve(labels, scores)
    return float(fpr[np.argmin(np.abs((1.0 - tpr) - fpr))])


def tpr_at_fpr(scores: ArrayLike, labels: ArrayLike, max_fpr: float) -> float:
    """The largest share of fakes found by a threshold that accuses at most ``max_fpr`` of the reals.

    A point of the ROC curve, not an interpolation: a rate that no threshold reaches is not reported. With fewer
    than 1 / ``max_fpr`` reals no real at all may be accused.

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
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    return float(tpr[fpr <= max_fpr].max())


def checked(
    scores: ArrayLike, labels: ArrayLike, *, both_classes: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Scores as float64 and labels as an array, or ``ValueError`` with the reason why no metric can be given."""
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
