"""SAM: sharpness-aware minimization.

    ε = ρ ∇L(θ) / ‖∇L(θ)‖        direction: ∇L(θ + ε)

Foret et al., arXiv:2010.01412, Eq. 2 with p = 2 and Algorithm 1. The second-order term that the paper drops
is dropped here too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from roga_domainbed.optim.two_pass import TwoPass
from roga_domainbed.optim.vectors import inverse_or_zero, moved


def ascent_point(theta: Sequence[Tensor], g: Sequence[Tensor], norm: Tensor, rho: float) -> list[Tensor]:
    """θ + ρ g / ‖g‖, with ``norm`` = ‖g‖ over all parameters."""
    return moved(theta, g, rho * inverse_or_zero(norm))


class SAM(TwoPass):
    """Step along the gradient at the worst nearby point, to first order.

    Args:
        rho: radius of the neighbourhood in the L2 norm over all parameters together, ≥ 0.
        **kwargs: what every ``SharpnessOptimizer`` takes, ``model`` and ``lr`` among them.
    """

    def __init__(
        self,
        params: Any,
        base_optimizer: type[torch.optim.Optimizer] = torch.optim.SGD,
        *,
        rho: float = 0.05,
        **kwargs: Any,
    ):
        super().__init__(params, base_optimizer, {"rho": rho}, **kwargs)

    def _ascent_point(self, params: list[Tensor], grads: list[Tensor], norm: Tensor) -> list[Tensor]:
        groups = self._grouped(params, grads)
        return [t for group, theta, g in groups for t in ascent_point(theta, g, norm, group["rho"])]
