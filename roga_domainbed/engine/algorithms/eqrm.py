"""Empirical quantile risk minimization."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F

from roga_domainbed.catalog.hparams import HParam, log_uniform, uniform
from roga_domainbed.engine.algorithms._minibatches import number
from roga_domainbed.engine.algorithms._steps import restart
from roga_domainbed.engine.algorithms.erm import ERM
from roga_domainbed.engine.lib.misc import Minibatch

_BISECTIONS = 32


class EQRM(ERM):
    """Empirical quantile risk minimization (Eastwood et al., arXiv:2207.09944, algorithm 1).

    The loss is the α-quantile of the environments' risks, of which a kernel density estimate makes a distribution. The
    first ``eqrm_burnin_iters`` steps minimize the mean risk; then the optimizer restarts with the learning rate
    ``eqrm_lr``. The rule rests on what DomainBed's does, not on the paper's text.

    A burn-in that is no whole number, as random search draws it, ends at the next whole step; DomainBed's goes on with
    ``lr`` then. One environment's quantile is its risk.

    Attributes:
        update_count: steps taken, int64 of shape (1,); saved with the weights.
        alpha: the hparam ``eqrm_quantile``, float64; saved with the weights, as in DomainBed.
    """

    HPARAMS = (
        HParam(
            "eqrm_quantile",
            0.75,
            uniform(0.5, 0.99),
            "the quantile of the environments' risks that is minimized",
            above=0,
            below=1,
        ),
        HParam(
            "eqrm_burnin_iters",
            2500,
            log_uniform(10, 2.5, 3.5),
            "steps on the mean risk before the quantile",
            kind=float,
            at_least=0,
        ),
        HParam("eqrm_lr", 1e-6, log_uniform(10, -7, -5), "learning rate after the burn-in", above=0),
    )

    def __init__(
        self, input_shape: tuple[int, ...], num_classes: int, num_domains: int, hparams: dict[str, Any]
    ):
        super().__init__(input_shape, num_classes, num_domains, hparams)
        self.register_buffer("update_count", torch.tensor([0]))
        self.register_buffer("alpha", torch.tensor(hparams["eqrm_quantile"], dtype=torch.float64))

    def update(
        self, minibatches: list[Minibatch], unlabeled: list[torch.Tensor] | None = None
    ) -> dict[str, float]:
        """One step on the mean of the risks or on their quantile; see ``Algorithm.update``."""
        risks = torch.stack([F.cross_entropy(self.network(x), y) for x, y in minibatches])
        step, burn_in = self.update_count.item(), math.ceil(self.hparams["eqrm_burnin_iters"])
        if step == burn_in:
            restart(self.optimizer, self.hparams["eqrm_lr"])
        loss = risks.mean() if step < burn_in else risk_quantile(risks, self.alpha)
        self.descend(loss)
        self.update_count += 1
        return {"loss": number(loss)}


def risk_quantile(risks: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """The ``alpha``-quantile of a Gaussian kernel density estimate of ``risks``; scalar, float64.

    The width of the kernels is 1.06 s n^(−1/5), s being the standard deviation of the n risks. The quantile lies
    between the ``alpha``-quantiles of the lowest and of the highest risk's kernel, and is found by bisection.

    Its gradient is DomainBed's: that of the place between these two ends, so that risks in the middle act through the
    width alone. The derivative of the quantile itself would be another.

    Args:
        risks: (E,).
        alpha: in (0, 1); scalar, float64.
    """
    if len(risks) == 1:
        return risks[0]
    risks = risks.double()
    # The small number keeps the gradient finite where all risks are the same.
    width = 1.06 * (risks.var() + 1e-24).sqrt() * len(risks) ** -0.2
    offset = torch.special.ndtri(alpha) * width
    low, high = risks.min() + offset, risks.max() + offset
    with torch.no_grad():
        below, above = torch.zeros_like(low), torch.ones_like(low)
        for _ in range(_BISECTIONS):
            middle = (below + above) / 2
            value = low + middle * (high - low)
            too_high = torch.special.ndtr((value - risks) / width).mean() > alpha
            below, above = torch.where(too_high, below, middle), torch.where(too_high, middle, above)
    return low + (below + above) / 2 * (high - low)
