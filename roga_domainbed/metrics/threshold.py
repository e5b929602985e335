"""Metrics of decisions and of probabilities: here the threshold, or the value of the score, makes a difference."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from roga_domainbed.metrics.binary import checked

ECE_BINS = 15


def accuracy(scores: ArrayLike, labels: ArrayLike, *, threshold: float = 0.5) -> float:
    """Share of samples on the right side of ``threshold``; a score equal to it counts as real.

    The strict comparison is DeepfakeBench's, and upstream's where the two logits tie.

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
    """Mean of the shares of reals and of fakes that are recognized: ½ at chance whatever the ratio of the classes.

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


def log_loss(scores: ArrayLike, labels: ArrayLike) -> float:
    """Mean negative log-likelihood in nats: −log p of a fake, −log(1 − p) of a real.

    As in scikit-learn, p is kept a double's machine epsilon away from 0 and 1, so one certain mistake costs 36
    nats, not infinitely many.

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

    Confidence is that of the predicted class, max(p, 1 − p), in ``bins`` equal bins ((b−1)/bins, b/bins] of
    (0, 1]: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, equation 3, with their 15 bins. In a
    binary task confidence starts at ½, so about half of the bins are empty.

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


def _probabilities(scores: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    scores, labels = checked(scores, labels, both_classes=False)
    outside = (scores < 0) | (scores > 1)
    if outside.any():
        raise ValueError(
            f"{int(outside.sum())} of {len(scores)} scores are outside [0, 1]: not probabilities"
        )
    return scores, labels
