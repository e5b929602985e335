"""The metric of tasks with more than two classes, and its row."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from roga_domainbed.metrics.metric import METRICS, Metric


def macro_auc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Unweighted mean over the classes of the AUC of one class against the rest.

    Args:
        scores: (N, C) float; column c ranks how much a sample looks like class c.
        labels: (N,) int in 0 … C−1; each class must occur, and none may be alone.

    Returns:
        A fraction in [0, 1].

    Raises:
        ValueError: if a class does not occur, a label is no class or a score is not finite.
    """
    scores, labels = np.asarray(scores), np.asarray(labels)
    if scores.ndim != 2 or labels.shape != scores.shape[:1]:
        raise ValueError(f"scores must be (N, C) and labels (N,); got {scores.shape} and {labels.shape}")
    classes = range(scores.shape[1])
    present = set(np.unique(labels).tolist())
    if not present <= set(classes):
        raise ValueError(f"labels must be classes 0 to {scores.shape[1] - 1}; got {sorted(present)}")
    missing = [label for label in classes if label not in present]
    if missing or len(classes) < 2:
        lacking = f"classes {missing} do not occur" if missing else f"{len(classes)} class"
        raise ValueError(f"{lacking} among {len(labels)} samples: every class is needed")
    if not np.isfinite(scores).all():
        raise ValueError(f"{int((~np.isfinite(scores)).sum())} of {scores.size} scores are not finite")
    return float(np.mean([_one_against_the_rest(scores[:, label], labels == label) for label in classes]))


def _one_against_the_rest(scores: np.ndarray, positive: np.ndarray) -> float:
    # Counts the pairs in the right order, ties half, after one sort: ROC curves of hundreds of classes are slow.
    others, own = np.sort(scores[~positive]), scores[positive]
    below, up_to = (np.searchsorted(others, own, side).sum() for side in ("left", "right"))
    return float((below + up_to) / 2 / (len(own) * len(others)))


METRICS.add(Metric("macro_auc", macro_auc, "macro AUC", "macro_auc", many_classes=True))
