"""What every sharpness-aware optimizer shares: a base optimizer, passes, perturbations that undo themselves.

Guarantees of a step, for SAM, ASAM, GSAM, SAGM and RoGA alike:

- Weights after it equal, bit for bit, weights before it plus the base optimizer's own change: the perturbed
  point has memory of its own, nothing is added to θ and subtracted again.
- An exception in any pass leaves weights and batch-norm buffers as they were before the step.
- Batch-norm buffers move once, by the pass at θ (see ``running_statistics``).
- Weight decay acts once, at θ, through the base optimizer.
- A zero gradient gives a zero perturbation. A loss or gradient that is not finite raises ``NonFiniteError``, and
  leaves the weights of the last good step. On a CPU, and with a base optimizer that is not fused, the step itself
  raises. On a GPU with a fused one nobody waits for the device: the step's verdict stays there as the optimizer's
  ``found_inf`` (torch's own way to skip a step, made for its ``GradScaler``), which keeps this and every later step
  from moving weights, their moments or batch-norm buffers, and the error comes when a number of the report is read,
  when ``state_dict`` is asked for, or after ``UNREAD_STEPS`` steps, whichever is first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from roga_domainbed.optim.finite import Entry, Label, LateNumber, NonFiniteError, StepNumbers, stacked
from roga_domainbed.optim.replay import RandomState, replayed
from roga_domainbed.optim.running_statistics import MeanOfPasses, RunningStatistics

Closure = Callable[[], Tensor]

UNREAD_STEPS = 1000  # their numbers take some 100 bytes each on the device


class Pass:
    """One evaluation of a closure: its loss and the gradients of the trainable parameters.

    Attributes:
        loss: 0-dim, detached, without the loss scale.
        grads: one tensor a parameter, zeros where the loss does not reach it.
        reached: whether the loss reaches each parameter.
        random_state: torch's random state before the pass; None unless it is to be replayed.
    """

    def __init__(
        self, loss: Tensor, grads: list[Tensor], reached: list[bool], random_state: RandomState | None
    ):
        self.loss, self.grads, self.reached, self.random_state = loss, grads, reached, random_state


def evaluate(
    closure: Closure,
    params: Sequence[Tensor],
    *,
    loss_scale: float = 1.0,
    weight: float = 1.0,
    create_graph: bool = False,
    remember_random_state: bool = False,
) -> Pass:
    """Run ``closure`` and differentiate its loss with respect to ``params``.

    Args:
        closure: returns a scalar loss with its graph; must not call ``backward``.
        params: the trainable parameters.
        loss_scale: what the closure multiplied its loss with (fp16 training). Gradients are divided by it
            here, because α ⟨·,·⟩ is not scale-free.
        weight: factor of the gradients, applied on their way back, where it costs nothing.
        create_graph: keep the graph of the gradients, for second derivatives.
        remember_random_state: keep the state that the pass started from, so that another can replay it.
    """
    state = RandomState(list(params)) if remember_random_state else None
    # Autocast keeps the low-precision copies of weights it has seen; θ may have moved since.
    torch.clear_autocast_cache()
    with torch.enable_grad():
        loss = closure()
        if not isinstance(loss, Tensor) or loss.dim() != 0 or not loss.requires_grad:
            raise TypeError(
                "a closure must return a scalar loss tensor with its graph and call no backward(); got "
                f"{type(loss).__name__}{tuple(loss.shape) if isinstance(loss, Tensor) else ''}"
            )
        raw = torch.autograd.grad(
            loss, params, torch.full_like(loss, weight), allow_unused=True, create_graph=create_graph
        )
    reached = [grad is not None for grad in raw]
    grads = _distinct([torch.zeros_like(p) if g is None else g for g, p in zip(raw, params, strict=True)])
    if loss_scale != 1.0:
        grads = list(torch._foreach_div(grads, loss_scale))
    return Pass(loss.detach() / loss_scale, grads, reached, state)


def _distinct(grads: list[Tensor]) -> list[Tensor]:
    """``grads`` such that each may be changed in place.

    Autograd may hand out the same memory for two parameters (of a sum of both), or a broadcast view of one number.
    """
    shared = len({grad.data_ptr() for grad in grads}) < len(grads)
    if not shared and not any(0 in grad.stride() for grad in grads):
        return grads
    seen: set[int] = set()
    owned = []
    for grad in grads:
        taken = grad.data_ptr() in seen
        broadcast = any(step == 0 and size > 1 for step, size in zip(grad.stride(), grad.shape, strict=True))
        seen.add(grad.data_ptr())
        owned.append(grad.clone(memory_format=torch.contiguous_format) if taken or broadcast else grad)
    return owned


def global_norm(tensors: Sequence[Tensor]) -> Tensor:
    """The L2 norm over all ``tensors`` together, 0-dim, on the first one's device."""
    return torch.linalg.vector_norm(stacked(torch._foreach_norm(list(tensors))))


def inner(left: Sequence[Tensor], right: Sequence[Tensor]) -> Tensor:
    """⟨left, right⟩ over all tensors together, 0-dim; differentiable."""
    return sum(((a * b).sum() for a, b in zip(left, right, strict=True)), start=left[0].new_zeros(()))


def inverse_or_zero(norm: Tensor) -> Tensor:
    """1/‖g‖, and 0 for a zero gradient: nothing to ascend along."""
    return torch.where(norm > torch.finfo(norm.dtype).tiny, 1.0 / norm, torch.zeros_like(norm))


def add_scaled_(targets: Sequence[Tensor], sources: Sequence[Tensor], scale: Tensor) -> None:
    """``target += scale * source`` for every pair, in place, without waiting for the device."""
    if scale.device.type == "cpu":
        torch._foreach_add_(list(targets), list(sources), alpha=scale.item())
    else:
        torch._foreach_add_(list(targets), torch._foreach_mul(list(sources), scale))


def moved(
    params: Sequence[Tensor], direction: Sequence[Tensor], scale: Tensor, *, consume: bool = False
) -> list[Tensor]:
    """θ + scale · direction, one tensor a parameter; in the memory of ``direction`` if it may be consumed."""
    params, direction = [p.detach() for p in params], list(direction)
    if scale.device.type == "cpu":
        # One pass through memory, where foreach calls would need two: on a CPU that is what a large network waits for.
        alpha = scale.item()
        return [
            torch.add(p, d, alpha=alpha, out=d if consume else None)
            for p, d in zip(params, direction, strict=True)
        ]
    scaled = direction if consume else [torch.empty_like(d).copy_(d) for d in direction]
    torch._foreach_mul_(scaled, scale)
    torch._foreach_add_(scaled, params)
    return scaled


@contextmanager
def at_point(params: Sequence[Tensor], point: Sequence[Tensor]) -> Iterator[None]:
    """Inside, ``params`` have the values of ``point``; afterwards, whatever happened, their own.

    The memory of θ is exchanged and not written to: nothing is copied back, and what comes back is θ to the bit.
    """
    own = [p.data for p in params]
    try:
        for p, value in zip(params, point, strict=True):
            p.data = value
        yield
    finally:
        for p, value in zip(params, own, strict=True):
            p.data = value
        torch.clear_autocast_cache()


class SharpnessOptimizer(torch.optim.Optimizer):
    """A base optimizer that steps along a direction found by looking around θ.

    It shares ``param_groups`` and ``state`` with the base optimizer, so learning-rate schedulers, groups with
    their own lr, ``state_dict`` and ``add_param_group`` work as in any torch optimizer. What a method adds (ρ, α)
    also lives in the groups, so a group may have its own: ``rho=0`` leaves a group unperturbed.

    Args:
        params: parameters or groups of them, as for any torch optimizer.
        base_optimizer: class of the optimizer that makes the step, for example ``torch.optim.SGD``.
        own: the method's own group defaults.
        model: where batch-norm buffers are protected; None if there are none.
        replay_rng: give the passes of a step the same dropout mask.
        **base_kwargs: arguments of the base optimizer (lr, momentum, …).

    Attributes:
        steps_taken: steps since construction, saved in ``state_dict``.
        look_late: whether numbers are looked at when somebody reads them. By default (None) where all parameters
            are on GPUs and the base optimizer is fused; True insists on it and needs a fused one.
    """

    def __init__(
        self,
        params: Any,
        base_optimizer: type[torch.optim.Optimizer],
        own: dict[str, float],
        *,
        model: nn.Module | None = None,
        replay_rng: bool = False,
        **base_kwargs: Any,
    ):
        self.base_optimizer = base_optimizer(params, **base_kwargs)
        super().__init__(self.base_optimizer.param_groups, {**self.base_optimizer.defaults, **own})
        self._share()
        self.model = model
        self.replay_rng = replay_rng
        self.statistics = RunningStatistics(model)
        self.steps_taken = 0
        self.look_late: bool | None = None
        # Plain values and tensors alone, so that whoever saves this object's attributes can put them back.
        self._numbers: tuple[Tensor, list[Label], int] | None = None  # of the last step
        self._entries: dict[str, Entry] = {}
        self._unread: list[tuple[Tensor, list[Label], int]] = []
        self._bad: Tensor | None = None  # 1 on the device once an unread step was not finite
        self._n_moved = 0  # how many parameters the base optimizer's last step had
        for group in self.param_groups:
            self._check_group(group)

    def _share(self) -> None:
        self.param_groups = self.base_optimizer.param_groups
        self.state = self.base_optimizer.state

    def _check_group(self, group: dict) -> None:
        for name in ("rho", "alpha", "eta"):
            if name in group and not (math.isfinite(group[name]) and group[name] >= 0):
                raise ValueError(f"{name} must be a finite number ≥ 0; got {group[name]!r}")

    # --- what torch expects of an optimizer ------------------------------------------------------------

    def add_param_group(self, param_group: dict) -> None:
        """Add a group to the base optimizer; ρ and α default to this optimizer's."""
        if not any(param_group is group for group in self.base_optimizer.param_groups):
            self._check_group(param_group)
            self.base_optimizer.add_param_group(param_group)
            for name, value in self.defaults.items():
                param_group.setdefault(name, value)
        elif not any(param_group is group for group in self.param_groups):
            super().add_param_group(param_group)

    def state_dict(self) -> dict:
        """The base optimizer's state, whose groups hold ρ and α, and the number of steps.

        Raises:
            NonFiniteError: if a step that nobody has looked at yet was not finite.
        """
        self.look()
        return {**self.base_optimizer.state_dict(), "steps_taken": self.steps_taken}

    def load_state_dict(self, state_dict: dict) -> None:
        """Load what ``state_dict`` gave; the base optimizer's own state dict is accepted too."""
        state_dict = dict(state_dict)
        steps_taken = state_dict.pop("steps_taken", 0)
        own = [
            {name: group[name] for name in ("rho", "alpha", "eta") if name in group}
            for group in self.param_groups
        ]
        self.base_optimizer.load_state_dict(state_dict)
        self._share()
        self.steps_taken = steps_taken
        for group, values in zip(self.param_groups, own, strict=True):
            for name, value in values.items():
                group.setdefault(name, value)
            self._check_group(group)

    def __getstate__(self) -> dict:
        return self.__dict__.copy()  # torch's own would leave the base optimizer behind

    # --- pieces of a step ------------------------------------------------------------------------------

    def _begin(self) -> list[Tensor]:
        """The parameters of a step; the last one's gradients give their memory to it."""
        params = self._params()
        if not params:
            raise ValueError("no parameter requires a gradient")
        for p in params:
            p.grad = None
        return params

    def _params(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"] if p.requires_grad]

    def _grouped(self, params: Sequence[Tensor], *lists: Sequence[Tensor]) -> Iterator[tuple]:
        """(group, its slice of ``params`` and of each list) where the lists are parallel to ``params``.

        ``params`` are trainable parameters in the order of the groups, not necessarily all of them.
        """
        here = {id(p) for p in params}
        start = 0
        for group in self.param_groups:
            n = sum(id(p) in here for p in group["params"])
            if n:
                yield (group, *(items[start : start + n] for items in (params, *lists)))
            start += n

    def _first(self, closure: Closure, params: list[Tensor], passes: MeanOfPasses, loss_scale: float) -> Pass:
        """The pass at θ, which moves the batch-norm buffers."""
        with passes.one():
            return evaluate(closure, params, loss_scale=loss_scale, remember_random_state=self.replay_rng)

    def _again(self, closure: Closure, params: list[Tensor], first: Pass, loss_scale: float) -> Pass:
        """A further pass of the same closure: buffers untouched, the mask replayed if that was asked for."""
        with self.statistics.untouched(), replayed(first.random_state, params):
            return evaluate(closure, params, loss_scale=loss_scale)

    def _apply(self, params: list[Tensor], direction: list[Tensor], reached: list[bool]) -> None:
        """Hand ``direction`` to the base optimizer; parameters no loss reaches keep no gradient."""
        for p, d, used in zip(params, direction, reached, strict=True):
            # As backward() would leave it: fused optimizers read a gradient in the order of the parameter's memory.
            aligned = d if d.stride() == p.stride() else torch.empty_like(p).copy_(d)
            p.grad = aligned if used else None
        try:
            if self._bad is not None:
                self.base_optimizer.found_inf = self._bad
            self.base_optimizer.step()
        finally:
            self.base_optimizer.__dict__.pop("found_inf", None)
        self._n_moved = sum(reached)
        self.steps_taken += 1

    # --- numbers that may not be finite ----------------------------------------------------------------

    @property
    def report(self) -> dict[str, float | LateNumber]:
        """Numbers of the last step for the records: floats, or what ``float()`` and numpy read."""
        if self._numbers is None:
            return {}
        numbers = StepNumbers(*self._numbers)
        if not self._unread:
            return {name: numbers.read(entry) for name, entry in self._entries.items()}

        def late(entry: Entry) -> LateNumber:
            def read() -> float:
                self.look()
                return numbers.read(entry)

            return LateNumber(read)

        return {name: late(entry) for name, entry in self._entries.items()}

    def look(self) -> None:
        """Read what no step has waited for.

        Raises:
            NonFiniteError: for the first step that was not finite. Nothing has moved from that step on, and
                ``steps_taken`` says so.
        """
        unread, self._unread = self._unread, []
        bad, self._bad = self._bad, None
        if bad is None or bad.item() == 0:
            return
        for numbers in unread:
            try:
                StepNumbers(*numbers).floats()
            except NonFiniteError as error:
                self.steps_taken = error.step
                raise

    def _looks_late(self, n_reached: int) -> bool:
        # A skipped first step would leave fused SGD's new moments without values.
        settled = n_reached == self._n_moved
        if self.look_late is None:
            fused = getattr(self.base_optimizer, "_step_supports_amp_scaling", False)
            return settled and fused and all(p.device.type == "cuda" for p in self._params())
        return settled and self.look_late

    def _take(
        self, numbers: StepNumbers, entries: dict[str, Entry], reached: list[bool], passes: MeanOfPasses
    ) -> None:
        """Keep ``numbers`` for the report; look at them now, or guard the rest of the step with them."""
        late = self._looks_late(sum(reached))
        if not late or len(self._unread) >= UNREAD_STEPS:
            self.look()
        if late:
            bad = numbers.any_bad()
            self._bad = passes.bad = bad if self._bad is None else torch.maximum(self._bad, bad)
            self._unread.append(numbers.plain())
        else:
            numbers.floats()
        self._numbers, self._entries = numbers.plain(), entries


# Causes before consequences, so that the error names where it began.
_LABELS = [
    ("loss", None),
    ("gradient norm", None),
    ("loss at the perturbed point", None),
    ("norm of the step's direction", None),
]
_ENTRIES = {"loss": ([0], 1.0), "perturbed_loss": ([2], 1.0), "grad_norm": ([1], 1.0)}


class TwoPass(SharpnessOptimizer):
    """One pass at θ, one at θ + displacement: SAM, ASAM, GSAM and SAGM differ in two formulas."""

    def step(self, closure: Closure, loss_scale: float = 1.0) -> Tensor:
        """One step.

        Args:
            closure: returns the mean loss of the minibatch with its graph; calls no ``backward``.
            loss_scale: what the closure multiplies its loss with, for fp16; 1 otherwise.

        Returns:
            The loss at θ, 0-dim, detached, without the loss scale.

        Raises:
            NonFiniteError: if a loss or gradient is not finite; nothing has moved then.
        """
        params = self._begin()
        with self.statistics.moved_once() as passes:
            first = self._first(closure, params, passes, loss_scale)
            norm = global_norm(first.grads)
            with torch.no_grad():
                point = self._point(params, first.grads, norm)
            with at_point(params, point):
                second = self._again(closure, params, first, loss_scale)
            del point
            direction = self._direction(first.grads, second.grads)
            numbers = StepNumbers(
                stacked([first.loss, norm, second.loss, global_norm(direction)]), _LABELS, self.steps_taken
            )
            self._take(numbers, _ENTRIES, first.reached, passes)
        self._apply(params, direction, first.reached)
        return first.loss

    def _point(self, params: list[Tensor], grads: list[Tensor], norm: Tensor) -> list[Tensor]:
        """Where the second pass is, one tensor a parameter. ``grads`` may be consumed if ``_direction`` ignores it."""
        raise NotImplementedError

    def _direction(self, grads: list[Tensor], perturbed: list[Tensor]) -> list[Tensor]:
        """The gradient handed to the base optimizer, from those at θ and at the perturbed point."""
        raise NotImplementedError
