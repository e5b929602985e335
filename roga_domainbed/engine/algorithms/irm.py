"""Invariant risk minimization."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from roga_domainbed.engine.algorithms._annealed import AnnealedPenalty, penalty_hparams
from roga_domainbed.engine.algorithms._minibatches import require_two_samples
from roga_domainbed.engine.lib.misc import Minibatch


class IRM(AnnealedPenalty):
    """Invariant risk minimization (Arjovsky, Bottou, Gulrajani and Lopez-Paz, arXiv:1907.02893), IRMv1.

    The penalty of an environment is the squared gradient of its risk with respect to a scalar w = 1 that multiplies
    the logits. Its unbiased estimate is the product of the gradients on two disjoint halves of the minibatch,
    so it can be negative.
    """

    PREFIX = "irm"
    HPARAMS = penalty_hparams("irm", 1e2, "weight of the invariance penalty")

    def update(
        self, minibatches: list[Minibatch], unlabeled: list[torch.Tensor] | None = None
    ) -> dict[str, float]:
        """One step; minibatches of at least two samples. See ``Algorithm.update``."""
        require_two_samples(minibatches, "IRM")
        return super().update(minibatches, unlabeled)

    def risk_and_penalty(
        self, logits: Sequence[torch.Tensor], labels: Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Means over the environments of the cross-entropy and of the invariance penalty."""
        domains = list(zip(logits, labels, strict=True))
        nll = torch.stack([F.cross_entropy(z, y) for z, y in domains]).mean()
        return nll, torch.stack([invariance_penalty(z, y) for z, y in domains]).mean()


def invariance_penalty(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Product of the scale gradients of the samples with even and with odd index; scalar."""
    return scale_gradient(logits[::2], y[::2]) * scale_gradient(logits[1::2], y[1::2])


def scale_gradient(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Derivative of the mean cross-entropy of ``w · logits`` at w = 1; scalar.

    In closed form it is the mean of Σ_c softmax(z)_c z_c − z_y, so no second backward pass is needed.
    """
    expected = (logits.softmax(1) * logits).sum(1)
    return (expected - logits.gather(1, y[:, None])[:, 0]).mean()
