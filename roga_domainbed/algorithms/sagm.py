"""SAGM on the pooled minibatches; the rule is in ``roga_domainbed.optim.sagm``."""

from __future__ import annotations

from typing import Any

import torch

from roga_domainbed import optim
from roga_domainbed.algorithms._sharpness import SHARED_HPARAMS, SharpnessAlgorithm
from roga_domainbed.catalog.hparams import HParam, log_uniform


class SAGM(SharpnessAlgorithm):
    """Sharpness-aware gradient matching (arXiv:2303.10353)."""

    HPARAMS = (
        HParam(
            "rho", 0.05, log_uniform(10, -2, -0.5), "radius of the perturbation", scratch=0.02, at_least=0
        ),
        # The published α (0.001 and 0.0005) lie outside the authors' search grid; the range covers both.
        HParam(
            "alpha", 1e-3, log_uniform(10, -4, -1), "how far the ascent point moves back along g", at_least=0
        ),
        *SHARED_HPARAMS,
    )

    def make_optimizer(
        self, params: Any, base_optimizer: type[torch.optim.Optimizer], **kwargs: Any
    ) -> optim.SAGM:
        """SAGM with ``rho`` and ``alpha``."""
        rho, alpha = self.hparams["rho"], self.hparams["alpha"]
        return optim.SAGM(params, base_optimizer, rho=rho, alpha=alpha, **kwargs)
