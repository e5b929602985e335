"""What every sharpness-aware optimizer shares: a base optimizer, its groups and its state.

Guarantees of a step, for all of them alike:

- Weights after it equal, bit for bit, weights before it plus the base optimizer's own change: the perturbed
  point has memory of its own, nothing is added to θ and subtracted again.
- An exception in any pass leaves weights and batch-norm buffers as they were before the step.
- Batch-norm buffers move once, by the pass at θ (see ``batch_norm``).
- Weight decay acts once, at θ, through the base optimizer.
- A zero gradient gives a zero perturbation. A loss or gradient that is not finite raises ``NonFiniteError``: on a CPU
  before anything moves, on a GPU when the numbers are next read (see ``finite``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from roga_domainbed.optim.batch_norm import RunningStatistics
from roga_domainbed.optim.finite import FiniteCheck


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
        report: numbers of the last step for the records, by name: floats, or 0-dim tensors where the parameters are
            on a GPU.
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
        self._own = tuple(own)
        self.base_optimizer = base_optimizer(params, **base_kwargs)
        super().__init__(self.base_optimizer.param_groups, {**self.base_optimizer.defaults, **own})
        self._share()
        self.model = model
        self.replay_rng = replay_rng
        self.statistics = RunningStatistics(model)
        self.steps_taken = 0
        self.report: dict[str, float | Tensor] = {}
        self._finite = FiniteCheck()
        for group in self.param_groups:
            self._check_group(group)

    def _share(self) -> None:
        self.param_groups = self.base_optimizer.param_groups
        self.state = self.base_optimizer.state

    def _check_group(self, group: dict) -> None:
        for name in self._own:
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

    # --- pieces of a step ------------------------------------------------------------------------------

    def _trainable(self) -> list[Tensor]:
        """The parameters that require a gradient, in the order of the groups."""
        return [p for group in self.param_groups for p in group["params"] if p.requires_grad]

    def _begin(self) -> list[Tensor]:
        """The trainable parameters, without the last step's gradients."""
        params = self._trainable()
        if not params:
            raise ValueError("no parameter requires a gradient")
        for p in params:
            p.grad = None
        return params

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

    def _apply(self, params: list[Tensor], direction: list[Tensor], reached: list[bool]) -> None:
        """Hand ``direction`` to the base optimizer; parameters no loss reaches keep no gradient."""
        for p, d, used in zip(params, direction, reached, strict=True):
            p.grad = d if used else None
        with record_function("optimizer step"):
            self.base_optimizer.step()
        self.steps_taken += 1
