"""Causality-based invariance by mean and covariance."""

from __future__ import annotations

import torch

from roga_domainbed.engine.algorithms._causal import CausIRL
from roga_domainbed.engine.algorithms._distances import mean_and_covariance_distance


class CausIRL_CORAL(CausIRL):
    """CausIRL (arXiv:2206.11646) with the distance of CORAL (arXiv:1607.01719)."""

    def distance(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Mean squared differences of the means and of the covariances."""
        return mean_and_covariance_distance(x, y)
