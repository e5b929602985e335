"""The 95 % intervals of a result table as a table of their own, for the formats that are only text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from roga_domainbed.metrics import Metric
from roga_domainbed.report.intervals import OVER, Interval, cell_intervals
from roga_domainbed.report.scores import StoredScores
from roga_domainbed.results.protocols import environment_name, table_name
from roga_domainbed.results.selected import CellKey, Selected
from roga_domainbed.results.selection import Rule


@dataclass(frozen=True)
class IntervalTable:
    """The intervals of one dataset's cells, for one selection rule.

    Attributes:
        dataset: whose environments the columns are.
        trained_on: the training environments, where the table is of one training set; else empty.
        rule: the selection rule.
        metric: what the intervals are of.
        intervals: of every cell that has a number.
        trials: the numbers of trials of the cells.
    """

    dataset: str
    trained_on: str
    rule: Rule
    metric: Metric
    intervals: Mapping[CellKey, Interval]
    trials: frozenset[int]

    n_left = 1  # columns that are aligned to the left

    @property
    def title(self) -> str:
        """The line above the table."""
        return (
            f"95 % intervals, dataset: {self._name}, metric: {self.metric.name}, model selection method: "
            f"{self.rule.title}"
        )

    @property
    def labels(self) -> tuple[str, ...]:
        """The head of every column."""
        return "Algorithm", *(environment_name(self.dataset, env) for env in self._envs)

    def rows(self) -> list[list[str]]:
        """The texts below ``labels``, in percent; a cell with an interval of a rarer kind than most names the kind."""
        names = dict.fromkeys(row for _, row, _ in self.intervals)
        return [[name, *(self._text(name, env) for env in self._envs)] for name in names]

    def notes(self) -> list[str]:
        """What the intervals are over, and why a cell has none."""
        lines = [f"95 % interval over {over}: {OVER[over]}" for over in OVER if over in self._kinds]
        lines.append(f"Trials: {' or '.join(map(str, sorted(self.trials)))}")
        reasons = dict.fromkeys(own.note for own in self.intervals.values() if not own.over)
        return lines + [f"X: {reason}" for reason in reasons]

    @property
    def _name(self) -> str:
        return table_name(self.dataset, self.trained_on)

    @property
    def _envs(self) -> list[int]:
        return sorted({env for _, _, env in self.intervals})

    @property
    def _kinds(self) -> list[str]:
        """The kinds of the intervals, the most frequent first."""
        found = [own.over for own in self.intervals.values() if own.over]
        return sorted(set(found), key=found.count, reverse=True)

    def _text(self, row: str, env: int) -> str:
        own = self.intervals.get((self._name, row, env))
        if own is None or not own.over:
            return "X"
        kind = "" if own.over == self._kinds[0] else f" ({own.over})"
        return f"{100 * own.low:.1f} to {100 * own.high:.1f}{kind}"


def interval_tables(selected: Selected, stored: StoredScores) -> list[IntervalTable]:
    """One table for each dataset, or training set of it, in which the rule chose anything.

    Args:
        selected: what a rule chose.
        stored: the scores of the chosen runs on their test environments.
    """
    in_order = list(selected.values)
    found = cell_intervals(selected, stored)
    found = dict(sorted(found.items(), key=lambda cell: in_order.index(cell[0][1])))
    tables = []
    for name in dict.fromkeys(cell[0] for cell in found):
        own = {cell: interval for cell, interval in found.items() if cell[0] == name}
        counts = frozenset(len({run.trial for run in selected.trials[cell]}) for cell in own)
        one = selected.trials[next(iter(own))][0]
        place = one.dataset, one.trained_on
        tables.append(IntervalTable(*place, selected.rule, selected.metric, own, counts))
    return tables
