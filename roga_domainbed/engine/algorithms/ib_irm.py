"""Invariant risk minimization with an information bottleneck."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from roga_domainbed.engine.algorithms._variance_bottleneck import InformationBottleneck
from roga_domainbed.engine.algorithms.ib_erm import IB_ERM
from roga_domainbed.engine.algorithms.irm import IRM, invariance_penalty


class IB_IRM(InformationBottleneck):
    """Information bottleneck on IRMv1 (Ahuja et al., arXiv:2106.06607): invariant, and features of small variance.

    In its first steps the invariance penalty has weight 1, as in IRM, and the variance counts nothing, as in IB_ERM.
    """

    EARLY_WEIGHTS = {"IRM": 1.0, "IB": 0.0}
    HPARAMS = (*IRM.HPARAMS, *IB_ERM.HPARAMS)

    def penalties(
        self,
        features: Sequence[torch.Tensor],
        logits: Sequence[torch.Tensor],
        labels: Sequence[torch.Tensor],
    ) -> dict[str, torch.Tensor]:
        """Also the mean over the environments of the invariance penalty."""
        domains = zip(logits, labels, strict=True)
        invariance = torch.stack([invariance_penalty(z, y) for z, y in domains]).mean()
        return {"IRM": invariance, **super().penalties(features, logits, labels)}
