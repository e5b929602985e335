"""SAM on the pooled minibatches; the rule is in ``roga_domainbed.optim.sam``."""

from __future__ import annotations

from typing import Any

import torch

from roga_domainbed import optim
from roga_domainbed.algorithms._sharpness import SHARED_HPARAMS, SharpnessAlgorithm
from roga_domainbed.catalog.hparams import HParam, log_uniform


class SAM(SharpnessAlgorithm):
    """Sharpness-aware minimization (arXiv:2010.01412)."""

    HPARAMS = (
        HParam(
            "rho", 0.05, log_uniform(10, -2, -0.5), "radius of the perturbation", scratch=0.02, at_least=0
        ),
        *SHARED_HPARAMS,
    )

    def make_optimizer(
        self, params: Any, base_optimizer: type[torch.optim.Optimizer], **kwargs: Any
    ) -> optim.SAM:
        """SAM with ``rho``."""
        return optim.SAM(params, base_optimizer, rho=self.hparams["rho"], **kwargs)
