"""The exact gradient of RoGA's objective, by double backward: for tests, ablations and small models.

    ∇J = 1/K Σ [ h_i − α (∇²L_i(θ + ε_i) a_i + ∇a_i · h_i) ],   h_i = ∇L_i(θ + ε_i)

∇a_i · h_i is ∇²L_i(θ) h_i for the domain's own anchor; with the pooled one, ∇²L_i(θ) meets the mean of all h_j. Three
passes of each minibatch, two of them differentiated twice, with their graphs in memory.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from roga_domainbed.optim.domains import Domains
from roga_domainbed.optim.passes import Pass, at_point
from roga_domainbed.optim.vectors import inner

Perturbed = Callable[[list[Tensor], list[Tensor], Tensor], list[Tensor]]
TimesAlpha = Callable[[list[Tensor]], list[Tensor]]


def add_exact_gradients(
    domains: Domains, pooled: bool, perturbed: Perturbed, times_alpha: TimesAlpha
) -> None:
    """Add K ∇J to the direction of ``domains``.

    Args:
        domains: of a step.
        pooled: whether the anchor is the mean gradient, and not the domain's own.
        perturbed: (θ, g_i, ‖g_i‖) → θ + ε_i.
        times_alpha: α a, group by group.
    """
    firsts = [domains.first_pass(i) for i in domains.own]
    grads = [g for g, _ in firsts]
    anchors = [domains.pooled_anchor(grads)] * len(grads) if pooled else grads

    # h_i − α ∇²L_i(θ + ε_i) a_i
    hs: list[list[Tensor]] = []
    for i, (g, norm), anchor in zip(domains.own, firsts, anchors, strict=True):
        with at_point(domains.params, perturbed(domains.params, g, norm)):
            second = domains.again(i, create_graph=True)
            curved = _derivative(inner(second.grads, times_alpha(anchor)), domains.params)
        h = [t.detach() for t in second.grads]
        hs.append(h)
        domains.add(i, Pass(second.loss, list(torch._foreach_sub(h, curved)), second.reached))

    # − α ∇a_i · h_i
    vectors = [domains.mean(hs)] * len(hs) if pooled else hs
    for i, vector in zip(domains.own, vectors, strict=True):
        at_theta = domains.again(i, number=2, create_graph=True)
        curved = _derivative(inner(at_theta.grads, times_alpha(vector)), domains.params)
        torch._foreach_sub_(domains.direction, curved)


def _derivative(scalar: Tensor, params: list[Tensor]) -> list[Tensor]:
    """∇ scalar, with zeros where it does not depend on a parameter (a linear loss has no curvature)."""
    if not scalar.requires_grad:
        return [torch.zeros_like(p) for p in params]
    grads = torch.autograd.grad(scalar, params, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for g, p in zip(grads, params, strict=True)]
