"""PCGrad: each domain's gradient without its parts against the others'.

    for each i: p_i = g_i; for j ≠ i in random order: if ⟨p_i, g_j⟩ < 0, p_i ← p_i − ⟨p_i, g_j⟩/‖g_j‖² g_j
    direction: 1/K Σ_i p_i

Yu et al., NeurIPS 2020 (arXiv:2001.06782). Its text was not at hand: the rule is Algorithm 2 in the appendix of
CAGrad's paper (arXiv:2110.14048), which takes the mean over the tasks, as here; the authors of PCGrad step along the
sum. Each order is drawn from torch's global generator on the CPU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from roga_domainbed.optim.surgery import Surgery


def projected(products: Tensor, orders: list[list[int]]) -> Tensor:
    """(K, K) coefficients: row i has p_i in terms of the gradients.

    Args:
        products: (K, K) inner products of the gradients.
        orders: for each i, the others in the order of their projections.
    """
    rows = torch.eye(len(products), dtype=products.dtype, device=products.device)
    for i, order in enumerate(orders):
        for j in order:
            along = rows[i] @ products[:, j]
            rows[i, j] -= torch.where(along < 0, along / products[j, j], torch.zeros_like(along))
    return rows


class PCGrad(Surgery):
    """Step along the mean of the domains' gradients, each projected to conflict with no other.

    Args:
        params: parameters or groups of them.
        base_optimizer: class of the optimizer that makes the step.
        **kwargs: what every ``SharpnessOptimizer`` takes, ``model`` and ``lr`` among them.
    """

    def __init__(
        self, params: Any, base_optimizer: type[torch.optim.Optimizer] = torch.optim.SGD, **kwargs: Any
    ):
        super().__init__(params, base_optimizer, {}, **kwargs)

    def _weights(self, products: Tensor) -> Tensor:
        K = len(products)
        orders = [[j for j in torch.randperm(K).tolist() if j != i] for i in range(K)]
        return projected(products, orders).mean(0)
