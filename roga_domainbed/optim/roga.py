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
                  by double backward (``exact``): for tests, ablations and small models

How much the second term weighs: it moves the ascent point by α‖g_i‖ against ρ. At the paper's α = 2e-4 and
gradient norms of 1 to 3 that is well under one percent of ρ = 0.1; ``report["alpha_ratio_<i>"]`` = α‖a_i‖/ρ says
what it is in your run. ``cheaper`` has forms that cost less, ``over_ranks`` processes that share the domains.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from roga_domainbed.optim.domains import Domains
from roga_domainbed.optim.exact import add_exact_gradients
from roga_domainbed.optim.finite import Label
from roga_domainbed.optim.per_domain import PerDomain
from roga_domainbed.optim.vectors import global_norm, inverse_or_zero, moved

TERMS = ("both", "perturb", "align")
ANCHORS = ("domain", "pooled")
GRADIENTS = ("first_order", "exact")


def ascent_point(
    theta: Sequence[Tensor],
    g: Sequence[Tensor],
    norm: Tensor,
    rho: float,
    alpha: float = 0.0,
    anchor: Sequence[Tensor] | None = None,
    *,
    consume: bool = False,
) -> list[Tensor]:
    """θ + ε − α a with ε = ρ g / ‖g‖.

    Args:
        theta: one tensor a parameter, as are ``g`` and ``anchor``.
        g: the domain's gradient at θ.
        norm: ‖g‖ over all parameters, also where the lists are those of one group.
        rho: ρ.
        alpha: α.
        anchor: a; None for ``g`` itself, where the point is θ + (ρ/‖g‖ − α) g.
        consume: put the point into the memory of ``g``.
    """
    radius = rho * inverse_or_zero(norm)
    if anchor is None:
        return moved(theta, g, radius - alpha, consume=consume)
    point = moved(theta, g, radius, consume=consume)
    torch._foreach_add_(point, list(anchor), alpha=-alpha)
    return point


class RoGA(PerDomain):
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
        **kwargs: what every ``SharpnessOptimizer`` takes, ``model`` and ``lr`` among them.
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
        **kwargs: Any,
    ):
        for name, value, allowed in (
            ("terms", terms, TERMS),
            ("anchor", anchor, ANCHORS),
            ("gradient", gradient, GRADIENTS),
        ):
            if value not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {value!r}")
        super().__init__(params, base_optimizer, {"rho": rho, "alpha": alpha}, **kwargs)
        if gradient == "exact" and self._replicas is not None and self._replicas.size > 1:
            raise ValueError("gradient 'exact' takes its steps in one process: choose 'first_order'")
        self.terms, self.anchor, self.gradient = terms, anchor, gradient

    DATA_PARALLEL = True

    @property
    def _takes_weights(self) -> bool:
        return self._shared is None and self.gradient == "first_order"

    def _weight(self, K: int) -> float:
        # What processes share, and the exact gradient's curvature, is summed.
        return 1.0 if self._shared is not None or self.gradient == "exact" else 1 / K

    def _add_directions(self, domains: Domains) -> None:
        """Add Σ ∇L_i(θ + ε_i − α a_i), or its exact counterpart, to the direction of ``domains``."""
        domains.counts_first_passes = False
        if self.gradient == "exact":
            add_exact_gradients(domains, self.anchor == "pooled", self._perturbed, self._times_alpha)
        elif self.anchor == "pooled":
            firsts = [domains.first_pass(i) for i in domains.own]
            anchor = domains.pooled_anchor([g for g, _ in firsts])
            for i, (g, norm) in zip(domains.own, firsts, strict=True):
                domains.second_pass(i, self._aligned(domains.params, g, norm, anchor))
        else:
            # One domain after the other, so that one gradient at a time is in memory.
            for i in domains.own:
                domains.second_pass(i, self._aligned(domains.params, *domains.first_pass(i)))

    @torch.no_grad()
    def _aligned(
        self, theta: list[Tensor], g: list[Tensor], norm: Tensor, anchor: list[Tensor] | None = None
    ) -> list[Tensor]:
        """θ + ε − α a, in the memory of ``g``."""
        point: list[Tensor] = []
        for group, p, own, *rest in self._grouped(theta, g, *([] if anchor is None else [anchor])):
            point += ascent_point(p, own, norm, self._rho(group), self._alpha(group), *rest, consume=True)
        return point

    @torch.no_grad()
    def _perturbed(self, theta: list[Tensor], g: list[Tensor], norm: Tensor) -> list[Tensor]:
        """θ + ε."""
        groups = self._grouped(theta, g)
        return [t for group, p, own in groups for t in ascent_point(p, own, norm, self._rho(group))]

    def _times_alpha(self, vector: list[Tensor]) -> list[Tensor]:
        groups = self._grouped(vector)
        return [t for group, v in groups for t in torch._foreach_mul(v, self._alpha(group))]

    def _rho(self, group: dict[str, Any]) -> float:
        return 0.0 if self.terms == "align" else group["rho"]

    def _alpha(self, group: dict[str, Any]) -> float:
        return 0.0 if self.terms == "perturb" else group["alpha"]

    def _checked(self, domains: Domains) -> tuple[Tensor, list[Label]]:
        values, labels = super()._checked(domains)
        if self.gradient == "exact":  # its curvature is in no pass's gradient
            values = torch.cat([values, global_norm(domains.direction).double().view(1)])
            labels = [*labels, ("norm of the step's direction", None)]
        return values, labels

    def _report(self, domains: Domains) -> bool:
        at_once = super()._report(domains)
        rho, alpha = self.param_groups[0]["rho"], self.param_groups[0]["alpha"]
        if domains.at_theta and self.terms == "both" and rho > 0:
            norms = domains.table[1]
            if domains.anchor_norm is not None:
                norms = domains.anchor_norm.detach().expand(domains.K)
            for i, norm in zip(domains.indices, norms.tolist() if at_once else norms, strict=True):
                self.report[f"alpha_ratio_{i}"] = norm * (alpha / rho)
        return at_once

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
        from roga_domainbed.optim.over_ranks import SharedDomains  # a run in one process does without it

        if self._replicas is not None:
            raise ValueError(
                "ranks that hold the model alike take the steps of this optimizer: they cannot share its domains, too"
            )
        self._shared = SharedDomains(group)
        buffers = [] if self.model is None else list(self.model.buffers())
        everything = [p.data for param_group in self.param_groups for p in param_group["params"]]
        self._shared.copy_from_first_([*everything, *buffers])

    def own_domains(self, n_domains: int) -> range:
        """Indices of the domains that this process evaluates; all of them unless ``share_domains`` was called."""
        return range(n_domains) if self._shared is None else self._shared.own(n_domains)
