"""DGSAM with one domain a training environment; the rule is in ``roga_domainbed.optim.dgsam``."""

from __future__ import annotations

from typing import Any

import torch

from roga_domainbed import optim
from roga_domainbed.algorithms._sharpness import SHARED_HPARAMS, PerDomainAlgorithm
from roga_domainbed.catalog.hparams import HParam, log_uniform


class DGSAM(PerDomainAlgorithm):
    """Decreased-overhead gradual sharpness-aware minimization (arXiv:2503.23430)."""

    HPARAMS = (
        HParam(
            "rho",
            0.05,
            log_uniform(10, -2, -0.5),
            "length of each domain's step of the ascent",
            scratch=0.02,
            at_least=0,
        ),
        *SHARED_HPARAMS,
    )

    def make_optimizer(
        self, params: Any, base_optimizer: type[torch.optim.Optimizer], **kwargs: Any
    ) -> optim.DGSAM:
        """DGSAM with ``rho``."""
        return optim.DGSAM(params, base_optimizer, rho=self.hparams["rho"], **kwargs)
