"""The check that every loss and norm is finite: in the step on a CPU, when the numbers are read on a GPU.

A GPU would have to be waited for in every step. So there the step goes on, the first numbers that are not finite stay
on the device, and ``FiniteCheck.check`` raises the error: at each record, each checkpoint and each ``state_dict``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from roga_domainbed.errors import Failed

#: What a number is, and the domain it belongs to, or None.
Label = tuple[str, int | None]


class NonFiniteError(Failed):
    """A loss or a gradient is NaN or infinite.

    Attributes:
        step: the optimizer's step, from 0.
        domain: index of the closure it happened in; None where there is only one.
    """

    def __init__(self, what: str, value: float, step: int, domain: int | None, *, late: bool = False):
        self.step, self.domain = step, domain
        where = "" if domain is None else f" of domain {domain}"
        weights = (
            "later steps used it: resume from the last checkpoint"
            if late
            else "the weights are those from before the step"
        )
        super().__init__(
            f"step {step}: the {what}{where} is {value}; {weights}. "
            "Lower the learning rate or rho, or look at that domain's inputs"
        )


class Overflow(Exception):
    """A number of a step with a ``GradScaler`` is not finite: the step is skipped and the scale lowered.

    Attributes:
        losses: what the step returns nevertheless.
    """

    def __init__(self, losses: Tensor):
        super().__init__("a loss or a gradient is not finite at this scale")
        self.losses = losses


def checked_at_once(device: torch.device) -> bool:
    """Whether a step on ``device`` reads its own numbers."""
    return device.type == "cpu"


class FiniteCheck:
    """Looks at the numbers of each step."""

    def __init__(self):
        # The first step that was not finite, else the last one.
        self._values: Tensor | None = None
        self._step: Tensor | None = None
        self._labels: list[Label] = []

    def take(self, values: Tensor, labels: list[Label], step: int) -> bool:
        """Check the numbers of a step, or keep them on their device; whether they were read.

        Args:
            values: (n,), causes before consequences, so that the error names where it began.
            labels: n of them.
            step: the optimizer's step, from 0.

        Raises:
            NonFiniteError: one of them is not finite.
        """
        if checked_at_once(values.device):
            _require_finite(values, labels, step)
            return True
        if self._values is None or labels != self._labels:
            self.check()
            self._values, self._labels = values, labels
            self._step = torch.full((), step, device=values.device)
            return False
        found = ~torch.isfinite(self._values).all()
        self._values = torch.where(found, self._values, values)
        self._step = torch.where(found, self._step, step)
        return False

    def check(self) -> None:
        """Read what is on the device.

        Raises:
            NonFiniteError: a step since the last check was not finite; it names the first.
        """
        values, self._values = self._values, None
        if values is not None:
            _require_finite(values, self._labels, int(self._step), late=True)


def _require_finite(values: Tensor, labels: list[Label], step: int, *, late: bool = False) -> None:
    for (what, domain), value in zip(labels, values.tolist(), strict=True):
        if not math.isfinite(value):
            raise NonFiniteError(what, value, step, domain, late=late)
