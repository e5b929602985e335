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
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from roga_domainbed.optim.running_statistics import _MeanOfPasses
from roga_domainbed.optim.sharpness import (
    Closure,
    Pass,
    SharpnessOptimizer,
    add_scaled_,
    at_point,
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
    unit gradients); ``anchor="pooled"`` and ``gradient="exact"`` keep K gradients more.

    Args:
        params: parameters or groups of them.
        base_optimizer: class of the optimizer that makes the step.
        rho: radius of the perturbation, ≥ 0. Table VI finds 0.1 best.
        alpha: weight of the alignment term, ≥ 0. The text of V.A says 2e-4, Table VI finds 1e-3 best.
        terms: ``"both"``; ``"perturb"`` leaves the alignment out (α = 0), ``"align"`` the perturbation (ρ = 0):
            rows (d), (b) and (c) of Table III.
        anchor: ``"domain"`` or ``"pooled"``, see above.
        gradient: ``"first_order"`` or ``"exact"``, see above.
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
        own = {"rho": rho, "alpha": alpha}
        super().__init__(params, base_optimizer, own, model=model, replay_rng=replay_rng, **base_kwargs)
        self.terms, self.anchor, self.gradient = terms, anchor, gradient

    def step(self, closures: Sequence[Closure], loss_scale: float = 1.0) -> Tensor:
        """One step.

        Args:
            closures: one a domain; each returns the mean loss of its minibatch with its graph and calls no
                ``backward``. It is called two times (``exact``: three).
            loss_scale: what the closures multiply their losses with, for fp16; 1 otherwise.

        Returns:
            (K,) the losses at θ, detached, without the loss scale.

        Raises:
            NonFiniteError: if a loss or gradient is not finite; it names the domain, and nothing has moved.
        """
        closures = list(closures)
        if not closures:
            raise ValueError("RoGA needs at least one domain: closures is empty")
        params = self._params()
        domains = _Domains(params, measure_cosine=self.steps_taken % COSINE_EVERY == 0)
        estimate = self._first_order if self.gradient == "first_order" else self._exact
        with self.statistics.moved_once() as passes:
            estimate(closures, params, passes, loss_scale, domains)
            self.report = self._checked_report(domains)
        self._apply(params, domains.direction, domains.reached)
        return torch.stack(domains.losses)

    # --- the two estimators ----------------------------------------------------------------------------

    def _first_order(
        self,
        closures: list[Closure],
        params: list[Tensor],
        passes: _MeanOfPasses,
        loss_scale: float,
        domains: _Domains,
    ) -> None:
        if self.anchor == "domain":
            # One domain after the other, so that one gradient at a time is in memory.
            for closure in closures:
                first = self._first(closure, params, passes, loss_scale)
                domains.saw(first)
                point = self._point(params, first.grads, domains.norms[-1], anchor=first.grads)
                first.grads = []  # its memory holds the point now
                with at_point(params, point):
                    second = self._again(closure, params, first, loss_scale, weight=1 / len(closures))
                del point
                domains.add(second)
            return
        firsts = [self._first(closure, params, passes, loss_scale) for closure in closures]
        for first in firsts:
            domains.saw(first)
        anchor = _mean([first.grads for first in firsts])
        domains.anchor_norm = global_norm(anchor)
        for closure, first, norm in zip(closures, firsts, domains.norms, strict=True):
            with at_point(params, self._point(params, first.grads, norm, anchor)):
                domains.add(self._again(closure, params, first, loss_scale, weight=1 / len(closures)))

    def _exact(
        self,
        closures: list[Closure],
        params: list[Tensor],
        passes: _MeanOfPasses,
        loss_scale: float,
        domains: _Domains,
    ) -> None:
        firsts = [self._first(closure, params, passes, loss_scale) for closure in closures]
        for first in firsts:
            domains.saw(first)
        pooled = _mean([first.grads for first in firsts])
        if self.anchor == "pooled":
            domains.anchor_norm = global_norm(pooled)

        # h_i − α ∇²L_i(θ + ε_i) a_i; the h_i are kept, α weighs a_i and h_i group by group.
        perturbed: list[list[Tensor]] = []
        for closure, first, norm in zip(closures, firsts, domains.norms, strict=True):
            with at_point(params, self._point(params, first.grads, norm, anchor=None)):
                second = self._again(closure, params, first, loss_scale, create_graph=True)
                anchor = self._times_alpha(first.grads if self.anchor == "domain" else pooled)
                curved = _derivative(inner(second.grads, anchor), params)
            second.grads = [h.detach() for h in second.grads]
            perturbed.append(second.grads)
            domains.add(Pass(second.loss, torch._foreach_sub(second.grads, curved), second.reached, None))

        # ∇a_i · h_i: ∇²L_i(θ) h_i for the domain's own anchor; with the pooled one, ∇²L_j(θ) meets the mean of h.
        mean_perturbed = _mean(perturbed)
        for closure, first, h in zip(closures, firsts, perturbed, strict=True):
            at_theta = self._again(closure, params, first, loss_scale, create_graph=True)
            vector = self._times_alpha(h if self.anchor == "domain" else mean_perturbed)
            torch._foreach_sub_(domains.direction, _derivative(inner(at_theta.grads, vector), params))
        torch._foreach_div_(domains.direction, len(closures))

    @torch.no_grad()
    def _point(
        self, params: list[Tensor], grads: list[Tensor], norm: Tensor, anchor: list[Tensor] | None
    ) -> list[Tensor]:
        """θ + ε_i − α a_i, or θ + ε_i where ``anchor`` is None; ``grads`` is consumed if it is the anchor."""
        inverse = inverse_or_zero(norm)
        own = anchor is grads
        if self.terms == "perturb":
            anchor = None
        point: list[Tensor] = []
        for group, p, g, *rest in self._grouped(params, grads, *([anchor] if anchor else [])):
            scale = (0.0 if self.terms == "align" else group["rho"]) * inverse
            if own and anchor:
                point += moved(p, g, scale - group["alpha"], consume=True)
                continue
            part = moved(p, g, scale)
            if rest:
                torch._foreach_add_(part, rest[0], alpha=-group["alpha"])
            point += part
        return point

    def _times_alpha(self, tensors: list[Tensor]) -> list[Tensor]:
        scaled: list[Tensor] = []
        for group, t in self._grouped(tensors):
            scaled += torch._foreach_mul(t, 0.0 if self.terms == "perturb" else group["alpha"])
        return scaled

    def _checked_report(self, domains: _Domains) -> dict[str, float]:
        K = len(domains.losses)
        # Causes before consequences: with the pooled anchor one domain's NaN spoils every second pass.
        values = [("loss", i, loss) for i, loss in enumerate(domains.losses)]
        values += [("gradient norm", i, norm) for i, norm in enumerate(domains.norms)]
        values += [
            ("loss at the perturbed point", i, loss) for i, loss in enumerate(domains.perturbed_losses)
        ]
        values += [
            ("gradient norm at the perturbed point", i, norm)
            for i, norm in enumerate(domains.perturbed_norms)
        ]
        if self.gradient == "exact":  # otherwise it is the mean of gradients that were looked at
            values.append(("norm of the step's direction", None, global_norm(domains.direction)))
        measured = domains.measure_cosine and K > 1
        if measured:
            values.append(("cosine between domains", None, domains.mean_cosine()))
        if domains.anchor_norm is not None:
            values.append(("norm of the pooled gradient", None, domains.anchor_norm))
        floats = self._require_finite(values)
        losses, norms, perturbed = floats[:K], floats[K : 2 * K], floats[2 * K : 3 * K]
        report = {
            "loss": sum(losses) / K,
            "perturbed_loss": sum(perturbed) / K,
            "grad_norm": sum(norms) / K,
        }
        if measured:
            report["cosine"] = floats[-1 if domains.anchor_norm is None else -2]
        group = self.param_groups[0]
        if self.terms == "both" and group["rho"] > 0:
            for i, norm in enumerate(norms):
                anchor = norm if domains.anchor_norm is None else floats[-1]
                report[f"alpha_ratio_{i}"] = group["alpha"] * anchor / group["rho"]
        return report


class _Domains:
    """What one step gathers over its domains, without keeping the gradients."""

    def __init__(self, params: list[Tensor], measure_cosine: bool):
        self.losses: list[Tensor] = []
        self.perturbed_losses: list[Tensor] = []
        self.norms: list[Tensor] = []
        self.perturbed_norms: list[Tensor] = []
        self.reached = [False] * len(params)
        self.anchor_norm: Tensor | None = None
        self.measure_cosine = measure_cosine
        self.direction: list[Tensor] = []  # Σ of what ``add`` was given
        self._units: list[Tensor] = []  # Σ g_i / ‖g_i‖

    def saw(self, first: Pass) -> None:
        """Note a domain's pass at θ."""
        norm = global_norm(first.grads)
        self.losses.append(first.loss)
        self.norms.append(norm)
        self.reached = [a or b for a, b in zip(self.reached, first.reached, strict=True)]
        if not self.measure_cosine:
            return
        if self._units:
            add_scaled_(self._units, first.grads, inverse_or_zero(norm))
        else:
            self._units = list(torch._foreach_mul(first.grads, inverse_or_zero(norm)))

    def add(self, second: Pass) -> None:
        """Add a domain's direction."""
        self.perturbed_losses.append(second.loss)
        self.perturbed_norms.append(global_norm(second.grads))
        self.reached = [a or b for a, b in zip(self.reached, second.reached, strict=True)]
        if self.direction:
            torch._foreach_add_(self.direction, second.grads)
        else:
            self.direction = list(second.grads)

    def mean_cosine(self) -> Tensor:
        """Mean of cos(g_i, g_j) over i ≠ j, from ‖Σ g_i/‖g_i‖‖² = n + Σ_{i≠j} cos(g_i, g_j).

        n counts the domains with a gradient; where fewer than two have one, 0.
        """
        n = sum((norm > torch.finfo(norm.dtype).tiny).to(norm.dtype) for norm in self.norms)
        pairs = n * (n - 1)
        return torch.where(pairs > 0, (global_norm(self._units) ** 2 - n) / pairs.clamp(min=1), pairs)


def _mean(vectors: list[list[Tensor]]) -> list[Tensor]:
    total = [t.clone() for t in vectors[0]]
    for vector in vectors[1:]:
        torch._foreach_add_(total, vector)
    torch._foreach_div_(total, len(vectors))
    return total


def _derivative(scalar: Tensor, params: list[Tensor]) -> list[Tensor]:
    """∇ scalar, with zeros where it does not depend on a parameter (a linear loss has no curvature)."""
    if not scalar.requires_grad:
        return [torch.zeros_like(p) for p in params]
    grads = torch.autograd.grad(scalar, params, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for g, p in zip(grads, params, strict=True)]
