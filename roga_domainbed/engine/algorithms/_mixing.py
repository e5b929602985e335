"""The weight with which mixup-like methods mix two samples."""

from __future__ import annotations

import numpy as np


def mixing_weight(alpha: float) -> float:
    """λ ~ Beta(α, α) in [0, 1] from numpy's global generator, as in DomainBed."""
    return float(np.random.beta(alpha, alpha))  # noqa: NPY002
