"""AND-mask: use only the directions in which the gradients of the environments agree."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from roga_domainbed.catalog.hparams import HParam, uniform
from roga_domainbed.engine.algorithms._masking import MaskedGradients, normalized_product


class ANDMask(MaskedGradients):
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

    def masked(self, gradients: Sequence[torch.Tensor]) -> torch.Tensor:
        """The mean of what the signs agree on."""
        return masked_mean(gradients, self.hparams["tau"])


def masked_mean(gradients: Sequence[torch.Tensor], tau: float) -> torch.Tensor:
    """The mean gradient where the signs agree, divided by the fraction of such entries; 0 elsewhere.

    Args:
        gradients: one for each environment, of one shape.
        tau: an entry is kept where |mean of the signs| ≥ tau.
    """
    stacked = torch.stack(tuple(gradients))
    mask = (stacked.sign().mean(0).abs() >= tau).to(stacked.dtype)
    return normalized_product(mask, stacked.mean(0))
