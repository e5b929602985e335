"""RoGA at a lower cost; each form is an approximation of it (docs/roga-cost.md has what they cost and lose).

- ``every=N``: d_i = ε_i − α a_i is measured in steps 0, N, 2N, …; the others reuse it: 1/K Σ ∇L_i(θ + d_i), one
  gradient of each minibatch. They have no pass at θ, so the pass at θ + d_i moves the batch-norm buffers.
- ``ascent_closures``: g_i is the gradient of another closure of domain i, of a part of its minibatch for example.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from roga_domainbed.optim.domains import Domains
from roga_domainbed.optim.passes import Closure
from roga_domainbed.optim.roga import RoGA


class CheaperRoGA(RoGA):
    """RoGA that measures its ascent points less often, or on other samples.

    Args:
        params: parameters or groups of them.
        base_optimizer: class of the optimizer that makes the step.
        every: measure the displacements in one of so many steps, ≥ 1; ``first_order`` only. Above 1, K displacements
            more are kept in memory.
        **kwargs: RoGA's arguments.
    """

    def __init__(
        self,
        params: Any,
        base_optimizer: type[torch.optim.Optimizer] = torch.optim.SGD,
        *,
        every: int = 1,
        **kwargs: Any,
    ):
        super().__init__(params, base_optimizer, **kwargs)
        if every < 1 or every != int(every):
            raise ValueError(f"every must be a whole number of at least 1; got {every!r}")
        if every > 1 and self.gradient == "exact":
            raise ValueError(
                "every above 1 goes with gradient 'first_order': the exact one has no displacement"
            )
        self.every = int(every)
        self._displacements: list[list[Tensor]] = []  # d_i of each domain, where every > 1
        #: of which domains and which parameters, by their places
        self._displaced: tuple[list[int], list[int]] = ([], [])

    def step(
        self,
        closures: Sequence[Closure | None] | Closure | None = None,
        loss_scale: float = 1.0,
        *,
        closure: Closure | None = None,
        weights: Sequence[float] | None = None,
        scaler: Any = None,
        ascent_closures: Sequence[Closure | None] | None = None,
    ) -> Tensor:
        """One step, as of ``RoGA``; a step that reuses displacements calls each closure once.

        Args:
            closures: one a domain, see ``RoGA.step``.
            loss_scale: likewise, as ``closure``, ``weights`` and ``scaler``.
            closure: see ``RoGA.step``.
            weights: see ``RoGA.step``.
            scaler: see ``RoGA.step``.
            ascent_closures: one a domain, for the pass at θ; None for ``closures``.

        Returns:
            (K,) the losses at θ, detached, without the loss scale; at the displaced points in a step that reuses
            displacements.

        Raises:
            NonFiniteError: as ``RoGA.step``.
        """
        closures = self._listed(closure if closures is None else closures)
        if ascent_closures is None:
            return self._step(closures, closures, loss_scale, weights, scaler)
        if len(ascent_closures) != len(closures):
            raise ValueError(
                f"{len(closures)} closures and {len(ascent_closures)} ascent closures: one each a domain"
            )
        if self.replay_rng:
            raise ValueError(
                "replay_rng needs the same samples in every pass: leave it off, or the ascent closures"
            )
        return self._step(ascent_closures, closures, loss_scale, weights, scaler)

    def _add_directions(self, domains: Domains) -> None:
        now = list(domains.indices), self._places()
        if self.steps_taken % self.every > 0 and self._displacements and self._displaced == now:
            domains.counts_first_passes = True
            for i in domains.own:
                domains.only_pass(i, _added(domains.params, self._displacements[i]))
            return
        self._displacements, self._displaced = [], now
        super()._add_directions(domains)

    @torch.no_grad()
    def _aligned(
        self, theta: list[Tensor], g: list[Tensor], norm: Tensor, anchor: list[Tensor] | None = None
    ) -> list[Tensor]:
        if self.every == 1:
            return super()._aligned(theta, g, norm, anchor)
        origin = [torch.zeros_like(p) for p in theta]
        displacement = super()._aligned(origin, g, norm, anchor)
        self._displacements.append(displacement)
        return _added(theta, displacement)

    def share_domains(self, group: Any = None) -> None:
        """As of ``RoGA``, with ``every=1`` alone."""
        if self.every > 1:
            raise ValueError(
                "every above 1 keeps each domain's displacement in the process that measured it, where a checkpoint "
                "of the first process would miss it: use one process, or every=1"
            )
        super().share_domains(group)

    def state_dict(self) -> dict:
        """As of every sharpness optimizer, with the displacements to be reused."""
        return {**super().state_dict(), "displacements": self._displacements}

    def load_state_dict(self, state_dict: dict) -> None:
        """Load what ``state_dict`` gave; without displacements the next step measures them."""
        state_dict = dict(state_dict)
        saved = state_dict.pop("displacements", [])
        super().load_state_dict(state_dict)
        self._displacements = [self._copied(domain, "displacements") for domain in saved]
        self._displaced = list(range(len(saved))), self._places()


def _added(params: list[Tensor], displacement: list[Tensor]) -> list[Tensor]:
    return list(torch._foreach_add([p.detach() for p in params], displacement))
