"""The passes of one step, domain by domain, and what they add up to; no domain's gradient is kept here."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.profiler import record_function

from roga_domainbed.optim.batch_norm import MeanOfPasses, RunningStatistics
from roga_domainbed.optim.finite import Label
from roga_domainbed.optim.passes import Closure, Pass, Scale, at_point, evaluate
from roga_domainbed.optim.random_streams import Streams
from roga_domainbed.optim.replicas import Replicas
from roga_domainbed.optim.vectors import add_scaled_, global_norm, inverse_or_zero, stacked

# Causes before consequences: with the pooled anchor one domain's NaN spoils every second pass.
ROWS = ("loss", "gradient norm", "loss at the perturbed point", "gradient norm at the perturbed point")


@dataclass
class Domains:
    """K domains, each with a closure for its pass at θ and one for its pass at the ascent point.

    Attributes:
        first: K closures for the passes at θ; None where this rank has no sample of a domain that another has.
        second: K closures for the passes at the ascent points, mostly the same.
        indices: of the domains among those that the optimizer was given.
        params: the trainable parameters.
        statistics: of the optimizer's model.
        passes: the batch-norm buffers of this step.
        scale: of the losses.
        replay_rng: whether all passes of a domain draw the same random numbers.
        weight: factor of the second passes' gradients, where domains count alike.
        balance: K numbers with the mean 1: what each domain counts for.
        shares: K numbers: what this rank's samples are of all ranks' samples of the domain.
        cosine: whether to measure the cosine between domains.
        shared: ``over_ranks.SharedDomains``; None where one process has all domains.
        replicas: ``replicas.Replicas``; None where one process has all samples.
        own: indices of the domains that this process evaluates.
        direction: the sum of the second passes' gradients.
        reached: whether a pass reached each parameter.
        units: Σ g_i / ‖g_i‖; empty unless the cosine is measured.
        at_theta: whether the step has passes at θ.
        counts_first_passes: whether their gradients are part of the direction, so that ``reached`` has them.
        perturbed: whether it has passes at other points.
        anchor_norm: of the mean gradient, where it is the anchor.
        table: (4, K) float64 after ``finish``: ``ROWS`` by domain, zeros where there was no such pass.
    """

    first: Sequence[Closure | None]
    second: Sequence[Closure | None]
    params: list[Tensor]
    statistics: RunningStatistics
    passes: MeanOfPasses
    indices: Sequence[int]
    scale: Scale
    replay_rng: bool
    weight: float
    balance: Sequence[float]
    shares: Sequence[float]
    cosine: bool
    shared: Any
    replicas: Replicas | None

    def __post_init__(self) -> None:
        self.own = range(self.K) if self.shared is None else self.shared.own(self.K)
        self.direction: list[Tensor] = []
        self.reached = [False] * len(self.params)
        self.units: list[Tensor] = []
        self.at_theta = self.perturbed = self.counts_first_passes = True
        self.anchor_norm: Tensor | None = None
        self._streams = Streams(self.params)
        self._numbers: dict[tuple[int, int], Tensor] = {}

    @property
    def K(self) -> int:
        """The number of domains, over all processes."""
        return len(self.second)

    def first_pass(self, domain: int) -> tuple[list[Tensor], Tensor]:
        """The gradient and its norm where the parameters are, mostly θ; this pass moves the batch-norm buffers."""
        if self.first[domain] is None:
            found = self._nothing()
        else:
            with record_function("first pass"), self.passes.one(), self._stream(domain, 0):
                found = self._evaluate(self.first[domain])
        if self.replicas is not None and self.replicas.is_global:
            torch._foreach_mul_([*found.grads, found.loss], self.shares[domain])
            self.replicas.add_up_([*found.grads, found.loss], found)
        if self.counts_first_passes:
            self._reach(found)
        norm = global_norm(found.grads)
        self._note(0, domain, found.loss, norm)
        if self.cosine and self.units:
            add_scaled_(self.units, found.grads, inverse_or_zero(norm))
        elif self.cosine:
            self.units = list(torch._foreach_mul(found.grads, inverse_or_zero(norm)))
        return found.grads, norm

    def second_pass(self, domain: int, point: list[Tensor]) -> None:
        """Add the gradient at ``point`` to the direction; buffers untouched."""
        if self.second[domain] is not None:
            with at_point(self.params, point):
                self.add(domain, self.again(domain, weight=self._factor(domain)))

    def again(self, domain: int, *, number: int = 1, weight: float = 1.0, create_graph: bool = False) -> Pass:
        """A further pass of a domain, wherever the parameters are; buffers untouched.

        Args:
            domain: its index.
            number: 1 for the pass at the ascent point, above it for another one: what is drawn at random is a
                function of it, and the same for all with ``replay_rng``.
            weight: factor of the gradients.
            create_graph: keep the graph of the gradients.
        """
        closure = (self.second if number == 1 else self.first)[domain]
        number = 0 if self.replay_rng else number
        with (
            record_function("second pass"),
            self.statistics.untouched(),
            self._stream(domain, number),
        ):
            return self._evaluate(closure, weight, create_graph)

    def only_pass(self, domain: int, point: list[Tensor]) -> None:
        """Add the gradient at ``point`` of a domain that has no pass at θ: this one moves the buffers."""
        self.at_theta = False
        if self.second[domain] is None:
            return
        with (
            record_function("second pass"),
            self.passes.one(),
            at_point(self.params, point),
            self._stream(domain, 1),
        ):
            self.add(domain, self._evaluate(self.second[domain], self._factor(domain)))

    def add(self, domain: int, found: Pass, share: float = 1.0) -> None:
        """Add a domain's gradient to the direction; its loss counts for ``share`` of the domain's."""
        self._note(2, domain, found.loss * share, global_norm(found.grads))
        self._reach(found)
        if self.direction:
            torch._foreach_add_(self.direction, found.grads)
        else:
            self.direction = list(found.grads)

    def mean(self, vectors: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        """1/K Σ over all domains, of this process's ``vectors`` and those of others; each counts as in ``balance``."""
        total = [torch.zeros_like(p) for p in self.params]
        if vectors:
            total = list(torch._foreach_mul(list(vectors[0]), self.balance[self.own[0]]))
        for domain, vector in zip(self.own[1:], vectors[1:], strict=True):
            torch._foreach_add_(total, vector, alpha=self.balance[domain])
        if self.shared is not None:
            self.shared.sum_(total)
        torch._foreach_div_(total, self.K)
        return total

    def pooled_anchor(self, grads: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        """The mean gradient of all domains, whose norm is kept for the records."""
        anchor = self.mean(grads)
        self.anchor_norm = global_norm(anchor).double()
        return anchor

    def blame_first(self, order: Sequence[int]) -> None:
        """Make the error name the first pass that is not finite, where each starts from the one before.

        Every pass after it is NaN too: their numbers become 0.

        Args:
            order: of the domains' passes, after which the first domain has another.
        """
        keys = [(row, domain) for domain in order for row in (0, 1)] + [(row, order[0]) for row in (2, 3)]
        fine = torch.isfinite(self._numbers[keys[0]])
        for key in keys[1:]:
            value = self._numbers[key]
            self._numbers[key] = torch.where(fine, value, torch.zeros_like(value))
            fine = fine & torch.isfinite(value)

    def finish(self, step: int) -> None:
        """Make the table, and add what other processes have.

        Args:
            step: the optimizer's step.

        Raises:
            RogaError: the processes that share the domains are at different steps.
        """
        none = self.params[0].new_zeros(())
        numbers = [self._numbers.get((row, i), none) for row in range(len(ROWS)) for i in range(self.K)]
        self.table = stacked(numbers).double().view(len(ROWS), self.K)
        if self.shared is not None:
            self.shared.add_up(self, step)
        elif self.replicas is not None:
            if not self.direction:  # this rank has no sample
                self.direction = [torch.zeros_like(p) for p in self.params]
            of_ranks = self.table[2:] if self.replicas.is_global else self.table
            self.replicas.add_up_([*self.direction, of_ranks], self)

    def labels(self) -> list[Label]:
        """What the numbers of ``table`` are, row by row."""
        return [(row, index) for row in ROWS for index in self.indices]

    def mean_cosine(self) -> Tensor:
        """Mean of cos(g_i, g_j) over i ≠ j, from ‖Σ g_i/‖g_i‖‖² = n + Σ_{i≠j} cos(g_i, g_j).

        n counts the domains with a gradient; where fewer than two have one, 0.
        """
        norms = self.table[1].to(self.params[0].dtype)
        n = (norms > torch.finfo(norms.dtype).tiny).sum().to(norms.dtype)
        pairs = n * (n - 1)
        return torch.where(pairs > 0, (global_norm(self.units) ** 2 - n) / pairs.clamp(min=1), pairs)

    def _evaluate(self, closure: Closure, weight: float = 1.0, create_graph: bool = False) -> Pass:
        return evaluate(closure, self.params, self.scale, weight=weight, create_graph=create_graph)

    def _nothing(self) -> Pass:
        zeros = [torch.zeros_like(p) for p in self.params]
        return Pass(self.params[0].new_zeros(()), zeros, [False] * len(self.params))

    def _factor(self, domain: int) -> float:
        return self.weight * self.balance[domain] * self.shares[domain]

    def _stream(self, domain: int, number: int) -> AbstractContextManager[None]:
        return self._streams.of(self.indices[domain], number)

    def _reach(self, found: Pass) -> None:
        self.reached = [a or b for a, b in zip(self.reached, found.reached, strict=True)]

    def _note(self, row: int, domain: int, loss: Tensor, norm: Tensor) -> None:
        if self.replicas is not None and (
            row > 0 or not self.replicas.is_global
        ):  # the ranks' mean is wanted
            loss, norm = loss * self.shares[domain], norm * self.shares[domain]
        for key, value in (((row, domain), loss), ((row + 1, domain), norm)):
            self._numbers[key] = self._numbers[key] + value if key in self._numbers else value
