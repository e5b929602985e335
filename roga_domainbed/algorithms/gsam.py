"""GSAM on the pooled minibatches; the rule is in ``roga_domainbed.optim.gsam``."""

from __future__ import annotations

from typing import Any

import torch

from roga_domainbed import optim
from roga_domainbed.algorithms._sharpness import SHARED_HPARAMS, SharpnessAlgorithm
from roga_domainbed.catalog.hparams import HParam, log_uniform, uniform


class GSAM(SharpnessAlgorithm):
    """Surrogate-gap guided sharpness-aware minimization (arXiv:2203.08065)."""

    HPARAMS = (
        HParam(
            "rho", 0.05, log_uniform(10, -2, -0.5), "radius of the perturbation", scratch=0.02, at_least=0
        ),
        HParam(
            "alpha",
            0.4,
            uniform(0.0, 0.8),
            "weight of the component that closes the surrogate gap",
            at_least=0,
        ),
        *SHARED_HPARAMS,
    )

    def make_optimizer(
        self, params: Any, base_optimizer: type[torch.optim.Optimizer], **kwargs: Any
    ) -> optim.GSAM:
        """GSAM with ``rho`` and ``alpha``."""
        rho, alpha = self.hparams["rho"], self.hparams["alpha"]
        return optim.GSAM(params, base_optimizer, rho=rho, alpha=alpha, **kwargs)
