"""Learning-rate schedules for every algorithm: ``lr_schedule`` and what goes with it.

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

from roga_domainbed.catalog import SCHEDULE_HPARAMS
from roga_domainbed.errors import Problems

_DEFAULTS = {spec.name: spec.default for spec in SCHEDULE_HPARAMS}


def factor(step: int, n_steps: int, hparams: Mapping[str, Any]) -> float:
    """What the learning rates of a step are multiplied by, in [0, 1].

    The first ``warmup_steps``, n of them, have (k + 1)/(n + 1) in step k. ``lr_schedule`` says what follows; t counts
    from 0 after the warm-up:

    - ``none``: 1.
    - ``cosine``: ½ (1 + cos πt/T), where T is the number of steps after the warm-up (arXiv:1608.03983, Eq. 5, without
      restarts).
    - ``step``: γ^⌊t/n⌋, where n is ``lr_decay_every`` and γ is ``lr_decay``: torch's ``StepLR`` with a scheduler's step
      after every training step.

    Args:
        step: counted from 0.
        n_steps: of the run.
        hparams: of the run, without ``problems``; those of the schedule may be missing.
    """
    values = {**_DEFAULTS, **hparams}
    warmup_steps, schedule = values["warmup_steps"], values["lr_schedule"]
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / (n_steps - warmup_steps)))
    if schedule == "step":
        return values["lr_decay"] ** ((step - warmup_steps) // values["lr_decay_every"])
    return 1.0


def problems(hparams: Mapping[str, Any], n_steps: int | None) -> list[str]:
    """Why a run cannot have this schedule, a sentence each.

    Args:
        hparams: of the run.
        n_steps: of the run; None where only its data will tell.
    """
    found = []
    warmup_steps = hparams.get("warmup_steps", 0)
    if n_steps is not None and warmup_steps >= n_steps:
        found.append(
            f"hparam 'warmup_steps' must be below the run's {n_steps:,} steps, or the full learning rate is never "
            f"reached; got {warmup_steps:,}"
        )
    if hparams.get("lr_schedule") == "step" and "lr_decay_every" not in hparams:
        found.append(
            "hparam 'lr_schedule' step needs 'lr_decay_every', the training steps after which the learning rate is "
            "multiplied by 'lr_decay'"
        )
    for name in ("lr_decay_every", "lr_decay"):
        if name in hparams and "lr_schedule" not in hparams:
            found.append(f"hparam {name!r} goes with 'lr_schedule' step, and no 'lr_schedule' is given")
    return found


class LearningRate:
    """The schedule of a run.

    Args:
        hparams: of the run; those of the schedule may be missing.
        n_steps: of the run.

    Raises:
        RogaError: the run cannot have it; see ``problems``.
    """

    def __init__(self, hparams: Mapping[str, Any], n_steps: int):
        found = Problems()
        for message in problems(hparams, n_steps):
            found.add(message)
        found.check()
        self._hparams, self._n_steps = hparams, n_steps

    @contextmanager
    def at(self, step: int) -> Iterator[None]:
        """Inside, every optimizer steps with the learning rates of ``step``."""
        by = factor(step, self._n_steps, self._hparams)
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
