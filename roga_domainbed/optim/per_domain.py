"""The step of the methods that tell domains apart: one closure a domain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from roga_domainbed.optim.domains import Domains
from roga_domainbed.optim.finite import Label
from roga_domainbed.optim.optimizer import SharpnessOptimizer
from roga_domainbed.optim.passes import Closure

COSINE_EVERY = 10  # steps; measuring it passes over all gradients once more


class PerDomain(SharpnessOptimizer):
    """A subclass says which passes a step has, and what they add up to.

    What a closure draws from torch's generators is a function of their state before the step, of the domain and of
    the pass, not of the order in which domains are evaluated.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        # ``over_ranks.SharedDomains`` where processes share the domains. Here, not in the class: a checkpoint has an
        # object's own attributes, and the number of processes may change.
        self._shared: Any = None

    def step(self, closures: Sequence[Closure], loss_scale: float = 1.0) -> Tensor:
        """One step.

        Args:
            closures: one a domain; each returns the mean loss of its minibatch with its graph and calls no
                ``backward``. It is called once for every pass of its domain.
            loss_scale: what the closures multiply their losses with, for fp16; 1 otherwise.

        Returns:
            (K,) the losses at θ, detached, without the loss scale.

        Raises:
            NonFiniteError: if a loss or gradient is not finite; it names the domain. On a CPU nothing has moved.
        """
        return self._step(closures, closures, loss_scale)

    def _step(self, first: Sequence[Closure], second: Sequence[Closure], loss_scale: float) -> Tensor:
        if not second:
            raise ValueError(f"{type(self).__name__} needs at least one domain: closures is empty")
        params, K = self._begin(), len(second)
        weight = self._weight(K)
        with self.statistics.moved_once() as passes:
            domains = Domains(
                first,
                second,
                params,
                self.statistics,
                passes,
                loss_scale=loss_scale,
                replay_rng=self.replay_rng,
                weight=weight,
                cosine=K > 1 and self.steps_taken % COSINE_EVERY == 0,
                shared=self._shared,
            )
            self._add_directions(domains)
            domains.finish(self.steps_taken)
            if weight == 1.0:
                torch._foreach_div_(domains.direction, K)
            self._report(domains)
        self._apply(params, domains.direction, domains.reached)
        return domains.table[0 if domains.at_theta else 2].to(params[0].dtype)

    def _weight(self, K: int) -> float:
        """Factor of each gradient in the direction, applied on its way back, where it costs nothing; 1 sums them."""
        return 1 / K

    def _add_directions(self, domains: Domains) -> None:
        """Evaluate the passes of a step, and leave what they add up to in ``domains.direction``."""
        raise NotImplementedError

    def _checked(self, domains: Domains) -> tuple[Tensor, list[Label]]:
        """The numbers of the step that must be finite, causes first, and what they are."""
        return domains.table.flatten(), domains.labels()

    def _report(self, domains: Domains) -> bool:
        """Check the numbers of the step, and keep those for the records; whether they were read, as on a CPU."""
        at_once = self._finite.take(*self._checked(domains), self.steps_taken)
        losses, norms, perturbed, _ = domains.table.tolist() if at_once else domains.table
        mean = (lambda row: sum(row) * (1 / domains.K)) if at_once else torch.mean
        self.report = {"loss": mean(losses)} if domains.at_theta else {}
        if domains.perturbed:
            self.report["perturbed_loss"] = mean(perturbed)
        if domains.at_theta:
            self.report["grad_norm"] = mean(norms)
            if domains.cosine:
                cosine = domains.mean_cosine().double()
                self.report["cosine"] = cosine.item() if at_once else cosine
        return at_once
