"""SAM: sharpness-aware minimization.

    ε = ρ ∇L(θ) / ‖∇L(θ)‖        direction: ∇L(θ + ε)

Foret et al., arXiv:2010.01412, Eq. 2 with p = 2 and Algorithm 1. The second-order term that the paper drops
is dropped here too.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from roga_domainbed.optim.sharpness import TwoPass, inverse_or_zero, moved


class SAM(TwoPass):
    """Step along the gradient at the worst nearby point, to first order.

    Args:
        params: parameters or groups of them.
        base_optimizer: class of the optimizer that makes the step.
        rho: radius of the neighbourhood in the L2 norm over all parameters together, ≥ 0.
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
        model: nn.Module | None = None,
        replay_rng: bool = False,
        **base_kwargs: Any,
    ):
        super().__init__(
            params, base_optimizer, {"rho": rho}, model=model, replay_rng=replay_rng, **base_kwargs
        )

    def _point(self, params: list[Tensor], grads: list[Tensor], norm: Tensor) -> list[Tensor]:
        inverse = inverse_or_zero(norm)
        point: list[Tensor] = []
        for group, p, g in self._grouped(params, grads):
            point += moved(p, g, group["rho"] * inverse)
        return point

    def _direction(self, grads: list[Tensor], perturbed: list[Tensor]) -> list[Tensor]:
        return perturbed
