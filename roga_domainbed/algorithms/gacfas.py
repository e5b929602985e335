"""GAC-FAS with one domain a training environment; the rule is in ``roga_domainbed.optim.gacfas``."""

from __future__ import annotations

from typing import Any

import torch

from roga_domainbed import optim
from roga_domainbed.algorithms._sharpness import SHARED_HPARAMS, PerDomainAlgorithm
from roga_domainbed.catalog.hparams import HParam, constant, log_uniform


class GACFAS(PerDomainAlgorithm):
    """Gradient alignment for cross-domain face anti-spoofing (arXiv:2402.18817), without its feature loss."""

    HPARAMS = (
        HParam(
            "rho",
            0.1,
            log_uniform(10, -2, -0.5),
            "radius of the perturbation in the scaled norm",
            scratch=0.05,
            at_least=0,
        ),
        HParam(
            "alpha", 2e-4, log_uniform(10, -5, -2), "how far the ascent points move back along g", at_least=0
        ),
        HParam("asam_eta", 0.01, constant(0.01), "added to the weights' magnitude", at_least=0),
        *SHARED_HPARAMS,
    )

    def make_optimizer(
        self, params: Any, base_optimizer: type[torch.optim.Optimizer], **kwargs: Any
    ) -> optim.GACFAS:
        """GACFAS with ``rho``, ``alpha`` and ``asam_eta``."""
        kwargs |= {
            "rho": self.hparams["rho"],
            "alpha": self.hparams["alpha"],
            "eta": self.hparams["asam_eta"],
        }
        return optim.GACFAS(params, base_optimizer, **kwargs)
