"""DGSAM: one ascent through all domains, whose gradients are those of the step.

    θ_0 = θ; for j = 1 … K, in a random order π of the domains:
        g_j = ∇L_π(j)(θ_{j−1}),   θ_j = θ_{j−1} + ρ g_j/‖g_j‖
    g_{K+1} = ∇L_π(1)(θ_K)
    direction: 1/(K + 1) Σ_{j=1}^{K+1} g_j

Song et al., arXiv:2503.23430. The paper's text was not at hand. That the domains perturb one after the other in random
order, that the ascent's gradients are used again, and that it costs less than SAM is in its abstract and its public
reviews; that the first domain is evaluated once more at the end, and that all K + 1 gradients count alike, was not
checked. So the first domain counts twice, once of it at θ: with ρ = 0 the step is ERM's only where the domains agree,
and with one domain it is SAGM's without its α.
"""

from __future__ import annotations

from typing import Any

import torch

from roga_domainbed.optim.domains import Domains
from roga_domainbed.optim.passes import at_point
from roga_domainbed.optim.per_domain import PerDomain
from roga_domainbed.optim.vectors import inverse_or_zero, moved


class DGSAM(PerDomain):
    """Decreased-overhead gradual SAM: K + 1 passes, and two copies of the parameters beyond ERM's in memory.

    ``step`` returns the loss of each domain at its own point of the ascent; for the first domain that is θ. The same
    passes move the batch-norm buffers. The order is drawn from torch's global generator on the CPU.

    Args:
        params: parameters or groups of them.
        base_optimizer: class of the optimizer that makes the step.
        rho: length of each domain's step of the ascent, ≥ 0.
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
        self._first = 0  # the domain that the last step began with

    def _add_directions(self, domains: Domains) -> None:
        order = torch.randperm(domains.K).tolist()
        domains.cosine = False  # of gradients at different points
        self._first = order[0]
        point = [p.detach() for p in domains.params]
        for domain in order:
            with at_point(domains.params, point):
                g, norm = domains.first_pass(domain)
            with torch.no_grad():
                if domains.direction:
                    torch._foreach_add_(domains.direction, g)
                else:
                    domains.direction = [t.clone() for t in g]
                groups, inverse = self._grouped(point, g), inverse_or_zero(norm)
                point = [
                    t
                    for group, p, along in groups
                    for t in moved(p, along, group["rho"] * inverse, consume=True)
                ]
        with at_point(domains.params, point):
            domains.add(order[0], domains.again(order[0]))
        domains.blame_first(order)
        torch._foreach_mul_(domains.direction, domains.weight)

    def _weight(self, K: int) -> float:
        return 1 / (K + 1)

    def _report(self, domains: Domains) -> bool:
        """The loss and the gradient norm at θ are those of the first domain, whichever it is in this step."""
        at_once = super()._report(domains)
        losses, norms, perturbed, _ = domains.table
        at_end = (losses.sum() - losses[self._first] + perturbed[self._first]) / domains.K
        found = torch.stack([losses[self._first], at_end, norms[self._first]])
        values = found.tolist() if at_once else found
        self.report = dict(zip(("loss", "perturbed_loss", "grad_norm"), values, strict=True))
        return at_once
