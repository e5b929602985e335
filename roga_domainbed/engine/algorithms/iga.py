"""Inter-environmental gradient alignment."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from roga_domainbed.catalog.hparams import HParam, log_uniform
from roga_domainbed.engine.algorithms._minibatches import number
from roga_domainbed.engine.algorithms.erm import ERM
from roga_domainbed.engine.lib.misc import Minibatch


class IGA(ERM):
    """Inter-environmental gradient alignment (Koyama and Yamaguchi, arXiv:2008.01883v2).

    The penalty is the trace of the variance of the environments' gradients: Σ_e |g_e − ḡ|². As in DomainBed it is this
    sum, where a variance has the mean over the environments. Its gradient needs second derivatives: a step costs
    more time and memory than ERM's, and a layer must have them.

    The rule is DomainBed's: of the paper's text only the abstract was at hand.
    """

    HPARAMS = (
        HParam(
            "penalty",
            1000,
            log_uniform(10, 1, 5),
            "weight of the variance of the gradients",
            kind=float,
            at_least=0,
        ),
    )

    def update(
        self, minibatches: list[Minibatch], unlabeled: list[torch.Tensor] | None = None
    ) -> dict[str, float]:
        """One step; ``loss`` is the mean risk without the penalty. See ``Algorithm.update``."""
        parameters = [p for p in self.network.parameters() if p.requires_grad]
        risks = [F.cross_entropy(self.network(x), y) for x, y in minibatches]
        gradients = [torch.autograd.grad(risk, parameters, create_graph=True) for risk in risks]
        penalty = sum(sum_of_squared_deviations(of_domains) for of_domains in zip(*gradients, strict=True))
        risk = torch.stack(risks).mean()
        self.descend(risk + self.hparams["penalty"] * penalty)
        return {"loss": number(risk), "penalty": number(penalty)}


def sum_of_squared_deviations(gradients: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Σ_e |g_e − ḡ|² of tensors of one shape; scalar."""
    stacked = torch.stack(gradients)
    # The mean is a constant to the gradient: the deviations, which sum to 0, make its part vanish.
    return (stacked - stacked.mean(0).detach()).pow(2).sum()
