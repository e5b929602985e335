"""RoGA with one domain a training environment; the rule is in ``roga_domainbed.optim.roga``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from roga_domainbed import optim
from roga_domainbed.algorithms._sharpness import SHARED_HPARAMS, Minibatches, SharpnessAlgorithm
from roga_domainbed.hparams import HParam, constant, log_uniform
from roga_domainbed.optim.roga import ANCHORS, GRADIENTS, TERMS


class RoGA(SharpnessAlgorithm):
    """Robust gradient alignment (arXiv:2505.20653, Eq. 6)."""

    HPARAMS = (
        HParam("rho", 0.1, log_uniform(10, -2, -0.5), "radius of the perturbation"),
        # V.A of the paper says 2e-4, its Table VI finds 1e-3 best: the range covers both.
        HParam("alpha", 2e-4, log_uniform(10, -5, -2), "weight of the alignment term"),
        HParam("roga_terms", "both", constant("both"), "which terms of Eq. 6", choices=TERMS),
        HParam("roga_anchor", "domain", constant("domain"), "what h_i is aligned with", choices=ANCHORS),
        HParam("roga_gradient", "first_order", constant("first_order"), "estimator", choices=GRADIENTS),
        *SHARED_HPARAMS,
    )

    def make_optimizer(
        self, params: Any, base_optimizer: type[torch.optim.Optimizer], **kwargs: Any
    ) -> optim.RoGA:
        """RoGA with ``rho``, ``alpha`` and the three ``roga_…`` choices."""
        return optim.RoGA(
            params,
            base_optimizer,
            rho=self.hparams["rho"],
            alpha=self.hparams["alpha"],
            terms=self.hparams["roga_terms"],
            anchor=self.hparams["roga_anchor"],
            gradient=self.hparams["roga_gradient"],
            **kwargs,
        )

    def update(self, minibatches: Minibatches, unlabeled: list[Tensor] | None = None) -> dict[str, float]:
        """One step with a closure for each environment's minibatch.

        Args:
            minibatches: one (x, y) a training environment, on the device of the network.
            unlabeled: ignored, as by DomainBed's ERM.

        Returns:
            Means over the domains of ``loss``, ``perturbed_loss`` and ``grad_norm``; ``alpha_ratio_<i>`` = α‖a_i‖/ρ,
            how far the alignment moves domain i's ascent point compared with the perturbation; every tenth step
            ``cosine``, the mean over pairs of domains of the cosine between their gradients.
        """
        self.optimizer.step([lambda x=x, y=y: F.cross_entropy(self.predict(x), y) for x, y in minibatches])
        return dict(self.optimizer.report)
