"""FAD on the pooled minibatches; the rule is in ``roga_domainbed.optim.fad``."""

from __future__ import annotations

from typing import Any

import torch

from roga_domainbed import optim
from roga_domainbed.algorithms._sharpness import SHARED_HPARAMS, SharpnessAlgorithm
from roga_domainbed.catalog.hparams import HParam, log_uniform, uniform


class FAD(SharpnessAlgorithm):
    """Flatness-aware minimization (arXiv:2307.11108)."""

    HPARAMS = (
        HParam(
            "rho", 0.05, log_uniform(10, -2, -0.5), "radius of the perturbation", scratch=0.02, at_least=0
        ),
        HParam(
            "fad_alpha",
            0.5,
            uniform(0.0, 1.0),
            "part of the zeroth order in the flatness",
            at_least=0,
            at_most=1,
        ),
        HParam("fad_beta", 1.0, log_uniform(10, -1, 0.5), "weight of the flatness", at_least=0),
        *SHARED_HPARAMS,
    )

    def make_optimizer(
        self, params: Any, base_optimizer: type[torch.optim.Optimizer], **kwargs: Any
    ) -> optim.FAD:
        """FAD with ``rho``, ``fad_alpha`` and ``fad_beta``."""
        kwargs |= {name: self.hparams[f"fad_{name}"] for name in ("alpha", "beta")}
        return optim.FAD(params, base_optimizer, rho=self.hparams["rho"], **kwargs)
