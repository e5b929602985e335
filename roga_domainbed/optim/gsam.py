"""GSAM: SAM that also closes the surrogate gap L(θ + ε) − L(θ).

    ε = ρ g / ‖g‖,  g = ∇L(θ),  h = ∇L(θ + ε)
    direction: h − α (g − ⟨g, h⟩/‖h‖² h)

Zhuang et al., arXiv:2203.08065, Algorithm 1: descend the perturbed loss, and ascend L(θ) along the part of
its gradient that is orthogonal to h, which shrinks the gap without raising the perturbed loss to first order.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from roga_domainbed.optim.sam import SAM
from roga_domainbed.optim.sharpness import TwoPass, inner, inverse_or_zero


class GSAM(TwoPass):
    """Surrogate-gap guided SAM.

    Args:
        params: parameters or groups of them.
        base_optimizer: class of the optimizer that makes the step.
        rho: radius of the neighbourhood, as in SAM, ≥ 0.
        alpha: weight of the orthogonal component, ≥ 0.
        model: where batch-norm buffers are protected; None if there are none.
        replay_rng: give both passes the same dropout mask.
        **base_kwargs: arguments of the base optimizer (lr, momentum, …).
    """

    def __init__(
        self,
        params: Any,
        base_optimizer: type[torch.optim.Optimizer] = torch.optim.SGD,
        *,
        rho: float = 0.05,
        alpha: float = 0.4,
        model: nn.Module | None = None,
        replay_rng: bool = False,
        **base_kwargs: Any,
    ):
        own = {"rho": rho, "alpha": alpha}
        super().__init__(params, base_optimizer, own, model=model, replay_rng=replay_rng, **base_kwargs)

    _point = SAM._point

    def _direction(self, grads: list[Tensor], perturbed: list[Tensor]) -> list[Tensor]:
        along = inner(grads, perturbed) * inverse_or_zero(inner(perturbed, perturbed))
        orthogonal = torch._foreach_sub(grads, torch._foreach_mul(perturbed, along))
        direction: list[Tensor] = []
        for group, _, h, g in self._grouped(self._params(), perturbed, orthogonal):
            direction += torch._foreach_sub(h, torch._foreach_mul(g, group["alpha"]))
        return direction
