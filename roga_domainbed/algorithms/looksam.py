"""LookSAM on the pooled minibatches; the rule is in ``roga_domainbed.optim.looksam``."""

from __future__ import annotations

from typing import Any

import torch

from roga_domainbed import optim
from roga_domainbed.algorithms._sharpness import SHARED_HPARAMS, SharpnessAlgorithm
from roga_domainbed.catalog.hparams import HParam, choice, log_uniform, uniform


class LookSAM(SharpnessAlgorithm):
    """SAM with a second pass in one of k steps (arXiv:2203.02714). The others' records have no ``perturbed_loss``."""

    HPARAMS = (
        HParam(
            "rho", 0.05, log_uniform(10, -2, -0.5), "radius of the perturbation", scratch=0.02, at_least=0
        ),
        HParam(
            "looksam_alpha",
            0.7,
            uniform(0.1, 1.0),
            "length of what is reused, in norms of the gradient",
            at_least=0,
        ),
        HParam(
            "looksam_every",
            5,
            choice([2, 5, 10]),
            "take the second pass in one of so many steps",
            at_least=1,
        ),
        *SHARED_HPARAMS,
    )

    def make_optimizer(
        self, params: Any, base_optimizer: type[torch.optim.Optimizer], **kwargs: Any
    ) -> optim.LookSAM:
        """LookSAM with ``rho``, ``looksam_alpha`` and ``looksam_every``."""
        kwargs |= {"alpha": self.hparams["looksam_alpha"], "every": self.hparams["looksam_every"]}
        return optim.LookSAM(params, base_optimizer, rho=self.hparams["rho"], **kwargs)
