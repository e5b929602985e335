"""The step of the methods that tell domains apart: one closure a domain."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from roga_domainbed.optim.domains import Domains
from roga_domainbed.optim.finite import Label, Overflow
from roga_domainbed.optim.optimizer import SharpnessOptimizer
from roga_domainbed.optim.passes import Closure
from roga_domainbed.optim.random_streams import RandomState

COSINE_EVERY = 10  # steps; measuring it passes over all gradients once more


class PerDomain(SharpnessOptimizer):
    """A subclass says which passes a step has, and what they add up to.

    What a closure draws from torch's generators is a function of their state before the step, of the domain and of
    the pass, not of the order in which domains are evaluated.
    """

    def step(
        self,
        closures: Sequence[Closure | None] | Closure | None = None,
        loss_scale: float = 1.0,
        *,
        closure: Closure | None = None,
        weights: Sequence[float] | None = None,
        scaler: Any = None,
    ) -> Tensor:
        """One step.

        Args:
            closures: one a domain; each returns the mean loss of its minibatch with its graph and calls no
                ``backward``. It is called once for every pass of its domain. None for a domain that has no sample.
                Or one callable that returns this list, for hosts that pass a closure on; or one that returns the K
                losses, which takes K times as many forward passes.
            loss_scale: what the closures multiply their losses with, for fp16; 1 otherwise.
            closure: the same by the name that hosts use.
            weights: one a domain, ≥ 0: what each counts for, such as its number of samples; None for all alike. Where
                ranks take the step together, those of a domain are also what each rank's samples count for.
            scaler: ``torch.amp.GradScaler``, for fp16: closures return the loss unscaled, ``scaler.update()`` follows
                the step, and a step that overflows is skipped.

        Returns:
            (K,) the losses at θ of the domains that have samples, detached, without the loss scale.

        Raises:
            NonFiniteError: if a loss or gradient is not finite; it names the domain. On a CPU nothing has moved.
        """
        closures = self._listed(closure if closures is None else closures)
        return self._step(closures, closures, loss_scale, weights, scaler)

    def _listed(self, given: Any) -> Sequence[Closure | None]:
        """The closures, whichever form they came in."""
        if callable(given):
            given = self._called(given)
        if not isinstance(given, Sequence):
            self._was_called_by_scaler()
            raise TypeError(
                f"{type(self).__name__}.step needs one closure a domain, in a list, or a callable that returns it: "
                "optimizer.step(closures), with a GradScaler optimizer.step(closures, scaler=scaler) in place of "
                f"scaler.step(optimizer); got {type(given).__name__}"
            )
        return given

    def _called(self, given: Callable[[], Any]) -> list[Closure | None]:
        state = RandomState(self._trainable())
        with torch.no_grad(), self.statistics.untouched():
            found = list(given())
        if all(entry is None or callable(entry) for entry in found):
            return found
        state.set()
        return [lambda i=i: given()[i] for i in range(len(found))]

    def _step(
        self,
        first: Sequence[Closure | None],
        second: Sequence[Closure | None],
        loss_scale: float,
        weights: Sequence[float] | None = None,
        scaler: Any = None,
    ) -> Tensor:
        params = self._begin()
        scale = self._scale(params, loss_scale, scaler)
        indices, balance, shares = self._present(second, weights, params)
        K = len(indices)
        weight = self._weight(K)
        try:
            with self._together(), self.statistics.moved_once() as passes:
                domains = Domains(
                    [first[i] for i in indices],
                    [second[i] for i in indices],
                    params,
                    self.statistics,
                    passes,
                    indices=indices,
                    scale=scale,
                    replay_rng=self.replay_rng,
                    weight=weight,
                    balance=balance,
                    shares=shares,
                    cosine=K > 1
                    and self.steps_taken % COSINE_EVERY == 0
                    and (self._replicas is None or self._replicas.is_global),
                    shared=self._shared,
                    replicas=self._replicas,
                )
                self._add_directions(domains)
                domains.finish(self.steps_taken)
                if weight == 1.0:
                    torch._foreach_div_(domains.direction, K)
                self._report(domains)
        except Overflow as overflow:
            return self._skip(params, overflow, scaler)
        self._apply(params, domains.direction, domains.reached, scale, scaler)
        return self._losses(domains)

    def _present(
        self, closures: Sequence[Closure | None], weights: Sequence[float] | None, params: list[Tensor]
    ) -> tuple[list[int], list[float], list[float]]:
        """Which domains have samples, what each counts for (``Domains.balance``), and this rank's share of them."""
        name, K = type(self).__name__, len(closures)
        if not closures:
            raise ValueError(f"{name} needs at least one domain: closures is empty")
        if weights is not None:
            if not self._takes_weights:
                raise ValueError(f"{name} takes no weights in this form: all domains count alike")
            if len(weights) != K or not all(math.isfinite(w) and w >= 0 for w in weights):
                raise ValueError(
                    f"weights must be {K} finite numbers ≥ 0, one a closure; got {list(weights)}"
                )
        if self._shared is not None:  # None is another process's domain then
            return list(range(K)), [1.0] * K, [1.0] * K
        own = [0.0 if closure is None else 1.0 for closure in closures]
        if weights is not None:
            own = [weight * there for weight, there in zip(weights, own, strict=True)]
        total = own
        if self._replicas is not None:
            largest, smallest = self._replicas.most([K, -K], params[0].device)
            if largest != -smallest:
                raise ValueError(
                    f"the ranks came with {-smallest:.0f} to {largest:.0f} closures, this one with {K}: give one for "
                    "every domain on every rank, and None where a rank has no sample of it"
                )
            total = self._replicas.total(own, params[0].device)
        indices = [i for i in range(K) if total[i] > 0]
        if not indices:
            raise ValueError("no domain has a sample: every closure is None, or every weight 0")
        mean = sum(total) / len(indices)
        balance = [1.0 if weights is None else total[i] / mean for i in indices]
        return indices, balance, [own[i] / total[i] for i in indices]

    @property
    def _takes_weights(self) -> bool:
        return False

    def _losses(self, domains: Domains) -> Tensor:
        return domains.table[0 if domains.at_theta else 2].to(domains.params[0].dtype)

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
        at_once = self._checked_numbers(*self._checked(domains), domains.scale, self._losses(domains))
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
