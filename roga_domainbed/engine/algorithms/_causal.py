"""Causality-based invariance: two random mixtures of the environments should have features of equal distribution."""

from __future__ import annotations

import numpy as np
import torch

from roga_domainbed.engine.algorithms._matching import FeatureMatching


class CausIRL(FeatureMatching):
    """Causal invariant representation learning (Chevalley, Bunne, Krause and Bauer, arXiv:2206.11646).

    Each environment's minibatch is cut in two at a random place. The first parts of all environments are one sample,
    the second parts another, and the distance of the two samples' features is the penalty: it is small where the
    features do not depend on the share of each environment in a mixture. The rule rests on what DomainBed's do, not on
    the paper's text. Subclasses define the distance.
    """

    def penalty(self, features: list[torch.Tensor]) -> torch.Tensor:
        """The distance of the two mixtures; 0 where one of them has fewer than two samples, as in DomainBed."""
        cuts = [int(np.random.randint(0, len(z))) for z in features]  # noqa: NPY002 - DomainBed's generator
        first = torch.cat([z[:cut] for z, cut in zip(features, cuts, strict=True)])
        second = torch.cat([z[cut:] for z, cut in zip(features, cuts, strict=True)])
        if min(len(first), len(second)) < 2:
            return features[0].new_zeros(())
        return self.distance(first, second)
