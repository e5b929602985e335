"""What a person watches while a model trains: one line a record."""

from __future__ import annotations

import time
from typing import Any


class RecordTable:
    """Prints a header once and a line a record: loss, then the metric of every environment.

    The metric is AUC for a binary task and accuracy otherwise, ``in/out`` in percent; test environments are in
    brackets.

    Args:
        names: the environments' names.
        test_envs: indices of the held-out ones.
        n_steps: steps of the run, for the estimate of what is left.
    """

    def __init__(self, names: list[str], test_envs: list[int], n_steps: int):
        self.names, self.test_envs, self.n_steps = names, test_envs, n_steps
        self._first: tuple[int, float] | None = None  # step and time of the first line
        self._header_printed = False

    def print(self, record: dict[str, Any]) -> None:
        """Print the line of ``record``."""
        metric = "auc" if "env0_out_auc" in record else "acc"
        if not self._header_printed:
            columns = [f"[{n}]" if i in self.test_envs else n for i, n in enumerate(self.names)]
            print(f"\n{metric} in/out in %, test environments in brackets")
            print(f"{'step':>6} {'loss':>9}  " + "  ".join(f"{c:^11.11}" for c in columns) + "   left")
            self._header_printed = True
        loss = record.get("loss")
        cells = "  ".join(f"{self._pair(record, i, metric):^11}" for i in range(len(self.names)))
        step = record["step"]
        shown = f"{loss:9.4f}" if loss is not None else " " * 9
        print(f"{step:>6} {shown}  {cells}  {self._left(step)}", flush=True)

    def _pair(self, record: dict[str, Any], env: int, metric: str) -> str:
        values = (record.get(f"env{env}_{part}_{metric}") for part in ("in", "out"))
        return "/".join("  -  " if v is None else f"{100 * v:5.1f}" for v in values)

    def _left(self, step: int) -> str:
        steps_left, now = self.n_steps - step - 1, time.perf_counter()
        if self._first is None:
            self._first = step, now
            if steps_left:
                return f"{'-':>6}"  # the first step and its evaluation are no measure of the others
        since, started = self._first
        left = (now - started) / max(1, step - since) * steps_left
        minutes, seconds = divmod(int(left), 60)
        return f"{minutes:3d}:{seconds:02d}"
