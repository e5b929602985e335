"""What the steps since the last record reported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from roga_domainbed.trainer.config import require_finite


class RunningMeans:
    """Collects the values of each step; gives their means to a record.

    A value that is a number already is checked at once. Anything else that ``float()`` reads, a scalar tensor on a GPU,
    say, is left alone until the record, because reading it would wait for the GPU at every step.

    Args:
        values: what ``settled`` gave, of a resumed run.
    """

    def __init__(self, values: Mapping[str, list[float]] | None = None) -> None:
        self._values = {name: list(numbers) for name, numbers in (values or {}).items()}
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

    def settled(self) -> dict[str, list[float]]:
        """Name → the number of each step that reported it; reads what was left alone.

        Raises:
            RogaError: a value is not finite; it names the step that reported it.
        """
        late, self._late = self._late, []
        for step, values in late:
            read = {name: float(value) for name, value in values.items()}
            require_finite(read, step)
            self._keep(read)
        return self._values

    def means(self) -> dict[str, float]:
        """Mean of each value over the steps that reported it."""
        return {name: float(np.mean(numbers)) for name, numbers in self.settled().items()}

    def _keep(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._values.setdefault(name, []).append(value)
