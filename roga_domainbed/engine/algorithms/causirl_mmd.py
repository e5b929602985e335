"""Causality-based invariance by the maximum mean discrepancy."""

from __future__ import annotations

import torch

from roga_domainbed.engine.algorithms._causal import CausIRL
from roga_domainbed.engine.algorithms._distances import maximum_mean_discrepancy


class CausIRL_MMD(CausIRL):
    """CausIRL (arXiv:2206.11646) with the squared maximum mean discrepancy under Gaussian kernels."""

    def distance(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Squared maximum mean discrepancy."""
        return maximum_mean_discrepancy(x, y)
