"""The step that GAM and FAD share: an ascent of the loss, an ascent of the gradient's norm, and one from there.

    g_0 = ∇L(θ)        g_1 = ∇L(θ + ρ' g_0/‖g_0‖)        h = g_1 − g_0
    g_2 = ∇L(θ + ρ h/‖h‖)        g_3 = ∇L(θ + ρ h/‖h‖ + ρ' g_2/‖g_2‖)

By Taylor, (g_1 − g_0)/ρ' is the gradient of ‖∇L‖ at θ, and (g_3 − g_2)/ρ' at the second point: lines 5 to 12 of
Algorithm 2 of GAM's paper (arXiv:2303.03108).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.profiler import record_function

from roga_domainbed.optim.finite import Overflow
from roga_domainbed.optim.optimizer import SharpnessOptimizer
from roga_domainbed.optim.passes import Closure, Pass, Scale, at_point, evaluate
from roga_domainbed.optim.random_streams import RandomState, replayed
from roga_domainbed.optim.vectors import global_norm, inverse_or_zero, moved, stacked

_LABELS = [
    ("loss", None),
    ("gradient norm", None),
    *((f"{what} at the {point} perturbed point", None) for point in ("first", "second", "third")
      for what in ("loss", "gradient norm")),
    ("norm of the step's direction", None),
]  # fmt: skip


class FourPass(SharpnessOptimizer):
    """A subclass says what ρ' is, and what to do with the four gradients."""

    def step(self, closure: Closure | None = None, loss_scale: float = 1.0, *, scaler: Any = None) -> Tensor:
        """One step.

        Args:
            closure: returns the mean loss of the minibatch with its graph; calls no ``backward``. It is called four
                times.
            loss_scale: what the closure multiplies its loss with, for fp16; 1 otherwise.
            scaler: ``torch.amp.GradScaler``, for fp16, as in ``TwoPass.step``.

        Returns:
            The loss at θ, 0-dim, detached, without the loss scale. ``report["perturbed_loss"]`` is that at the first
            ascent point.

        Raises:
            NonFiniteError: if a loss or gradient is not finite; on a CPU nothing has moved then.
        """
        closure = self._one_closure(closure)
        params = self._begin()
        scale = self._scale(params, loss_scale, scaler)
        try:
            found, direction = self._passes(params, closure, scale)
        except Overflow as overflow:
            return self._skip(params, overflow, scaler)
        reached = [any(each) for each in zip(*(each.reached for each in found), strict=True)]
        self._apply(params, direction, reached, scale, scaler)
        return found[0].loss

    def _passes(
        self, params: list[Tensor], closure: Closure, scale: Scale
    ) -> tuple[list[Pass], list[Tensor]]:
        """The four passes and the direction."""
        state = RandomState(params) if self.replay_rng else None
        theta = [p.detach() for p in params]

        def again(point: list[Tensor]) -> Pass:
            with (
                record_function("second pass"),
                at_point(params, point),
                self.statistics.untouched(),
                replayed(state, params),
            ):
                return evaluate(closure, params, scale)

        with self.statistics.moved_once() as passes:
            with record_function("first pass"), passes.one():
                found = [evaluate(closure, params, scale)]
            found.append(again(self._along(theta, found[0].grads, self._inner_radius)))
            h = torch._foreach_sub(found[1].grads, found[0].grads)
            point = self._along(theta, h, lambda group: group["rho"])
            del h
            found.append(again(point))
            found.append(again(self._along(point, found[2].grads, self._inner_radius)))
            del point
            numbers = [number for each in found for number in (each.loss, global_norm(each.grads))]
            direction = self._direction(*(each.grads for each in found))
            values = stacked([*numbers, global_norm(direction)]).double()
            at_once = self._checked_numbers(values, _LABELS, scale, found[0].loss)
            loss, grad_norm, perturbed_loss, *_ = values.tolist() if at_once else values
            self.report = {"loss": loss, "perturbed_loss": perturbed_loss, "grad_norm": grad_norm}
        return found, direction

    @torch.no_grad()
    def _along(self, origin: list[Tensor], vector: list[Tensor], radius: Any) -> list[Tensor]:
        """``origin`` + radius · vector/‖vector‖, with each group's own radius."""
        inverse = inverse_or_zero(global_norm(vector))
        groups = self._grouped(origin, vector)
        return [t for group, o, v in groups for t in moved(o, v, radius(group) * inverse)]

    def _inner_radius(self, group: dict[str, Any]) -> float:
        """ρ' of a group."""
        raise NotImplementedError

    def _direction(
        self, g0: list[Tensor], g1: list[Tensor], g2: list[Tensor], g3: list[Tensor]
    ) -> list[Tensor]:
        """The gradient handed to the base optimizer; the four may be changed."""
        raise NotImplementedError
