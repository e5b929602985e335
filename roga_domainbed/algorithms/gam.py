"""GAM on the pooled minibatches; the rule is in ``roga_domainbed.optim.gam``."""

from __future__ import annotations

from typing import Any

import torch

from roga_domainbed import optim
from roga_domainbed.algorithms._sharpness import SHARED_HPARAMS, SharpnessAlgorithm
from roga_domainbed.catalog.hparams import HParam, log_uniform, uniform


class GAM(SharpnessAlgorithm):
    """Gradient-norm aware minimization, the accelerated form (arXiv:2303.03108)."""

    HPARAMS = (
        HParam(
            "rho",
            0.2,
            log_uniform(10, -2, -0.5),
            "radius of the ascent of the gradient's norm",
            scratch=0.02,
            at_least=0,
        ),
        HParam(
            "gam_rho_inner",
            0.02,
            log_uniform(10, -2.5, -1),
            "length of the steps that measure that norm's gradient",
            at_least=0,
        ),
        HParam("gam_alpha", 0.5, uniform(0.0, 1.0), "part of g_1 in h_+", at_least=0, at_most=1),
        HParam("gam_beta", 0.5, uniform(0.0, 1.0), "part of g_0 in h_-", at_least=0, at_most=1),
        HParam("gam_gamma", 0.03, log_uniform(10, -2, 0), "weight of what is taken off the step", at_least=0),
        *SHARED_HPARAMS,
    )

    def make_optimizer(
        self, params: Any, base_optimizer: type[torch.optim.Optimizer], **kwargs: Any
    ) -> optim.GAM:
        """GAM with ``rho`` and the ``gam_…`` hyper-parameters."""
        kwargs |= {name: self.hparams[f"gam_{name}"] for name in ("rho_inner", "alpha", "beta", "gamma")}
        return optim.GAM(params, base_optimizer, rho=self.hparams["rho"], **kwargs)
