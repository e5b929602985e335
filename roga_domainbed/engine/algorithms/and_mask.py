"""AND-mask: use only the directions in which the gradients of the environments agree."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from roga_domainbed.catalog.hparams import HParam, uniform
from roga_domainbed.engine.algorithms.erm import ERM
from roga_domainbed.engine.lib.misc import Minibatch


class ANDMask(ERM):
    """Learning explanations that are hard to vary (Parascandolo et al., arXiv:2009.00329)."""

    HPARAMS = (
        HParam(
            "tau",
            1,
            uniform(0.5, 1.0),
            "agreement of signs, from 0 to 1, that a weight needs to move",
            kind=float,
            at_least=0,
            at_most=1,
        ),
    )

    def update(
        self, minibatches: list[Minibatch], unlabeled: list[torch.Tensor] | None = None
    ) -> dict[str, float]:
        """One step along the masked mean gradient; ``loss`` is the mean over the environments."""
        parameters = [p for p in self.network.parameters() if p.requires_grad]
        losses, gradients = [], []
        for x, y in minibatches:
            loss = F.cross_entropy(self.network(x), y)
            losses.append(loss.item())
            gradients.append(torch.autograd.grad(loss, parameters))
        self.optimizer.zero_grad()
        for parameter, of_domains in zip(parameters, zip(*gradients, strict=True), strict=True):
            parameter.grad = masked_mean(of_domains, self.hparams["tau"])
        self.optimizer.step()
        return {"loss": sum(losses) / len(losses)}


def masked_mean(gradients: Sequence[torch.Tensor], tau: float) -> torch.Tensor:
    """The mean gradient where the signs agree, divided by the fraction of such entries; 0 elsewhere.

    Args:
        gradients: one for each environment, of one shape.
        tau: an entry is kept where |mean of the signs| ≥ tau.
    """
    stacked = torch.stack(tuple(gradients))
    mask = (stacked.sign().mean(0).abs() >= tau).to(stacked.dtype)
    return mask * stacked.mean(0) / (1e-10 + mask.mean())
