"""The numbers a step looks at: finite or not, read at once or when somebody asks.

On a CPU they are read in the step that made them. A GPU would have to be waited for, so there they stay where they
are: the step itself is guarded on the device (see ``SharpnessOptimizer``), and the error is raised when the numbers
are read, which is at the latest when the optimizer's state is saved.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from roga_domainbed.errors import RogaError

#: What a number is, and the domain it belongs to or None.
Label = tuple[str, int | None]
#: One entry of a report: the sum of the numbers at these positions, times the factor.
Entry = tuple[Sequence[int], float]


class NonFiniteError(RogaError):
    """A loss or a gradient is NaN or infinite; the weights are those from before the step.

    Attributes:
        step: the optimizer's step, from 0.
        domain: index of the closure it happened in; None where there is only one.
    """

    def __init__(self, what: str, value: float, step: int, domain: int | None):
        self.step, self.domain = step, domain
        where = "" if domain is None else f" of domain {domain}"
        super().__init__(
            f"step {step}: the {what}{where} is {value}; the weights are those from before the step. "
            "Lower the learning rate or rho, or look at that domain's inputs"
        )


class StepNumbers:
    """The numbers of one step, causes before consequences, so that an error names where it began.

    Args:
        values: (n,) on the device of the step.
        labels: n of them.
        step: the optimizer's step, from 0.
    """

    def __init__(self, values: Tensor, labels: list[Label], step: int):
        self.values, self.labels, self.step = values.detach(), labels, step
        self._floats: list[float] | None = None

    def plain(self) -> tuple[Tensor, list[Label], int]:
        """The arguments that make it again."""
        return self.values, self.labels, self.step

    def any_bad(self) -> Tensor:
        """0-dim float32 on the device: 1 if one of them is not finite, else 0."""
        return (~torch.isfinite(self.values)).any().float()

    def floats(self) -> list[float]:
        """All of them, in one transfer; waits for the device the first time.

        Raises:
            NonFiniteError: for the first that is not finite.
        """
        if self._floats is None:
            self._floats = self.values.double().tolist()
        for (what, domain), number in zip(self.labels, self._floats, strict=True):
            if not math.isfinite(number):
                raise NonFiniteError(what, number, self.step, domain)
        return self._floats

    def read(self, entry: Entry) -> float:
        """The value of one entry of the report."""
        positions, factor = entry
        floats = self.floats()
        return sum(floats[i] for i in positions) * factor


class LateNumber:
    """A number of a report that is still on the device: ``float()`` and numpy read it, and wait for it then.

    Args:
        read: gives the number, or raises ``NonFiniteError``.
    """

    def __init__(self, read: Callable[[], float]):
        self._read = read

    def __float__(self) -> float:
        return self._read()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self._read(), dtype=dtype)

    def __repr__(self) -> str:
        return repr(self._read())


def stacked(values: Sequence[Tensor]) -> Tensor:
    """The 0-dim ``values`` as one tensor on the first one's device, in the widest of their types."""
    device = values[0].device
    dtype = values[0].dtype
    for value in values[1:]:
        dtype = torch.promote_types(dtype, value.dtype)
    return torch.stack([value.detach().to(device, dtype) for value in values])
