"""Feature matching by the maximum mean discrepancy."""

from __future__ import annotations

import torch

from roga_domainbed.engine.algorithms._distances import maximum_mean_discrepancy
from roga_domainbed.engine.algorithms._matching import FeatureMatching


class MMD(FeatureMatching):
    """Features of equal distribution under Gaussian kernels (MMD-AAE; Li, Pan, Wang and Kot, CVPR 2018).

    As in DomainBed, without the autoencoder and the adversary of the paper.
    """

    def distance(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Squared maximum mean discrepancy."""
        return maximum_mean_discrepancy(x, y)
