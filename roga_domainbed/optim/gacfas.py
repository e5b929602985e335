"""GAC-FAS: the gradient of all domains' data at each domain's ascent point, pulled towards ERM's.

    g = 1/K Σ_i g_i        T = |θ| + η        θ_i = θ + ρ T² g_i / ‖T g_i‖ − α g
    direction: g + 1/K Σ_i ∇L(θ_i),        L = 1/K Σ_j L_j

Le and Woo, "Gradient Alignment for Cross-Domain Face Anti-Spoofing", CVPR 2024 (arXiv:2402.18817). The paper's
equations were not at hand: the rule is what the authors' released code means to do, which agrees with the abstract.
It differs from that code in three places.

- There, what should be g_i and g are differences and sums of gradients accumulated over the domains, so a step
  depends on their order. Here it does not.
- There, T is 1 for tensors whose name does not contain "weight"; an optimizer sees no names (see ``asam``).
- There, one forward pass normalizes all domains together; here batch norm sees one domain at a time, as in RoGA.

The authors add a supervised contrastive loss of the features at θ. It is left out: it belongs to their two views of
each image, and the method itself needs no features.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from roga_domainbed.optim.asam import ascent_point, scale
from roga_domainbed.optim.domains import Domains
from roga_domainbed.optim.passes import at_point
from roga_domainbed.optim.per_domain import PerDomain
from roga_domainbed.optim.vectors import global_norm


class GACFAS(PerDomain):
    """Step along ERM's gradient plus the mean of those at the domains' ascent points.

    A step has K + K² passes, a closure is called K + 1 times. Peak memory beyond ERM's: K + 5 copies of the parameters.

    Args:
        params: parameters or groups of them.
        base_optimizer: class of the optimizer that makes the step.
        rho: radius of the perturbation in ASAM's scaled norm, ≥ 0.
        alpha: how far each ascent point moves back along g, ≥ 0.
        eta: added to |θ|, so that zero weights can move too, ≥ 0.
        **kwargs: what every ``SharpnessOptimizer`` takes, ``model`` and ``lr`` among them.
    """

    def __init__(
        self,
        params: Any,
        base_optimizer: type[torch.optim.Optimizer] = torch.optim.SGD,
        *,
        rho: float = 0.1,
        alpha: float = 2e-4,
        eta: float = 0.01,
        **kwargs: Any,
    ):
        super().__init__(params, base_optimizer, {"rho": rho, "alpha": alpha, "eta": eta}, **kwargs)

    def _add_directions(self, domains: Domains) -> None:
        grads = [domains.first_pass(i)[0] for i in domains.own]
        erm = domains.mean(grads)
        for i, g in enumerate(grads):
            with at_point(domains.params, self._ascent_point(domains.params, g, erm)):
                for j in domains.own:
                    found = domains.again(j, number=1 + i, weight=domains.weight / domains.K)
                    domains.add(j, found, share=1 / domains.K)
        torch._foreach_add_(domains.direction, erm)

    @torch.no_grad()
    def _ascent_point(self, theta: list[Tensor], g: list[Tensor], erm: list[Tensor]) -> list[Tensor]:
        """θ + ρ T² g / ‖T g‖ − α g_ERM; ``g`` becomes T g."""
        scales = [t for group, p in self._grouped(theta) for t in scale(p, group["eta"])]
        torch._foreach_mul_(g, scales)
        norm = global_norm(g)
        point: list[Tensor] = []
        for group, p, t, tg, a in self._grouped(theta, scales, g, erm):
            moved = ascent_point(p, t, tg, norm, group["rho"])
            torch._foreach_add_(moved, list(a), alpha=-group["alpha"])
            point += moved
        return point
