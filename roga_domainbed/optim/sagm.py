"""SAGM: sharpness-aware gradient matching.

    g = ∇L(θ),   d = (ρ/(‖g‖ + 1e-12) − α) g
    direction: ½ g + ½ ∇L(θ + d)

Wang et al., CVPR 2023 (arXiv:2303.10353): minimize L(θ) + L(θ + ρ g/‖g‖ − α g). The ½ and the 1e-12 are
those of the authors' released code; the paper's sum is twice as long, which matters when learning rates are
compared. g is held constant in the differentiation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from roga_domainbed.optim.two_pass import TwoPass
from roga_domainbed.optim.vectors import moved


def ascent_point(
    theta: Sequence[Tensor], g: Sequence[Tensor], norm: Tensor, rho: float, alpha: float
) -> list[Tensor]:
    """θ + (ρ/(‖g‖ + 1e-12) − α) g, with ``norm`` = ‖g‖ over all parameters."""
    return moved(theta, g, rho / (norm + 1e-12) - alpha)


def direction(g: Sequence[Tensor], h: Sequence[Tensor]) -> list[Tensor]:
    """½ g + ½ h."""
    return list(torch._foreach_lerp(g, h, 0.5))


class SAGM(TwoPass):
    """The mean of the gradients at θ and at the matched ascent point.

    Args:
        rho: radius of the neighbourhood, ≥ 0.
        alpha: how far the ascent point moves back along the gradient, ≥ 0.
        **kwargs: what every ``SharpnessOptimizer`` takes, ``model`` and ``lr`` among them.
    """

    def __init__(
        self,
        params: Any,
        base_optimizer: type[torch.optim.Optimizer] = torch.optim.SGD,
        *,
        rho: float = 0.05,
        alpha: float = 1e-3,
        **kwargs: Any,
    ):
        super().__init__(params, base_optimizer, {"rho": rho, "alpha": alpha}, **kwargs)

    def _ascent_point(self, params: list[Tensor], grads: list[Tensor], norm: Tensor) -> list[Tensor]:
        return [
            t
            for group, theta, g in self._grouped(params, grads)
            for t in ascent_point(theta, g, norm, group["rho"], group["alpha"])
        ]

    _uses_both_gradients = True

    def _direction(self, grads: list[Tensor], perturbed: list[Tensor]) -> list[Tensor]:
        return direction(grads, perturbed)
