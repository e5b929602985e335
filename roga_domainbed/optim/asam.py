"""ASAM: SAM whose neighbourhood scales with the weights.

    T = |θ| + η (element-wise)      ε = ρ T² ∇L(θ) / ‖T ∇L(θ)‖      direction: ∇L(θ + ε)

Kwon et al., arXiv:2102.11600, Eq. 7 and 10 with the element-wise operator and p = 2. Departure: the authors'
code scales only tensors whose name contains "weight" and leaves the others at T = 1; an optimizer sees no
names, so T applies to every parameter here, as the paper's equations read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from roga_domainbed.optim.two_pass import TwoPass
from roga_domainbed.optim.vectors import global_norm, inverse_or_zero, moved


def scale(theta: Sequence[Tensor], eta: float) -> list[Tensor]:
    """T = |θ| + η."""
    return list(torch._foreach_add(torch._foreach_abs(theta), eta))


def ascent_point(
    theta: Sequence[Tensor], t: Sequence[Tensor], tg: Sequence[Tensor], norm: Tensor, rho: float
) -> list[Tensor]:
    """θ + ρ T (T g) / ‖T g‖, with ``norm`` = ‖T g‖ over all parameters."""
    return moved(theta, torch._foreach_mul(tg, t), rho * inverse_or_zero(norm), consume=True)


class ASAM(TwoPass):
    """Adaptive SAM.

    Args:
        rho: radius of the neighbourhood in the scaled norm, ≥ 0. About ten times SAM's is usual.
        eta: added to |θ|, so that zero weights can move too, ≥ 0.
        **kwargs: what every ``SharpnessOptimizer`` takes, ``model`` and ``lr`` among them.
    """

    def __init__(
        self,
        params: Any,
        base_optimizer: type[torch.optim.Optimizer] = torch.optim.SGD,
        *,
        rho: float = 0.5,
        eta: float = 0.01,
        **kwargs: Any,
    ):
        super().__init__(params, base_optimizer, {"rho": rho, "eta": eta}, **kwargs)

    def _ascent_point(self, params: list[Tensor], grads: list[Tensor], norm: Tensor) -> list[Tensor]:
        scales = [t for group, theta in self._grouped(params) for t in scale(theta, group["eta"])]
        scaled = torch._foreach_mul(grads, scales)
        norm = global_norm(scaled)
        groups = self._grouped(params, scales, scaled)
        return [p for group, theta, t, tg in groups for p in ascent_point(theta, t, tg, norm, group["rho"])]
