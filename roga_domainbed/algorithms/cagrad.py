"""CAGrad with one domain a training environment; the rule is in ``roga_domainbed.optim.cagrad``."""

from __future__ import annotations

from typing import Any

import torch

from roga_domainbed import optim
from roga_domainbed.algorithms._sharpness import PerDomainAlgorithm
from roga_domainbed.catalog import OPTIMIZER_HPARAMS
from roga_domainbed.catalog.hparams import HParam, uniform


class CAGrad(PerDomainAlgorithm):
    """Conflict-averse gradient descent (arXiv:2110.14048)."""

    HPARAMS = (
        HParam(
            "cagrad_c",
            0.5,
            uniform(0.0, 0.9),
            "how far the direction may be from the mean gradient, in norms of it",
            at_least=0,
            below=1,
        ),
        *OPTIMIZER_HPARAMS,
    )

    def make_optimizer(
        self, params: Any, base_optimizer: type[torch.optim.Optimizer], **kwargs: Any
    ) -> optim.CAGrad:
        """CAGrad with ``cagrad_c``."""
        return optim.CAGrad(params, base_optimizer, c=self.hparams["cagrad_c"], **kwargs)
