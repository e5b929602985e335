"""Feature matching by mean and covariance."""

from __future__ import annotations

import torch

from roga_domainbed.engine.algorithms._distances import mean_and_covariance_distance
from roga_domainbed.engine.algorithms._matching import FeatureMatching
from roga_domainbed.engine.algorithms._minibatches import require_two_samples
from roga_domainbed.engine.lib.misc import Minibatch


class CORAL(FeatureMatching):
    """Features of equal mean and covariance: deep CORAL (Sun and Saenko, arXiv:1607.01719), between all environments.

    The difference of the means is DomainBed's addition.
    """

    def update(
        self, minibatches: list[Minibatch], unlabeled: list[torch.Tensor] | None = None
    ) -> dict[str, float]:
        """One step; minibatches of at least two samples. See ``FeatureMatching.update``."""
        require_two_samples(minibatches, "CORAL")
        return super().update(minibatches, unlabeled)

    def distance(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Mean squared differences of the means and of the covariances."""
        return mean_and_covariance_distance(x, y)
