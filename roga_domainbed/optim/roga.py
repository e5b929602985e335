"""RoGA: robust gradient alignment (Qiu, Jiang, Tan; arXiv:2505.20653).

K domains, L_i the mean loss on domain i's minibatch, g_i = ∇L_i(θ), ‖·‖ over all trainable parameters:

    ε_i  = ρ g_i / ‖g_i‖                                                        (Eq. 4, 5)
    J(θ) = 1/K Σ_i [ L_i(θ + ε_i) − α ⟨∇L_i(θ + ε_i), a_i⟩ ]                    (Eq. 6)

ε_i is a constant in the differentiation (the paper decouples it). The anchor a_i is g_i as in Eq. 6
(``anchor="domain"``), or g = 1/K Σ g_j, the main direction that the prose of section IV.B speaks of
(``anchor="pooled"``). Two estimators of ∇J:

    first_order   1/K Σ h_i,  h_i = ∇L_i(θ + ε_i − α a_i)
                  by Taylor L_i(θ + ε_i) − α⟨∇L_i(θ + ε_i), a_i⟩ = L_i(θ + ε_i − α a_i) + O(α²), with a_i held
                  constant; two gradients of each minibatch, twice ERM
    exact         1/K Σ [ h_i − α (∇²L_i(θ + ε_i) a_i + ∇a_i · h_i) ],  h_i = ∇L_i(θ + ε_i)
                  by double backward; three passes of each minibatch, two of them differentiated twice, and
                  their graphs in memory: for tests, ablations and small models

How much the second term weighs: it moves the ascent point by α‖g_i‖ against ρ. At the paper's α = 2e-4 and
gradient norms of 1 to 3 that is well under one percent of ρ = 0.1; ``report["alpha_ratio_<i>"]`` = α‖a_i‖/ρ says
what it is in your run.

Cheaper, each off by default and each an approximation of the above (docs/roga-cost.md has what they cost and lose):

    perturbed=S   the ascent moves the parameters in S alone: g_i = ∇_S L_i(θ), ‖·‖ over S, θ + ε_i − α a_i on S. The
                  pass at θ differentiates with respect to S only
    ascent_closures   g_i is the gradient of another closure of domain i, of a part of its minibatch say
    every=N       d_i = ε_i − α a_i is measured in steps 0, N, 2N, …; the others reuse it: 1/K Σ ∇L_i(θ + d_i), one
                  gradient of each minibatch. In those no pass is at θ, so the pass at θ + d_i moves the batch-norm
                  buffers
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn

from roga_domainbed.optim.across_ranks import copy_from_first_rank_, sum_over_ranks_
from roga_domainbed.optim.domain_sums import DomainSums
from roga_domainbed.optim.replay import Streams
from roga_domainbed.optim.running_statistics import MeanOfPasses
from roga_domainbed.optim.sharpness import (
    Closure,
    Pass,
    SharpnessOptimizer,
    at_point,
    evaluate,
    global_norm,
    inner,
    inverse_or_zero,
    moved,
)

TERMS = ("both", "perturb", "align")
ANCHORS = ("domain", "pooled")
GRADIENTS = ("first_order", "exact")
COSINE_EVERY = 10  # steps; measuring it passes over all gradients once more


class RoGA(SharpnessOptimizer):
    """Step along the mean of the domains' gradients, each at its own aligned ascent point.

    Peak memory beyond ERM's: three copies of the parameters whatever K (ascent point, sum of directions, sum of
    unit gradients); ``anchor="pooled"`` and ``gradient="exact"`` keep K gradients more, ``every`` K displacements.

    What a closure draws from torch's generators is a function of their state before the step, of the domain and of
    the pass, not of the order in which domains are evaluated.

    Args:
        params: parameters or groups of them.
        base_optimizer: class of the optimizer that makes the step.
        rho: radius of the perturbation, ≥ 0. Table VI finds 0.1 best.
        alpha: weight of the alignment term, ≥ 0. The text of V.A says 2e-4, Table VI finds 1e-3 best.
        terms: ``"both"``; ``"perturb"`` leaves the alignment out (α = 0), ``"align"`` the perturbation (ρ = 0):
            rows (d), (b) and (c) of Table III.
        anchor: ``"domain"`` or ``"pooled"``, see above.
        gradient: ``"first_order"`` or ``"exact"``, see above.
        perturbed: the parameters that the ascent moves; None for all.
        every: measure the displacements in one of so many steps, ≥ 1; ``first_order`` only.
        model: where batch-norm buffers are protected; None if there are none.
        replay_rng: give all passes of a domain the same dropout mask.
        **base_kwargs: arguments of the base optimizer (lr, momentum, …).
    """

    def __init__(
        self,
        params: Any,
        base_optimizer: type[torch.optim.Optimizer] = torch.optim.SGD,
        *,
        rho: float = 0.1,
        alpha: float = 2e-4,
        terms: str = "both",
        anchor: str = "domain",
        gradient: str = "first_order",
        perturbed: Iterable[Tensor] | None = None,
        every: int = 1,
        model: nn.Module | None = None,
        replay_rng: bool = False,
        **base_kwargs: Any,
    ):
        for name, value, allowed in (
            ("terms", terms, TERMS),
            ("anchor", anchor, ANCHORS),
            ("gradient", gradient, GRADIENTS),
        ):
            if value not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {value!r}")
        if every < 1 or every != int(every):
            raise ValueError(f"every must be a whole number of at least 1; got {every!r}")
        if every > 1 and gradient == "exact":
            raise ValueError(
                "every above 1 goes with gradient 'first_order': the exact one has no displacement"
            )
        own = {"rho": rho, "alpha": alpha}
        super().__init__(params, base_optimizer, own, model=model, replay_rng=replay_rng, **base_kwargs)
        self.terms, self.anchor, self.gradient, self.every = terms, anchor, gradient, int(every)
        self.perturbed = None if perturbed is None else list(perturbed)
        if self.perturbed is not None and not self._moving(self._params()):
            raise ValueError("perturbed has none of the optimizer's trainable parameters")
        self._displacements: list[list[Tensor]] = []  # d_i on the perturbed parameters, where every > 1
        self._group: Any = None

    # --- processes that share the domains --------------------------------------------------------------

    def share_domains(self, group: Any = None) -> None:
        """From now on the processes of ``group`` share each step's domains.

        Every process calls ``step`` with all K closures, in the same order, and evaluates those whose index i is
        its rank modulo the number of processes; the others may be None. One all-reduce then makes the step that
        one process would have made, batch-norm buffers included (``anchor="pooled"`` needs another before it).
        The weights and buffers of the group's first process are copied to the others here, and stay equal.

        Args:
            group: a process group of ``torch.distributed``; None for the default one.
        """
        group = distributed.group.WORLD if group is None else group
        if self.every > 1 and group.size() > 1:
            raise ValueError(
                "every above 1 keeps each domain's displacement in the process that measured it, where a checkpoint "
                "of the first process would miss it: use one process, or every=1"
            )
        self._group = group
        buffers = [] if self.model is None else list(self.model.buffers())
        everything = [p.data for param_group in self.param_groups for p in param_group["params"]]
        copy_from_first_rank_([*everything, *buffers], group)

    def own_domains(self, n_domains: int) -> range:
        """Indices of the domains that this process evaluates; all of them unless ``share_domains`` was called."""
        if self._group is None:
            return range(n_domains)
        return range(self._group.rank(), n_domains, self._group.size())

    # --- a step ----------------------------------------------------------------------------------------

    def step(
        self,
        closures: Sequence[Closure],
        loss_scale: float = 1.0,
        *,
        ascent_closures: Sequence[Closure] | None = None,
    ) -> Tensor:
        """One step.

        Args:
            closures: one a domain; each returns the mean loss of its minibatch with its graph and calls no
                ``backward``. It is called two times (``exact``: three; a step that reuses displacements: once).
            loss_scale: what the closures multiply their losses with, for fp16; 1 otherwise.
            ascent_closures: one a domain, for the pass at θ; None for ``closures``.

        Returns:
            (K,) the losses at θ, detached, without the loss scale; at the displaced points in a step that reuses
            displacements.

        Raises:
            NonFiniteError: if a loss or gradient is not finite; it names the domain, and nothing has moved.
        """
        closures = list(closures)
        ascents = closures if ascent_closures is None else list(ascent_closures)
        if not closures:
            raise ValueError("RoGA needs at least one domain: closures is empty")
        if len(ascents) != len(closures):
            raise ValueError(
                f"{len(closures)} closures and {len(ascents)} ascent closures: one each a domain"
            )
        if ascent_closures is not None and self.replay_rng:
            raise ValueError(
                "replay_rng needs the same samples in every pass: leave it off, or the ascent closures"
            )
        params = self._begin()
        moving = self._moving(params)
        reuse = self.steps_taken % self.every > 0 and len(self._displacements) == len(closures)
        cosine = not reuse and self.steps_taken % COSINE_EVERY == 0
        sums = DomainSums(params, moving, len(closures), cosine=cosine)
        with self.statistics.moved_once() as passes:
            run = _Run(self, closures, ascents, params, moving, passes, loss_scale, sums)
            if reuse:
                self._reuse(run)
            elif self.gradient == "exact":
                self._exact(run)
            else:
                self._first_order(run)
            if self._group is not None:
                sums.over_ranks(passes, self._group, self.steps_taken)
            if self.gradient == "exact" or self._group is not None:
                torch._foreach_div_(sums.direction, len(closures))
            rho, alpha = (self.param_groups[0][name] for name in ("rho", "alpha"))
            numbers, entries, losses = sums.numbers(
                self.steps_taken,
                at_theta=not reuse,
                look_at_direction=self.gradient == "exact",
                alpha_ratio=alpha / rho if self.terms == "both" and rho > 0 else None,
            )
            self._take(numbers, entries, sums.reached, passes)
        self._apply(params, sums.direction, sums.reached)
        return losses

    def _first_order(self, run: _Run) -> None:
        keep = self.every > 1
        self._displacements = []
        if self.anchor == "domain":
            # One domain after the other, so that one gradient at a time is in memory.
            for i in run.domains:
                first = run.at_theta(i)
                norm = run.sums.saw(i, first)
                point = self._point(run.moving, first.grads, norm, first.grads, keep)
                first.grads = []  # its memory holds the point now
                self._descend(run, i, point)
                del point
            return
        firsts = [run.at_theta(i) for i in run.domains]
        norms = [run.sums.saw(i, first) for i, first in zip(run.domains, firsts, strict=True)]
        anchor = run.mean([first.grads for first in firsts], run.moving)
        run.sums.anchor_norm = global_norm(anchor)
        for i, first, norm in zip(run.domains, firsts, norms, strict=True):
            self._descend(run, i, self._point(run.moving, first.grads, norm, anchor, keep))

    def _descend(self, run: _Run, domain: int, point: list[Tensor]) -> None:
        with at_point(run.moving, point):
            run.sums.add(domain, run.again(domain, weight=run.weight))

    def _reuse(self, run: _Run) -> None:
        for i in run.domains:
            with run.passes.one(), at_point(run.moving, _added(run.moving, self._displacements[i])):
                run.sums.add(i, run.once(i, weight=run.weight))

    def _exact(self, run: _Run) -> None:
        firsts = [run.at_theta(i) for i in run.domains]
        norms = [run.sums.saw(i, first) for i, first in zip(run.domains, firsts, strict=True)]
        pooled = run.mean([first.grads for first in firsts], run.moving) if self.anchor == "pooled" else []
        if self.anchor == "pooled":
            run.sums.anchor_norm = global_norm(pooled)

        # h_i − α ∇²L_i(θ + ε_i) a_i; the h_i are kept, α weighs a_i and h_i group by group.
        perturbed: list[list[Tensor]] = []
        for i, first, norm in zip(run.domains, firsts, norms, strict=True):
            with at_point(run.moving, self._point(run.moving, first.grads, norm, anchor=None)):
                second = run.again(i, create_graph=True)
                anchor = self._times_alpha(run.moving, first.grads if self.anchor == "domain" else pooled)
                curved = _derivative(inner(run.of_moving(second.grads), anchor), run.params)
            second.grads = [h.detach() for h in second.grads]
            perturbed.append(run.of_moving(second.grads))
            run.sums.add(i, Pass(second.loss, torch._foreach_sub(second.grads, curved), second.reached, None))

        # ∇a_i · h_i: ∇²L_i(θ) h_i for the domain's own anchor; with the pooled one, ∇²L_j(θ) meets the mean of h.
        mean = run.mean(perturbed, run.moving) if self.anchor == "pooled" else []
        for i, h in zip(run.domains, perturbed, strict=True):
            at_theta = run.at_theta_again(i)
            vector = self._times_alpha(run.moving, h if self.anchor == "domain" else mean)
            torch._foreach_sub_(run.sums.direction, _derivative(inner(at_theta.grads, vector), run.params))

    def _moving(self, params: list[Tensor]) -> list[Tensor]:
        if self.perturbed is None:
            return params
        here = {id(p) for p in self.perturbed}
        return [p for p in params if id(p) in here]

    @torch.no_grad()
    def _point(
        self,
        params: list[Tensor],
        grads: list[Tensor],
        norm: Tensor,
        anchor: list[Tensor] | None,
        keep: bool = False,
    ) -> list[Tensor]:
        """θ + ε_i − α a_i, or θ + ε_i where ``anchor`` is None; ``grads`` is consumed if it is the anchor.

        With ``keep`` the displacement is put down among those of the other domains.
        """
        inverse = inverse_or_zero(norm)
        own = anchor is grads
        if self.terms == "perturb":
            anchor = None
        start = [torch.zeros_like(p) for p in params] if keep else params
        point: list[Tensor] = []
        for group, _, g, *rest in self._grouped(params, grads, *([anchor] if anchor else []), start):
            *rest, origin = rest
            scale = (0.0 if self.terms == "align" else group["rho"]) * inverse
            if own and anchor:
                point += moved(origin, g, scale - group["alpha"], consume=True)
                continue
            part = moved(origin, g, scale)
            if rest:
                torch._foreach_add_(part, rest[0], alpha=-group["alpha"])
            point += part
        if not keep:
            return point
        self._displacements.append(point)
        return _added(params, point)

    def _times_alpha(self, params: list[Tensor], tensors: list[Tensor]) -> list[Tensor]:
        scaled: list[Tensor] = []
        for group, _, t in self._grouped(params, tensors):
            scaled += torch._foreach_mul(t, 0.0 if self.terms == "perturb" else group["alpha"])
        return scaled

    # --- state -----------------------------------------------------------------------------------------

    def state_dict(self) -> dict:
        """As for every sharpness optimizer; with ``every`` above 1 also the displacements to be reused."""
        state = super().state_dict()
        if self.every > 1:
            state["displacements"] = self._displacements
        return state

    def load_state_dict(self, state_dict: dict) -> None:
        """Load what ``state_dict`` gave; without displacements the next step measures them."""
        state_dict = dict(state_dict)
        saved = state_dict.pop("displacements", [])
        super().load_state_dict(state_dict)
        moving = self._moving(self._params())
        if any([d.shape for d in domain] != [p.shape for p in moving] for domain in saved):
            raise ValueError(
                "the saved displacements belong to other parameters than those that are perturbed here"
            )
        self._displacements = [
            [d.detach().to(p.device, p.dtype, copy=True) for d, p in zip(domain, moving, strict=True)]
            for domain in saved
        ]


@dataclass
class _Run:
    """The passes of one step."""

    optimizer: RoGA
    closures: list[Closure]
    ascents: list[Closure]
    params: list[Tensor]
    moving: list[Tensor]
    passes: MeanOfPasses
    loss_scale: float
    sums: DomainSums

    def __post_init__(self) -> None:
        self.domains = self.optimizer.own_domains(len(self.closures))
        self.streams = Streams(self.params)
        # 1/K costs nothing on the way back; processes that share domains divide the sum they all have.
        self.weight = 1 / len(self.closures) if self.optimizer._group is None else 1.0
        positions = {id(p): position for position, p in enumerate(self.params)}
        self._positions = [positions[id(p)] for p in self.moving]

    def of_moving(self, tensors: list[Tensor]) -> list[Tensor]:
        """Of one tensor a parameter, those of the parameters that the ascent moves."""
        return [tensors[position] for position in self._positions]

    def at_theta(self, domain: int) -> Pass:
        """The ascent's pass at θ, which moves the batch-norm buffers."""
        with self.passes.one(), self.streams.of(domain, 0):
            return evaluate(self.ascents[domain], self.moving, loss_scale=self.loss_scale)

    def at_theta_again(self, domain: int) -> Pass:
        """The same with the graph of its gradients; buffers untouched."""
        with self._unseen(domain, 2):
            return evaluate(self.ascents[domain], self.moving, loss_scale=self.loss_scale, create_graph=True)

    def again(self, domain: int, *, weight: float = 1.0, create_graph: bool = False) -> Pass:
        """A further pass of a domain, wherever the parameters are; buffers untouched."""
        with self._unseen(domain, 1):
            return self._descent(domain, weight, create_graph)

    def once(self, domain: int, *, weight: float) -> Pass:
        """The only pass of a domain in a step that reuses displacements."""
        with self.streams.of(domain, 1):
            return self._descent(domain, weight, False)

    @contextmanager
    def _unseen(self, domain: int, number: int) -> Iterator[None]:
        number = 0 if self.optimizer.replay_rng else number
        with self.optimizer.statistics.untouched(), self.streams.of(domain, number):
            yield

    def _descent(self, domain: int, weight: float, create_graph: bool) -> Pass:
        return evaluate(
            self.closures[domain],
            self.params,
            loss_scale=self.loss_scale,
            weight=weight,
            create_graph=create_graph,
        )

    def mean(self, vectors: list[list[Tensor]], like: list[Tensor]) -> list[Tensor]:
        """1/K Σ over all domains, also those of other processes."""
        total = [t.clone() for t in vectors[0]] if vectors else [torch.zeros_like(t) for t in like]
        for vector in vectors[1:]:
            torch._foreach_add_(total, vector)
        if self.optimizer._group is not None:
            sum_over_ranks_(total, self.optimizer._group)
        torch._foreach_div_(total, len(self.closures))
        return total


def _added(params: list[Tensor], displacement: list[Tensor]) -> list[Tensor]:
    return list(torch._foreach_add([p.detach() for p in params], displacement))


def _derivative(scalar: Tensor, params: list[Tensor]) -> list[Tensor]:
    """∇ scalar, with zeros where it does not depend on a parameter (a linear loss has no curvature)."""
    if not scalar.requires_grad:
        return [torch.zeros_like(p) for p in params]
    grads = torch.autograd.grad(scalar, params, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for g, p in zip(grads, params, strict=True)]
