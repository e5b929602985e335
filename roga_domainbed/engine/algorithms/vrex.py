"""Risk extrapolation by the variance of the environments' risks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from roga_domainbed.catalog.hparams import HParam, log_uniform, log_uniform_int
from roga_domainbed.engine.algorithms._annealed import AnnealedPenalty


class VREx(AnnealedPenalty):
    """Variance risk extrapolation, V-REx (Krueger et al., arXiv:2003.00688).

    The penalty is the population variance of the environments' cross-entropies. ``nll`` is their mean;
    DomainBed reports the last environment's there.
    """

    PREFIX = "vrex"
    HPARAMS = (
        HParam("vrex_lambda", 1e1, log_uniform(10, -1, 5), "weight of the variance of the risks", at_least=0),
        HParam(
            "vrex_penalty_anneal_iters",
            500,
            log_uniform_int(10, 0, 4),
            "steps before the penalty's full weight",
            at_least=0,
        ),
    )

    def risk_and_penalty(
        self, logits: Sequence[torch.Tensor], labels: Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and variance of the environments' cross-entropies."""
        risks = torch.stack([F.cross_entropy(z, y) for z, y in zip(logits, labels, strict=True)])
        return risks.mean(), risks.var(correction=0)
