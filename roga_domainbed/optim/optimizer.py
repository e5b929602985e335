"""What every sharpness-aware optimizer shares: a base optimizer, its groups and its state.

Guarantees of a step, for all of them alike:

- Weights after it equal, bit for bit, weights before it plus the base optimizer's own change: the perturbed
  point has memory of its own, nothing is added to θ and subtracted again.
- An exception in any pass leaves weights and batch-norm buffers as they were before the step.
- Batch-norm buffers move once, by the pass at θ (see ``batch_norm``).
- Weight decay acts once, at θ, through the base optimizer.
- A zero gradient gives a zero perturbation. A loss or gradient that is not finite raises ``NonFiniteError``: on a CPU
  before anything moves, on a GPU when the numbers are next read (see ``finite``). With a ``GradScaler`` the step is
  skipped instead.
- Where the base optimizer maximizes, a step is that of the method on −L.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from roga_domainbed.optim.batch_norm import RunningStatistics
from roga_domainbed.optim.finite import FiniteCheck, Label, Overflow
from roga_domainbed.optim.passes import Closure, Scale
from roga_domainbed.optim.replicas import ASCENTS, Replicas, replicas_of, require_known_ranks


class SharpnessOptimizer(torch.optim.Optimizer):
    """A base optimizer that steps along a direction found by looking around θ.

    It shares ``param_groups`` and ``state`` with the base optimizer, so learning-rate schedulers, groups with
    their own lr, ``state_dict`` and ``add_param_group`` work as in any torch optimizer. What a method adds (ρ, α)
    also lives in the groups, so a group may have its own: ``rho=0`` leaves a group unperturbed.

    Args:
        params: parameters or groups of them, as for any torch optimizer.
        base_optimizer: class of the optimizer that makes the step, for example ``torch.optim.SGD``.
        own: the method's own group defaults.
        model: where batch-norm buffers are protected; None if there are none. Where it is wrapped in
            ``DistributedDataParallel``, its ranks take each step together.
        replay_rng: give the passes of a step the same dropout mask.
        max_grad_norm: the direction is shortened to this norm before the base optimizer gets it; None for never.
        process_group: ranks that hold the model alike and take each step together, each with its part of the
            minibatch; None for those of ``model``. The parameters of the first count.
        ascent: ``"global"``: ascent points are those of the whole minibatch, and the step is the one that a single
            process would take. ``"local"``: each rank ascends along its own gradient (m-SAM), and the directions are
            averaged, with one all-reduce a step.
        **base_kwargs: arguments of the base optimizer (lr, momentum, …).

    Raises:
        ValueError: a value is not allowed, or the model or the base optimizer is of a kind that cannot work.

    Attributes:
        DATA_PARALLEL: whether ranks that hold the model alike can take its steps together.
        steps_taken: steps since construction, saved in ``state_dict``.
        report: numbers of the last step for the records, by name: floats, or 0-dim tensors where the parameters are
            on a GPU.
    """

    DATA_PARALLEL = False

    def __init__(
        self,
        params: Any,
        base_optimizer: type[torch.optim.Optimizer],
        own: dict[str, float],
        *,
        model: nn.Module | None = None,
        replay_rng: bool = False,
        max_grad_norm: float | None = None,
        process_group: Any = None,
        ascent: str = "global",
        **base_kwargs: Any,
    ):
        if ascent not in ASCENTS:
            raise ValueError(f"ascent must be one of {', '.join(ASCENTS)}; got {ascent!r}")
        if max_grad_norm is not None and not (math.isfinite(max_grad_norm) and max_grad_norm > 0):
            raise ValueError(f"max_grad_norm must be a finite number > 0, or None; got {max_grad_norm!r}")
        if isinstance(base_optimizer, type) and issubclass(base_optimizer, torch.optim.LBFGS):
            raise ValueError(
                "LBFGS evaluates the loss in its own step, and takes no direction: choose SGD, Adam, …"
            )
        self._own = tuple(own)
        self.base_optimizer = base_optimizer(params, **base_kwargs)
        super().__init__(self.base_optimizer.param_groups, {**self.base_optimizer.defaults, **own})
        self._share()
        self.model = model
        self.replay_rng = replay_rng
        self.statistics = RunningStatistics(model)
        self.steps_taken = 0
        self.report: dict[str, float | Tensor] = {}
        self.max_grad_norm = max_grad_norm
        self._finite = FiniteCheck()
        for group in self.param_groups:
            self._check_group(group)
        #: None where one process takes the step.
        self._replicas: Replicas | None = replicas_of(self, model, process_group, ascent)
        #: ``over_ranks.SharedDomains`` where processes share the domains. Here, not in the class: a checkpoint has an
        #: object's own attributes, and the number of processes may change.
        self._shared: Any = None

    def _share(self) -> None:
        self.param_groups = self.base_optimizer.param_groups
        self.state = self.base_optimizer.state

    def _check_group(self, group: dict) -> None:
        for name in self._own:
            if name in group and not (math.isfinite(group[name]) and group[name] >= 0):
                raise ValueError(f"{name} must be a finite number ≥ 0; got {group[name]!r}")
        if group.get("maximize", self._maximizes) != self._maximizes:
            raise ValueError("maximize must be the same in all groups: the two passes are of one objective")
        params = group["params"] if isinstance(group["params"], (list, tuple)) else [group["params"]]
        for p in params:
            if isinstance(p, Tensor) and p.is_complex():
                raise ValueError(
                    "a parameter is complex, and norms and inner products of gradients are meant for real ones: keep "
                    "it as a real tensor and use torch.view_as_complex in the forward pass"
                )

    @property
    def _maximizes(self) -> bool:
        return bool(self.param_groups[0].get("maximize", False))

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
            NonFiniteError: if a step since the last check was not finite.
        """
        self.check_finite()
        return {**self.base_optimizer.state_dict(), "steps_taken": self.steps_taken}

    def load_state_dict(self, state_dict: dict) -> None:
        """Load what ``state_dict`` gave; the base optimizer's own state dict is accepted too."""
        state_dict = dict(state_dict)
        steps_taken = state_dict.pop("steps_taken", 0)
        own = [{name: group[name] for name in self._own if name in group} for group in self.param_groups]
        self.base_optimizer.load_state_dict(state_dict)
        self._share()
        self.steps_taken = steps_taken
        for group, values in zip(self.param_groups, own, strict=True):
            for name, value in values.items():
                group.setdefault(name, value)
            self._check_group(group)

    def __getstate__(self) -> dict:
        return self.__dict__.copy()  # torch's own would leave the base optimizer behind

    def check_finite(self) -> None:
        """Read the numbers of the steps that a GPU was not waited for; on a CPU there are none.

        Raises:
            NonFiniteError: for the first step since the last check that was not finite.
        """
        self._finite.check()

    def register_step_pre_hook(self, hook: Callable[..., Any]) -> Any:
        """As of any torch optimizer; ``hook(self, args, kwargs)`` finds the step's direction in ``p.grad``."""
        return self.base_optimizer.register_step_pre_hook(lambda _, args, kwargs: hook(self, args, kwargs))

    #: ``GradScaler.step(optimizer)`` then comes to ``step``, which says what to do instead.
    _step_supports_amp_scaling = True

    # --- pieces of a step ------------------------------------------------------------------------------

    def _trainable(self) -> list[Tensor]:
        """The parameters that require a gradient, in the order of the groups."""
        return [p for group in self.param_groups for p in group["params"] if p.requires_grad]

    def _places(self) -> list[int]:
        """Where the trainable parameters stand among all: what is kept of them from step to step belongs to these."""
        everything = [p for group in self.param_groups for p in group["params"]]
        return [place for place, p in enumerate(everything) if p.requires_grad]

    def _begin(self) -> list[Tensor]:
        """The trainable parameters, without the last step's gradients."""
        params = self._trainable()
        if not params:
            raise ValueError("no parameter requires a gradient")
        if self._was_called_by_scaler():
            raise TypeError(
                f"a GradScaler called {type(self).__name__}.step: pass scaler=scaler to it in place of scaler.step; "
                "where a host owns the scaler, train in bf16, which needs none"
            )
        if self._replicas is None and self._shared is None:
            require_known_ranks(self)
        for p in params:
            p.grad = None
        return params

    def _one_closure(self, closure: Any) -> Closure:
        """The closure of a method that takes one."""
        if not callable(closure):
            self._was_called_by_scaler()
            raise TypeError(
                f"{type(self).__name__}.step needs a closure that returns the loss: optimizer.step(closure), with a "
                "GradScaler optimizer.step(closure, scaler=scaler) in place of scaler.step(optimizer); got "
                f"{type(closure).__name__}"
            )
        return closure

    def _was_called_by_scaler(self) -> bool:
        """Whether a ``GradScaler`` calls this step; what it left on the optimizer is removed, as it will not be."""
        return [vars(self).pop(name, None) for name in ("grad_scale", "found_inf")] != [None, None]

    def _scale(self, params: list[Tensor], loss_scale: float, scaler: Any) -> Scale:
        """What the losses of a step are scaled with.

        Args:
            params: the trainable parameters.
            loss_scale: of the closures.
            scaler: ``torch.amp.GradScaler`` or None.
        """
        if scaler is not None and loss_scale != 1.0:
            raise ValueError(
                "pass a scaler or a loss_scale: with a scaler, closures return the loss unscaled"
            )
        one = torch.ones((), dtype=torch.float32, device=params[0].device)
        of_scaler = scaler.scale(one) if scaler is not None and scaler.is_enabled() else None
        return Scale(loss_scale, of_scaler, -1.0 if self._maximizes else 1.0)

    def _together(self) -> AbstractContextManager:
        """Around the passes of a step: what ``DistributedDataParallel`` does in a backward pass is left to us."""
        return nullcontext() if self._replicas is None else self._replicas.without_reducer()

    def _checked_numbers(self, values: Tensor, labels: list[Label], scale: Scale, losses: Tensor) -> bool:
        """Whether the numbers of a step were read; with a scaler they are.

        Args:
            values: (n,), causes before consequences.
            labels: what they are.
            scale: of the step.
            losses: what the step returns.

        Raises:
            NonFiniteError: one is not finite, and there is no scaler.
            Overflow: one is not finite, and there is.
        """
        if scale.of_scaler is not None:
            if not torch.isfinite(values).all():
                raise Overflow(losses)
            return True
        return self._finite.take(values, labels, self.steps_taken)

    def _skip(self, params: list[Tensor], overflow: Overflow, scaler: Any) -> Tensor:
        """Tell the scaler that this step overflowed, so that ``scaler.update()`` lowers the scale; nothing moves."""
        params[0].grad = torch.full_like(params[0], math.inf)
        scaler.step(self.base_optimizer)
        params[0].grad = None
        self.report = {}
        return overflow.losses

    def _grouped(self, *lists: Sequence[Tensor]) -> Iterator[tuple]:
        """(group, its slice of each list), where the lists have one tensor a trainable parameter."""
        start = 0
        for group in self.param_groups:
            end = start + sum(p.requires_grad for p in group["params"])
            yield (group, *(tensors[start:end] for tensors in lists))
            start = end

    def _copied(self, vector: Sequence[Tensor], what: str) -> list[Tensor]:
        """A copy of a saved vector, one tensor a trainable parameter, where the parameters are."""
        params = self._trainable()
        if [t.shape for t in vector] != [p.shape for p in params]:
            raise ValueError(f"the saved {what} belong to other parameters than this optimizer's")
        return [t.detach().to(p.device, p.dtype, copy=True) for t, p in zip(vector, params, strict=True)]

    def _apply(
        self,
        params: list[Tensor],
        direction: list[Tensor],
        reached: list[bool],
        scale: Scale,
        scaler: Any,
    ) -> None:
        """Hand ``direction`` to the base optimizer; parameters no loss reaches keep no gradient."""
        if self._replicas is not None:
            self._replicas.share_buffers(self.statistics)
        if scale.sign < 0:
            torch._foreach_neg_(direction)
        for p, d, used in zip(params, direction, reached, strict=True):
            p.grad = d if used else None
        if scale.of_scaler is not None:  # which unscales what it hands on
            torch._foreach_mul_(direction, scale.of_scaler.to(direction[0].device))
            scaler.unscale_(self.base_optimizer)
        if self.max_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_(params, self.max_grad_norm)
        with record_function("optimizer step"):
            if scale.of_scaler is None:
                self.base_optimizer.step()
            else:
                scaler.step(self.base_optimizer)
        self.steps_taken += 1
