"""SAND-mask: AND-mask with a smooth mask, which also wants the gradients' sizes to agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from roga_domainbed.catalog.hparams import HParam, log_uniform, uniform
from roga_domainbed.engine.algorithms._masking import MaskedGradients, normalized_product
from roga_domainbed.engine.lib.misc import Minibatch


class SANDMask(MaskedGradients):
    """Smoothed AND-mask (Shahtalebi et al., arXiv:2106.02266).

    The mask of a weight is max(0, tanh(k (|s̄| − τ)/σ²)), where s̄ is the mean sign of its gradients in the environments
    and σ² their sample variance. What it removes from the mean gradient the rest makes up for, as in AND-mask.
    The rule is DomainBed's, to which the authors gave it: of the paper's text only the abstract was at hand.

    At τ = 1, the default, this mask is 0 even where all signs agree, and DomainBed's class moves no weight. Here τ = 1
    asks for full agreement, as in AND-mask: the threshold is 1 − 1/E, midway between E environments that
    agree and E − 1. For τ < 1 the two classes are the same. A single environment agrees with itself: ERM.

    Attributes:
        update_count: steps taken, int64 of shape (1,). Nothing reads it; DomainBed's checkpoints have it.
    """

    HPARAMS = (
        HParam(
            "tau",
            1.0,
            uniform(0.0, 1.0),
            "agreement of signs, from 0 to 1, above which a weight moves",
            at_least=0,
            at_most=1,
        ),
        HParam("k", 10.0, log_uniform(10, -3, 5), "steepness of the mask", above=0),
    )

    def __init__(
        self, input_shape: tuple[int, ...], num_classes: int, num_domains: int, hparams: dict[str, Any]
    ):
        super().__init__(input_shape, num_classes, num_domains, hparams)
        self.register_buffer("update_count", torch.tensor([0]))

    def update(
        self, minibatches: list[Minibatch], unlabeled: list[torch.Tensor] | None = None
    ) -> dict[str, float]:
        """One step; see ``MaskedGradients.update``."""
        self.update_count += 1
        return super().update(minibatches, unlabeled)

    def masked(self, gradients: Sequence[torch.Tensor]) -> torch.Tensor:
        """The mean of what signs and sizes agree on."""
        stacked = torch.stack(tuple(gradients))
        mask = smooth_agreement(stacked, self.hparams["tau"], self.hparams["k"])
        return normalized_product(mask, stacked.mean(0))


def smooth_agreement(gradients: torch.Tensor, tau: float, k: float) -> torch.Tensor:
    """The mask of (E, *shape) ``gradients`` in [0, 1], of shape ``shape``; ``tau`` and ``k`` as in ``SANDMask``."""
    n = len(gradients)
    threshold = tau if tau < 1 else 1 - 1 / n
    margin = gradients.sign().mean(0).abs() - threshold
    variance = gradients.var(0) if n > 1 else torch.zeros_like(margin)
    # Equal gradients make this infinite, or 0/0 where they agree no more than just enough.
    return torch.tanh(k * margin / variance).clamp_min(0).nan_to_num(0)
