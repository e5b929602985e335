"""ASAM on the pooled minibatches; the rule is in ``roga_domainbed.optim.asam``."""

from __future__ import annotations

from typing import Any

import torch

from roga_domainbed import optim
from roga_domainbed.algorithms._sharpness import SHARED_HPARAMS, SharpnessAlgorithm
from roga_domainbed.catalog.hparams import HParam, constant, log_uniform


class ASAM(SharpnessAlgorithm):
    """Adaptive sharpness-aware minimization (arXiv:2102.11600)."""

    HPARAMS = (
        HParam(
            "rho",
            0.5,
            log_uniform(10, -1, 0.5),
            "radius of the perturbation in the scaled norm",
            scratch=0.2,
            at_least=0,
        ),
        HParam("asam_eta", 0.01, constant(0.01), "added to the weights' magnitude", at_least=0),
        *SHARED_HPARAMS,
    )

    def make_optimizer(
        self, params: Any, base_optimizer: type[torch.optim.Optimizer], **kwargs: Any
    ) -> optim.ASAM:
        """ASAM with ``rho`` and ``asam_eta``."""
        rho, eta = self.hparams["rho"], self.hparams["asam_eta"]
        return optim.ASAM(params, base_optimizer, rho=rho, eta=eta, **kwargs)
