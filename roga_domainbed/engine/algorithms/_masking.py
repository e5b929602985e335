"""A step along the environments' mean gradient, of which a mask keeps what they agree on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from roga_domainbed.engine.algorithms.erm import ERM
from roga_domainbed.engine.lib.misc import Minibatch


class MaskedGradients(ERM):
    """ERM along masked gradients; subclasses define the mask."""

    def masked(self, gradients: Sequence[torch.Tensor]) -> torch.Tensor:
        """What a parameter descends along, given its gradient in each environment."""
        raise NotImplementedError

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
            parameter.grad = self.masked(of_domains)
        self.optimizer.step()
        return {"loss": sum(losses) / len(losses)}


def normalized_product(mask: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """``mask`` times ``gradient``, divided by the mask's mean: what it removes the rest makes up for.

    Args:
        mask: in [0, 1].
        gradient: of the shape of ``mask``.
    """
    return mask * gradient / (1e-10 + mask.mean())
