"""GSAM: SAM that also closes the surrogate gap L(θ + ε) − L(θ).

    ε = ρ g / ‖g‖,  g = ∇L(θ),  h = ∇L(θ + ε)
    direction: h − α (g − ⟨g, h⟩/‖h‖² h)

Zhuang et al., arXiv:2203.08065, Algorithm 1: descend the perturbed loss, and ascend L(θ) along the part of
its gradient that is orthogonal to h, which shrinks the gap without raising the perturbed loss to first order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from roga_domainbed.optim.sam import SAM
from roga_domainbed.optim.two_pass import TwoPass
from roga_domainbed.optim.vectors import inner, inverse_or_zero


def orthogonal(g: Sequence[Tensor], h: Sequence[Tensor]) -> list[Tensor]:
    """The part of g that is orthogonal to h: g − ⟨g, h⟩/‖h‖² h."""
    along = inner(g, h) * inverse_or_zero(inner(h, h))
    return list(torch._foreach_sub(g, torch._foreach_mul(h, along)))


def direction(h: Sequence[Tensor], apart: Sequence[Tensor], alpha: float) -> list[Tensor]:
    """The step's direction: h − α (g − ⟨g, h⟩/‖h‖² h), with ``apart`` from ``orthogonal``."""
    return list(torch._foreach_sub(h, torch._foreach_mul(apart, alpha)))


class GSAM(TwoPass):
    """Surrogate-gap guided SAM.

    Args:
        rho: radius of the neighbourhood, as in SAM, ≥ 0.
        alpha: weight of the orthogonal component, ≥ 0.
        **kwargs: what every ``SharpnessOptimizer`` takes, ``model`` and ``lr`` among them.
    """

    def __init__(
        self,
        params: Any,
        base_optimizer: type[torch.optim.Optimizer] = torch.optim.SGD,
        *,
        rho: float = 0.05,
        alpha: float = 0.4,
        **kwargs: Any,
    ):
        super().__init__(params, base_optimizer, {"rho": rho, "alpha": alpha}, **kwargs)

    _ascent_point = SAM._ascent_point

    _uses_both_gradients = True

    def _direction(self, grads: list[Tensor], perturbed: list[Tensor]) -> list[Tensor]:
        groups = self._grouped(perturbed, orthogonal(grads, perturbed))
        return [t for group, h, apart in groups for t in direction(h, apart, group["alpha"])]
