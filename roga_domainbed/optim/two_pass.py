"""The step of SAM and its kin: one pass at θ, one at an ascent point."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.profiler import record_function

from roga_domainbed.optim.optimizer import SharpnessOptimizer
from roga_domainbed.optim.passes import Closure, at_point, evaluate
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

    def step(
        self, closure: Closure, loss_scale: float = 1.0, *, ascent_closure: Closure | None = None
    ) -> Tensor:
        """One step.

        Args:
            closure: returns the mean loss of the minibatch with its graph; calls no ``backward``.
            loss_scale: what the closure multiplies its loss with, for fp16; 1 otherwise.
            ascent_closure: returns another loss of the same minibatch, for the pass at θ; None for ``closure``.

        Returns:
            The loss at θ, 0-dim, detached, without the loss scale.

        Raises:
            NonFiniteError: if a loss or gradient is not finite; on a CPU nothing has moved then.
        """
        params = self._begin()
        state = RandomState(params) if self.replay_rng else None
        with self.statistics.moved_once() as passes:
            with record_function("first pass"), passes.one():
                first = evaluate(ascent_closure or closure, params, loss_scale=loss_scale)
            norm = global_norm(first.grads)
            perturbed = None
            if self._takes_second_pass():
                with record_function("perturb"), torch.no_grad():
                    point = self._ascent_point(params, first.grads, norm)
                with (
                    record_function("second pass"),
                    at_point(params, point),
                    self.statistics.untouched(),
                    replayed(state, params),
                ):
                    second = evaluate(closure, params, loss_scale=loss_scale)
                del point
                direction, perturbed = self._direction(first.grads, second.grads), second.loss
            else:
                direction = self._direction_without_second_pass(first.grads, norm)
            none = first.loss.new_zeros(())
            found = [first.loss, norm, none if perturbed is None else perturbed, global_norm(direction)]
            values = stacked(found).double()
            at_once = self._finite.take(values, _LABELS, self.steps_taken)
            loss, grad_norm, perturbed_loss, _ = values.tolist() if at_once else values
            self.report = {"loss": loss, "perturbed_loss": perturbed_loss, "grad_norm": grad_norm}
            if perturbed is None:
                del self.report["perturbed_loss"]
        self._apply(params, direction, first.reached)
        return first.loss

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
