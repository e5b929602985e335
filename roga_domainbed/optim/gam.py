"""GAM: gradient-norm aware minimization, for first-order flatness, the largest gradient norm around θ.

    h_+ = α g_1 + (1 − α) g_3        h_− = β g_0 + (1 − β) g_2
    direction: h_+ − γ (h_− − ⟨h_−, h_+⟩/‖h_+‖² h_+)

with the four gradients of ``four_pass``. Zhang et al., CVPR 2023 (arXiv:2303.03108), the accelerated form: Algorithm 2
of appendix D, as the authors' repository shows it, which they release in place of the one with Hessian-vector products.
That code adds the gradients with weight 1 each, so its direction is twice as long as the algorithm's at α = β = ½, the
defaults here. ρ = 0.2, ρ' = 0.02 and γ = 0.03 are its settings for CIFAR.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from roga_domainbed.optim.four_pass import FourPass
from roga_domainbed.optim.gsam import direction, orthogonal


class GAM(FourPass):
    """Gradient-norm aware minimization: four passes, and six copies of the parameters beyond ERM's in memory.

    Args:
        params: parameters or groups of them.
        base_optimizer: class of the optimizer that makes the step.
        rho: radius of the ascent of the gradient's norm, ≥ 0.
        rho_inner: ρ', the length of the steps that measure that norm's gradient, ≥ 0.
        alpha: part of g_1 in h_+, from 0 to 1.
        beta: part of g_0 in h_−, from 0 to 1.
        gamma: weight of the part of h_− that is taken off, ≥ 0.
        **kwargs: what every ``SharpnessOptimizer`` takes, ``model`` and ``lr`` among them.
    """

    def __init__(
        self,
        params: Any,
        base_optimizer: type[torch.optim.Optimizer] = torch.optim.SGD,
        *,
        rho: float = 0.2,
        rho_inner: float = 0.02,
        alpha: float = 0.5,
        beta: float = 0.5,
        gamma: float = 0.03,
        **kwargs: Any,
    ):
        own = {"rho": rho, "rho_inner": rho_inner, "alpha": alpha, "beta": beta, "gamma": gamma}
        super().__init__(params, base_optimizer, own, **kwargs)

    def _inner_radius(self, group: dict[str, Any]) -> float:
        return group["rho_inner"]

    def _direction(
        self, g0: list[Tensor], g1: list[Tensor], g2: list[Tensor], g3: list[Tensor]
    ) -> list[Tensor]:
        for group, first, second, third, fourth in self._grouped(g0, g1, g2, g3):
            torch._foreach_lerp_(second, fourth, 1 - group["alpha"])
            torch._foreach_lerp_(first, third, 1 - group["beta"])
        groups = self._grouped(g1, orthogonal(g0, g1))
        return [t for group, h, apart in groups for t in direction(h, apart, group["gamma"])]
