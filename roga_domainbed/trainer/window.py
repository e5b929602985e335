"""What the steps since the last record reported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from roga_domainbed.trainer.config import require_finite


class Window:
    """Collects the values of each step; gives their means to a record.

    A value that is a number already is checked at once. Anything else that ``float()`` reads, a scalar tensor on a GPU,
    say, is left alone until the record, because reading it would wait for the GPU at every step.

    Attributes:
        values: name → the number of each step that reported it; complete after ``settle``.
    """

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = {}
        self._late: list[tuple[int, dict[str, Any]]] = []

    def add(self, step: int, values: Mapping[str, Any]) -> None:
        """Take what ``step`` reported.

        Raises:
            RogaError: a number is not finite.
        """
        known = {name: float(value) for name, value in values.items() if isinstance(value, (int, float))}
        require_finite(known, step)
        self._keep(known)
        if len(known) < len(values):
            self._late.append((step, {name: value for name, value in values.items() if name not in known}))

    def settle(self) -> None:
        """Read what was left alone.

        Raises:
            RogaError: a value is not finite; it names the step that reported it.
        """
        late, self._late = self._late, []
        for step, values in late:
            read = {name: float(value) for name, value in values.items()}
            require_finite(read, step)
            self._keep(read)

    def means(self) -> dict[str, float]:
        """Mean of each value over the steps that reported it; the window is empty after."""
        self.settle()
        means = {name: float(np.mean(numbers)) for name, numbers in self.values.items()}
        self.values = {}
        return means

    def _keep(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.values.setdefault(name, []).append(value)
