"""PCGrad with one domain a training environment; the rule is in ``roga_domainbed.optim.pcgrad``."""

from __future__ import annotations

from typing import Any

import torch

from roga_domainbed import optim
from roga_domainbed.algorithms._sharpness import PerDomainAlgorithm
from roga_domainbed.catalog import OPTIMIZER_HPARAMS


class PCGrad(PerDomainAlgorithm):
    """Gradient surgery by projecting conflicting gradients (arXiv:2001.06782)."""

    HPARAMS = OPTIMIZER_HPARAMS

    def make_optimizer(
        self, params: Any, base_optimizer: type[torch.optim.Optimizer], **kwargs: Any
    ) -> optim.PCGrad:
        """PCGrad, which has no hyper-parameters of its own."""
        return optim.PCGrad(params, base_optimizer, **kwargs)
