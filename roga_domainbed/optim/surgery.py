"""Gradient surgery: a step along a combination of the domains' gradients at θ, found from their inner products."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from roga_domainbed.optim.domains import Domains
from roga_domainbed.optim.per_domain import PerDomain
from roga_domainbed.optim.vectors import add_scaled_


class Surgery(PerDomain):
    """A subclass weighs the gradients of one pass of each domain.

    Peak memory beyond ERM's: K + 1 copies of the parameters.
    """

    def _add_directions(self, domains: Domains) -> None:
        grads = [domains.first_pass(i)[0] for i in domains.own]
        domains.perturbed = False
        with torch.no_grad():
            domains.direction = combined(grads, self._weights(gram(grads)))

    def _weights(self, products: Tensor) -> Tensor:
        """(K,) weights of the gradients in the step's direction, from their (K, K) inner products, in float64."""
        raise NotImplementedError


def gram(vectors: Sequence[Sequence[Tensor]]) -> Tensor:
    """(K, K) inner products of K vectors of one tensor a parameter, in float64 on the first one's device."""
    K, device = len(vectors), vectors[0][0].device
    total = torch.zeros(K, K, dtype=torch.float64, device=device)
    for tensors in zip(*vectors, strict=True):
        rows = torch.stack([t.reshape(-1) for t in tensors])
        total += (rows @ rows.T).to(device, torch.float64)
    return total


def combined(vectors: Sequence[list[Tensor]], weights: Tensor) -> list[Tensor]:
    """Σ_i weights_i · vectors_i, in the memory of the first vector."""
    total = vectors[0]
    torch._foreach_mul_(total, weights[0].to(total[0].dtype))
    for vector, weight in zip(vectors[1:], weights[1:], strict=True):
        add_scaled_(total, vector, weight.to(total[0].dtype))
    return total
