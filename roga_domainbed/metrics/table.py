"""The metrics of a binary task by the names they have in records, with the direction in which each is better."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from numpy.typing import ArrayLike

from roga_domainbed.metrics.binary import auc, average_precision, eer, eer_nearest, tpr_at_fpr
from roga_domainbed.metrics.threshold import accuracy, balanced_accuracy, ece, log_loss

#: Record name → function of (N,) probabilities of fake and (N,) labels. Each raises ValueError with a reason.
BINARY: dict[str, Callable[[ArrayLike, ArrayLike], float]] = {
    "acc": accuracy,
    "balanced_acc": balanced_accuracy,
    "auc": auc,
    "ap": average_precision,
    "eer": eer,
    "eer_nearest": eer_nearest,
    "tpr_at_fpr_1pct": partial(tpr_at_fpr, max_fpr=0.01),
    "tpr_at_fpr_0_1pct": partial(tpr_at_fpr, max_fpr=0.001),
    "log_loss": log_loss,
    "ece": ece,
}
