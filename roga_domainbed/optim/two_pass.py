"""The step of SAM and its kin: one pass at θ, one at an ascent point."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.profiler import record_function

from roga_domainbed.optim.finite import Overflow
from roga_domainbed.optim.optimizer import SharpnessOptimizer
from roga_domainbed.optim.passes import Closure, Pass, Scale, at_point, evaluate
from roga_domainbed.optim.random_streams import RandomState, replayed
from roga_domainbed.optim.vectors import global_norm, stacked

_LABELS = [
    ("loss", None),
    ("gradient norm", None),
    ("loss at the perturbed point", None),
    ("norm of the step's direction", None),
]


class TwoPass(SharpnessOptimizer):
    """A subclass says where the second pass is, and what to do with the two gradients."""

    DATA_PARALLEL = True

    def step(
        self,
        closure: Closure | None = None,
        loss_scale: float = 1.0,
        *,
        ascent_closure: Closure | None = None,
        scaler: Any = None,
    ) -> Tensor:
        """One step.

        Args:
            closure: returns the mean loss of the minibatch with its graph; calls no ``backward``.
            loss_scale: what the closure multiplies its loss with, for fp16; 1 otherwise.
            ascent_closure: returns another loss of the same minibatch, for the pass at θ; None for ``closure``.
            scaler: ``torch.amp.GradScaler``, for fp16: closures return the loss unscaled, ``scaler.update()`` follows
                the step, and a step that overflows is skipped.

        Returns:
            The loss at θ, 0-dim, detached, without the loss scale; over all ranks that take the step.

        Raises:
            NonFiniteError: if a loss or gradient is not finite; on a CPU nothing has moved then.
        """
        closure = self._one_closure(closure)
        params = self._begin()
        scale = self._scale(params, loss_scale, scaler)
        try:
            first, direction, reached = self._passes(params, closure, ascent_closure or closure, scale)
        except Overflow as overflow:
            return self._skip(params, overflow, scaler)
        self._apply(params, direction, reached, scale, scaler)
        return first.loss

    def _passes(
        self, params: list[Tensor], closure: Closure, ascent_closure: Closure, scale: Scale
    ) -> tuple[Pass, list[Tensor], list[bool]]:
        """The first pass, the direction, and which parameters the gradients in it reach."""
        state = RandomState(params) if self.replay_rng else None
        with self._together(), self.statistics.moved_once() as passes:
            with record_function("first pass"), passes.one():
                first = evaluate(ascent_closure, params, scale)
            if self._is_averaged:
                self._replicas.average_(first)
            norm = global_norm(first.grads)
            perturbed, reached = None, first.reached
            if self._takes_second_pass():
                with record_function("perturb"), torch.no_grad():
                    point = self._ascent_point(params, first.grads, norm)
                with (
                    record_function("second pass"),
                    at_point(params, point),
                    self.statistics.untouched(),
                    replayed(state, params),
                ):
                    second = evaluate(closure, params, scale)
                del point
                if self._is_averaged:
                    self._replicas.average_(second)
                direction, perturbed = self._direction(first.grads, second.grads), second.loss
                reached = second.reached
                if self._uses_both_gradients:
                    reached = [a or b for a, b in zip(first.reached, reached, strict=True)]
            else:
                direction = self._direction_without_second_pass(first.grads, norm)
            if (
                self._replicas is not None and not self._is_averaged
            ):  # each rank's own step; their mean is taken
                of_direction = Pass(first.loss, direction, reached)
                self._replicas.average_(of_direction)
                reached = of_direction.reached
            none = first.loss.new_zeros(())
            found = [first.loss, norm, none if perturbed is None else perturbed, global_norm(direction)]
            values = stacked(found).double()
            at_once = self._checked_numbers(values, _LABELS, scale, first.loss)
            loss, grad_norm, perturbed_loss, _ = values.tolist() if at_once else values
            self.report = {"loss": loss, "perturbed_loss": perturbed_loss, "grad_norm": grad_norm}
            if perturbed is None:
                del self.report["perturbed_loss"]
        return first, direction, reached

    #: Whether the direction has the gradient at θ in it, too.
    _uses_both_gradients = False

    @property
    def _is_averaged(self) -> bool:
        """Whether each pass is one over all ranks' minibatches."""
        return self._replicas is not None and self._replicas.is_global

    def _ascent_point(self, params: list[Tensor], grads: list[Tensor], norm: Tensor) -> list[Tensor]:
        """Where the second pass is, one tensor a parameter."""
        raise NotImplementedError

    def _direction(self, grads: list[Tensor], perturbed: list[Tensor]) -> list[Tensor]:
        """The gradient handed to the base optimizer, from those at θ and at the ascent point."""
        return perturbed

    def _takes_second_pass(self) -> bool:
        """Whether this step has a second pass."""
        return True

    def _direction_without_second_pass(self, grads: list[Tensor], norm: Tensor) -> list[Tensor]:
        """The gradient handed to the base optimizer in a step that has none."""
        raise NotImplementedError
