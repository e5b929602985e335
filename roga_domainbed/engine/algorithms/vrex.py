"""Risk extrapolation by the variance of the environments' risks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from roga_domainbed.engine.algorithms._annealed import AnnealedPenalty, penalty_hparams


class VREx(AnnealedPenalty):
    """Variance risk extrapolation, V-REx (Krueger et al., arXiv:2003.00688).

    The penalty is the population variance of the environments' cross-entropies. ``nll`` is their mean;
    DomainBed reports the last environment's there.
    """

    PREFIX = "vrex"
    HPARAMS = penalty_hparams("vrex", 1e1, "weight of the variance of the risks")

    def risk_and_penalty(
        self, logits: Sequence[torch.Tensor], labels: Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and variance of the environments' cross-entropies."""
        risks = torch.stack([F.cross_entropy(z, y) for z, y in zip(logits, labels, strict=True)])
        return risks.mean(), risks.var(correction=0)
