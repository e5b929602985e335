"""CAGrad: near the mean gradient, the direction that lowers the loss of the worst-off domain most.

    g_0 = 1/K Σ_i g_i        g_w = Σ_i w_i g_i, w in the simplex
    w* = argmin_w ⟨g_w, g_0⟩ + c ‖g_0‖ ‖g_w‖
    direction: g_0 + c ‖g_0‖ g_w*/‖g_w*‖

which solves max_d min_i ⟨g_i, d⟩ subject to ‖d − g_0‖ ≤ c ‖g_0‖. Liu et al., NeurIPS 2021 (arXiv:2110.14048), Eq. 3
and Algorithm 1, from the paper's text. The authors' code also divides the direction by 1 + c² or 1 + c, for the length
of the step; Algorithm 1 does not, nor is it done here. Where all domains agree, the direction is (1 + c) g_0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from roga_domainbed.optim.surgery import Surgery


class CAGrad(Surgery):
    """Conflict-averse gradient descent.

    The K numbers of w* are found on the CPU: on a GPU, a step waits for the gradients once.

    Args:
        params: parameters or groups of them.
        base_optimizer: class of the optimizer that makes the step.
        c: how far from the mean gradient the direction may be, in norms of it; 0 ≤ c < 1. 0 is ERM.
        **kwargs: what every ``SharpnessOptimizer`` takes, ``model`` and ``lr`` among them.
    """

    def __init__(
        self,
        params: Any,
        base_optimizer: type[torch.optim.Optimizer] = torch.optim.SGD,
        *,
        c: float = 0.5,
        **kwargs: Any,
    ):
        if not 0 <= c < 1:
            raise ValueError(f"c must be at least 0 and below 1; got {c!r}")
        super().__init__(params, base_optimizer, {}, **kwargs)
        self.c = c

    def _weights(self, products: Tensor) -> Tensor:
        return torch.from_numpy(direction_weights(products.cpu().numpy(), self.c)).to(products.device)


def direction_weights(products: np.ndarray, c: float) -> np.ndarray:
    """(K,) weights of the gradients in the direction, from their (K, K) inner products."""
    K = len(products)
    mean = np.full(K, 1 / K)
    scale = np.trace(products) / K
    if not (np.isfinite(products).all() and scale > 0):
        return mean  # what is not finite is reported right after
    products = products / scale
    radius = c * np.sqrt(max(mean @ products @ mean, 0))
    w = worst_case(products, radius)
    squared = w @ products @ w
    # g_w = 0: the domains' losses cannot all be lowered, and no direction is better than another.
    return mean + radius / np.sqrt(squared) * w if squared > 1e-12 else mean


def worst_case(products: np.ndarray, radius: float) -> np.ndarray:
    """The w of the simplex with the smallest ⟨g_w, g_0⟩ + radius · ‖g_w‖, where ``products`` has entries around 1."""
    from scipy.optimize import minimize  # a second to import

    K = len(products)
    with_mean = products.mean(1)

    def objective(w: np.ndarray) -> tuple[float, np.ndarray]:
        norm = np.sqrt(max(w @ products @ w, 1e-24))
        return w @ with_mean + radius * norm, with_mean + radius * (products @ w) / norm

    found = minimize(
        objective,
        np.full(K, 1 / K),
        jac=True,
        method="SLSQP",
        bounds=[(0, 1)] * K,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones(K)},
        options={"ftol": 1e-15, "maxiter": 200},
    )
    w = np.clip(found.x, 0, None)
    return w / w.sum()
