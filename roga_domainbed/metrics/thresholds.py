"""Thresholds on the probability of fake, and the errors that are made at one. What is above a threshold is called fake.

A threshold lies midway between two neighbouring scores of the data that it is made on. Every number between the two
makes the same errors there, and the middle is as far as can be from both.
"""

from __future__ import annotations

import contextlib

import numpy as np
from numpy.typing import ArrayLike

from roga_domainbed.metrics.binary import checked

EER, FPR_1, FPR_5 = "eer", "fpr=0.01", "fpr=0.05"
#: Name of a threshold that a model keeps → what it stands for.
THRESHOLDS = {EER: "equal error", FPR_1: "1 % false alarms", FPR_5: "5 % false alarms"}


def parsed_threshold(text: str) -> str | float:
    """A name in ``THRESHOLDS``, or a probability.

    Raises:
        ValueError: it is neither; the message says what there is.
    """
    name, _, share = text.partition("=")
    with contextlib.suppress(ValueError):
        if name == "fpr":
            text = f"fpr={float(share):g}"  # 0.010 is 0.01
        elif 0.0 <= float(text) <= 1.0:
            return float(text)
    if text not in THRESHOLDS:
        raise ValueError(
            f"must be one of {', '.join(THRESHOLDS)}, or a probability from 0 to 1; got {text!r}"
        )
    return text


def equal_error_threshold(scores: ArrayLike, labels: ArrayLike) -> float:
    """The threshold at which the shares of false alarms and of misses differ least; of several, the highest.

    Args:
        scores: (N,) float, probability of fake.
        labels: (N,) int, 0 real and 1 fake; both must occur.

    Returns:
        In the unit of ``scores``.

    Raises:
        ValueError: if only one class is present or a score is not finite.
    """
    thresholds, false_alarms, misses = _every(scores, labels)
    n_fake = misses[-1]
    n_real = len(np.asarray(labels)) - n_fake
    # whole numbers: shares that are equal must not differ in their last digit
    gaps = np.abs(false_alarms * n_fake - misses * n_real)
    return float(thresholds[np.flatnonzero(gaps == gaps.min())[-1]])


def false_alarm_threshold(scores: ArrayLike, labels: ArrayLike, percent: int) -> float:
    """The lowest threshold at which at most ``percent`` of 100 reals are called fake.

    With fewer than 100 / ``percent`` reals, none may be called fake.

    Args:
        scores: (N,) float, probability of fake.
        labels: (N,) int, 0 real and 1 fake; both must occur.
        percent: a whole number, so that the number of reals that may be called fake is exact.

    Returns:
        In the unit of ``scores``.

    Raises:
        ValueError: if only one class is present or a score is not finite.
    """
    thresholds, false_alarms, misses = _every(scores, labels)
    n_real = len(np.asarray(labels)) - misses[-1]
    return float(thresholds[np.argmax(100 * false_alarms <= percent * n_real)])


def error_shares(scores: ArrayLike, labels: ArrayLike, threshold: float) -> tuple[float | None, float | None]:
    """False alarms, the share of reals that are called fake, and misses, the share of fakes that are not.

    Args:
        scores: (N,) float, probability of fake.
        labels: (N,) int, 0 real and 1 fake; a class that does not occur has no share, which is None.
        threshold: in the unit of ``scores``.

    Raises:
        ValueError: if there are no samples, a score is not finite or a label is neither 0 nor 1.
    """
    scores, labels = checked(scores, labels, both_classes=False)
    called = scores > threshold
    of_reals, of_fakes = called[labels == 0], called[labels == 1]
    return (
        float(of_reals.mean()) if len(of_reals) else None,
        float(1.0 - of_fakes.mean()) if len(of_fakes) else None,
    )


def _every(scores: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All thresholds that make different errors, rising, and the numbers of false alarms and of misses at each.

    Left out is the one below all scores, which is never better than all others.
    """
    scores, labels = checked(scores, labels)
    below = np.unique(scores)
    above = np.append(below[1:], below[-1])
    middle = below + (above - below) / 2
    thresholds = np.where(middle < above, middle, below)  # two neighbouring floats have none between them
    reals, fakes = (np.sort(scores[labels == label]) for label in (0, 1))
    misses = np.searchsorted(fakes, below, "right")
    return thresholds, len(reals) - np.searchsorted(reals, below, "right"), misses
