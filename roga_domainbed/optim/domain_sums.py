"""What one step of RoGA gathers over its domains, without keeping their gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from roga_domainbed.errors import RogaError
from roga_domainbed.optim.across_ranks import sum_over_ranks_
from roga_domainbed.optim.finite import Entry, Label, StepNumbers, stacked
from roga_domainbed.optim.running_statistics import MeanOfPasses
from roga_domainbed.optim.sharpness import Pass, add_scaled_, global_norm, inverse_or_zero

# Causes before consequences: with the pooled anchor one domain's NaN spoils every second pass.
_ROWS = ("loss", "gradient norm", "loss at the perturbed point", "gradient norm at the perturbed point")


class DomainSums:
    """Losses and norms by domain, the sum of the directions and, where it is measured, the mean cosine.

    Args:
        params: the trainable parameters.
        moving: those that the ascent moves; the gradients at θ are with respect to them.
        n_domains: K, over all processes.
        cosine: whether to measure the cosine between domains.
    """

    def __init__(self, params: list[Tensor], moving: list[Tensor], n_domains: int, *, cosine: bool):
        self.K = n_domains
        self.reached = [False] * len(params)
        self.anchor_norm: Tensor | None = None
        self.direction: list[Tensor] = []  # Σ of what ``add`` was given
        self.norms: dict[int, Tensor] = {}
        self._params, self._moving = params, moving
        self._cosine = cosine and n_domains > 1
        self._units: list[Tensor] = []  # Σ g_i / ‖g_i‖
        self._losses: dict[int, Tensor] = {}
        self._perturbed_losses: dict[int, Tensor] = {}
        self._perturbed_norms: dict[int, Tensor] = {}
        self._table: Tensor | None = (
            None  # (4, K), or (2, K) where no pass was at θ; after a sum over processes
        )

    def saw(self, domain: int, first: Pass) -> Tensor:
        """Note a domain's pass at θ; the norm of its gradient."""
        norm = global_norm(first.grads)
        self._losses[domain], self.norms[domain] = first.loss, norm
        if self._cosine:
            if self._units:
                add_scaled_(self._units, first.grads, inverse_or_zero(norm))
            else:
                self._units = list(torch._foreach_mul(first.grads, inverse_or_zero(norm)))
        return norm

    def add(self, domain: int, second: Pass) -> None:
        """Add a domain's direction."""
        self._perturbed_losses[domain] = second.loss
        self._perturbed_norms[domain] = global_norm(second.grads)
        self.reached = [a or b for a, b in zip(self.reached, second.reached, strict=True)]
        if self.direction:
            torch._foreach_add_(self.direction, second.grads)
        else:
            self.direction = list(second.grads)

    def over_ranks(self, passes: MeanOfPasses, group: Any, step: int) -> None:
        """Sum everything, and the batch-norm buffers of ``passes``, over the processes that share the domains.

        Raises:
            RogaError: the processes are at different steps.
        """
        first = self._params[0]
        if not self.direction:  # more processes than domains
            self.direction = [torch.zeros_like(p) for p in self._params]
        if self._cosine and not self._units:
            self._units = [torch.zeros_like(p) for p in self._moving]
        rows = self._rows(at_theta=True)
        table = torch.zeros(len(rows), self.K, device=first.device, dtype=first.dtype)
        for row, values in enumerate(rows):
            for domain, value in values.items():
                table[row, domain] = value
        reached = torch.tensor(self.reached, device=first.device, dtype=first.dtype)
        steps = torch.tensor([float(step)], device=first.device, dtype=first.dtype)
        with passes.over_ranks(self.K) as buffers:
            sum_over_ranks_([*self.direction, *self._units, *buffers, table, reached, steps], group)
        if steps.item() != group.size() * step:
            raise RogaError(
                f"the processes that share the domains are at different steps, this one at {step}: start them together"
            )
        self.reached = (reached > 0).tolist()
        self._table = table

    def _rows(self, at_theta: bool) -> list[dict[int, Tensor]]:
        perturbed = [self._perturbed_losses, self._perturbed_norms]
        return [self._losses, self.norms, *perturbed] if at_theta else perturbed

    def numbers(
        self, step: int, *, at_theta: bool, look_at_direction: bool, alpha_ratio: float | None
    ) -> tuple[StepNumbers, dict[str, Entry], Tensor]:
        """The numbers of the step, the report made of them, and the domains' losses.

        Args:
            step: the optimizer's step.
            at_theta: whether there was a pass at θ. Otherwise the losses are those at the perturbed points, and
                the report has no others.
            look_at_direction: whether the direction is more than the mean of gradients that were looked at.
            alpha_ratio: α/ρ, for the entries α‖a_i‖/ρ; None for none.
        """
        K, names = self.K, _ROWS if at_theta else _ROWS[2:]
        if self._table is None:
            rows = [[values[i] for i in range(K)] for values in self._rows(at_theta)]
            parts = [stacked([value for row in rows for value in row])]
        else:
            parts = [self._table.flatten()]
        losses = parts[0][:K]
        labels: list[Label] = [(name, i) for name in names for i in range(K)]
        first = (len(names) - 2) * K
        entries: dict[str, Entry] = {"perturbed_loss": (list(range(first, first + K)), 1 / K)}
        if at_theta:
            losses_at, norms_at = list(range(K)), list(range(K, 2 * K))
            entries = {"loss": (losses_at, 1 / K), **entries, "grad_norm": (norms_at, 1 / K)}
        rest: list[tuple[str, Tensor]] = []
        if look_at_direction:
            rest.append(("norm of the step's direction", global_norm(self.direction)))
        if self._cosine and at_theta:
            entries["cosine"] = ([len(labels) + len(rest)], 1.0)
            rest.append(("cosine between domains", self._mean_cosine(parts[0][K : 2 * K])))
        if self.anchor_norm is not None:
            rest.append(("norm of the pooled gradient", self.anchor_norm))
        labels += [(name, None) for name, _ in rest]
        if at_theta and alpha_ratio is not None:
            for i in range(K):
                anchor = K + i if self.anchor_norm is None else len(labels) - 1
                entries[f"alpha_ratio_{i}"] = ([anchor], alpha_ratio)
        if rest:
            parts.append(stacked([value for _, value in rest]).to(parts[0].device, parts[0].dtype))
        return StepNumbers(torch.cat(parts), labels, step), entries, losses

    def _mean_cosine(self, norms: Tensor) -> Tensor:
        """Mean of cos(g_i, g_j) over i ≠ j, from ‖Σ g_i/‖g_i‖‖² = n + Σ_{i≠j} cos(g_i, g_j).

        n counts the domains with a gradient; where fewer than two have one, 0.
        """
        n = (norms > torch.finfo(norms.dtype).tiny).sum().to(norms.dtype)
        pairs = n * (n - 1)
        return torch.where(pairs > 0, (global_norm(self._units) ** 2 - n) / pairs.clamp(min=1), pairs)
