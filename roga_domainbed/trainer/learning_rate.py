"""Learning-rate schedules for every algorithm: ``lr_schedule`` and ``warmup_steps``.

The rates that an algorithm gave its optimizers are multiplied by a factor of the step while an optimizer steps, and put
back after it. So algorithms that make a new optimizer in ``update``, or have two, need to know nothing of it. Nor is
anything of it in a state: the factor is a function of the step alone, and a resumed run has that of an unbroken one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from roga_domainbed.errors import RogaError


def factor(step: int, n_steps: int, schedule: str = "none", warmup_steps: int = 0) -> float:
    """What the learning rates of a step are multiplied by, in (0, 1].

    Args:
        step: counted from 0.
        n_steps: of the run.
        schedule: ``none``, or ``cosine``: ½ (1 + cos πt), where t runs from 0 after the warm-up to 1 after the last
            step (arXiv:1608.03983, Eq. 5, without restarts).
        warmup_steps: n; step k < n has (k + 1)/(n + 1).
    """
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / (n_steps - warmup_steps)))
    return 1.0


def warmup_problem(hparams: Mapping[str, Any], n_steps: int) -> str | None:
    """Why a run of ``n_steps`` cannot have this warm-up; None if it can."""
    warmup_steps = hparams.get("warmup_steps", 0)
    if warmup_steps < n_steps:
        return None
    return (
        f"hparam 'warmup_steps' must be below the run's {n_steps:,} steps, or the full learning rate is never reached; "
        f"got {warmup_steps:,}"
    )


class LearningRate:
    """The schedule of a run.

    Args:
        hparams: of the run; ``lr_schedule`` and ``warmup_steps`` may be missing.
        n_steps: of the run.

    Raises:
        RogaError: the warm-up is as long as the run, or longer.
    """

    def __init__(self, hparams: Mapping[str, Any], n_steps: int):
        problem = warmup_problem(hparams, n_steps)
        if problem is not None:
            raise RogaError(problem)
        self._n_steps = n_steps
        self._schedule = hparams.get("lr_schedule", "none")
        self._warmup_steps = hparams.get("warmup_steps", 0)

    @contextmanager
    def at(self, step: int) -> Iterator[None]:
        """Inside, every optimizer steps with the learning rates of ``step``."""
        by = factor(step, self._n_steps, self._schedule, self._warmup_steps)
        if by == 1:
            yield
            return
        full: dict[int, tuple[dict[str, Any], Any]] = {}

        def scale(optimizer: torch.optim.Optimizer, *_: Any) -> None:
            for group in optimizer.param_groups:
                # An optimizer around another one shares its groups, and is asked first.
                if id(group) not in full:
                    full[id(group)] = group, group["lr"]
                    group["lr"] = group["lr"] * by

        def restore(optimizer: torch.optim.Optimizer, *_: Any) -> None:
            for group in optimizer.param_groups:
                if id(group) in full:
                    _, group["lr"] = full.pop(id(group))

        hooks = [register_optimizer_step_pre_hook(scale), register_optimizer_step_post_hook(restore)]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
            for group, lr in full.values():  # of a step that raised an error
                group["lr"] = lr
