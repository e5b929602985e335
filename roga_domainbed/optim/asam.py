"""ASAM: SAM whose neighbourhood scales with the weights.

    T = |θ| + η (element-wise)      ε = ρ T² ∇L(θ) / ‖T ∇L(θ)‖      direction: ∇L(θ + ε)

Kwon et al., arXiv:2102.11600, Eq. 7 and 10 with the element-wise operator and p = 2. Departure: the authors'
code scales only tensors whose name contains "weight" and leaves the others at T = 1; an optimizer sees no
names, so T applies to every parameter here, as the paper's equations read.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from roga_domainbed.optim.sharpness import TwoPass, global_norm, inverse_or_zero, moved


class ASAM(TwoPass):
    """Adaptive SAM.

    Args:
        params: parameters or groups of them.
        base_optimizer: class of the optimizer that makes the step.
        rho: radius of the neighbourhood in the scaled norm, ≥ 0. About ten times SAM's is usual.
        eta: added to |θ|, so that zero weights can move too, ≥ 0.
        model: where batch-norm buffers are protected; None if there are none.
        replay_rng: give both passes the same dropout mask.
        **base_kwargs: arguments of the base optimizer (lr, momentum, …).
    """

    def __init__(
        self,
        params: Any,
        base_optimizer: type[torch.optim.Optimizer] = torch.optim.SGD,
        *,
        rho: float = 0.5,
        eta: float = 0.01,
        model: nn.Module | None = None,
        replay_rng: bool = False,
        **base_kwargs: Any,
    ):
        own = {"rho": rho, "eta": eta}
        super().__init__(params, base_optimizer, own, model=model, replay_rng=replay_rng, **base_kwargs)

    def _point(self, params: list[Tensor], grads: list[Tensor], norm: Tensor) -> list[Tensor]:
        scales: list[Tensor] = []
        for group, p in self._grouped(params):
            scales += torch._foreach_add(torch._foreach_abs(p), group["eta"])
        scaled = torch._foreach_mul(grads, scales)
        inverse = inverse_or_zero(global_norm(scaled))
        torch._foreach_mul_(scaled, scales)
        point: list[Tensor] = []
        for group, p, d in self._grouped(params, scaled):
            point += moved(p, d, group["rho"] * inverse, consume=True)
        return point

    def _direction(self, grads: list[Tensor], perturbed: list[Tensor]) -> list[Tensor]:
        return perturbed
