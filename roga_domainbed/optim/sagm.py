"""SAGM: sharpness-aware gradient matching.

    g = ∇L(θ),   d = (ρ/(‖g‖ + 1e-12) − α) g
    direction: ½ g + ½ ∇L(θ + d)

Wang et al., CVPR 2023 (arXiv:2303.10353): minimize L(θ) + L(θ + ρ g/‖g‖ − α g). The ½ and the 1e-12 are
those of the authors' released code; the paper's sum is twice as long, which matters when learning rates are
compared. g is held constant in the differentiation.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from roga_domainbed.optim.sharpness import TwoPass, moved


class SAGM(TwoPass):
    """The mean of the gradients at θ and at the matched ascent point.

    Args:
        params: parameters or groups of them.
        base_optimizer: class of the optimizer that makes the step.
        rho: radius of the neighbourhood, ≥ 0.
        alpha: how far the ascent point moves back along the gradient, ≥ 0.
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
        alpha: float = 1e-3,
        model: nn.Module | None = None,
        replay_rng: bool = False,
        **base_kwargs: Any,
    ):
        own = {"rho": rho, "alpha": alpha}
        super().__init__(params, base_optimizer, own, model=model, replay_rng=replay_rng, **base_kwargs)

    def _point(self, params: list[Tensor], grads: list[Tensor], norm: Tensor) -> list[Tensor]:
        point: list[Tensor] = []
        for group, p, g in self._grouped(params, grads):
            point += moved(p, g, group["rho"] / (norm + 1e-12) - group["alpha"])
        return point

    def _direction(self, grads: list[Tensor], perturbed: list[Tensor]) -> list[Tensor]:
        return list(torch._foreach_lerp(grads, perturbed, 0.5))
