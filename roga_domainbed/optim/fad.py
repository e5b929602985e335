"""FAD: flatness-aware minimization, of zeroth and first order at once.

    minimize L + β (α R_0 + (1 − α) R_1),   R_0 = max L(θ + ε) − L(θ),   R_1 = ρ max ‖∇L(θ + ε)‖,   both over ‖ε‖ ≤ ρ
    direction: g_0 + β (α (g_1 − g_0) + (1 − α) (g_3 − g_2))

with the four gradients of ``four_pass`` and ρ' = ρ. Zhang et al., ICCV 2023 (arXiv:2307.11108). The paper's text was
not at hand, and no code is released: that both orders are minimized together is in its abstract, the two measures and
their estimators are those of GAM's paper by the same authors, and how α and β weigh them was not checked. The defaults
of α and β are not the paper's. α = β = 1 is SAM, β = 0 is ERM.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from roga_domainbed.optim.four_pass import FourPass


class FAD(FourPass):
    """Flatness-aware minimization: four passes, and five copies of the parameters beyond ERM's in memory.

    Args:
        params: parameters or groups of them.
        base_optimizer: class of the optimizer that makes the step.
        rho: radius of the neighbourhood, ≥ 0.
        alpha: part of the zeroth order in the flatness, from 0 to 1.
        beta: weight of the flatness, ≥ 0.
        **kwargs: what every ``SharpnessOptimizer`` takes, ``model`` and ``lr`` among them.
    """

    def __init__(
        self,
        params: Any,
        base_optimizer: type[torch.optim.Optimizer] = torch.optim.SGD,
        *,
        rho: float = 0.05,
        alpha: float = 0.5,
        beta: float = 1.0,
        **kwargs: Any,
    ):
        super().__init__(params, base_optimizer, {"rho": rho, "alpha": alpha, "beta": beta}, **kwargs)

    def _inner_radius(self, group: dict[str, Any]) -> float:
        return group["rho"]

    def _direction(
        self, g0: list[Tensor], g1: list[Tensor], g2: list[Tensor], g3: list[Tensor]
    ) -> list[Tensor]:
        for group, first, second, third, fourth in self._grouped(g0, g1, g2, g3):
            zeroth, other = group["beta"] * group["alpha"], group["beta"] * (1 - group["alpha"])
            torch._foreach_lerp_(first, second, zeroth)
            torch._foreach_add_(first, fourth, alpha=other)
            torch._foreach_sub_(first, third, alpha=other)
        return g0
