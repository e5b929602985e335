"""The numbers that a paper prints for what a sweep trains: the ``paper`` block of a preset.

    paper:
      source: arXiv:2505.20653, Table II
      note: How the paper's protocol differs from that of the runs.
      columns:
        - {name: GID-DF AUC, dataset: FFPP, env: DF, metric: auc}
        - {name: GID-FS AUC, dataset: FFPP, env: FS, metric: auc}
      rows:
        RoGA: [90.08, 98.08]
        DisGRL: [86.1, 86.3]

A column says which of our numbers belongs beside the paper's: the metric on a test environment of a dataset. A row is
called like a row of the sweep; one that the sweep does not have is the paper's only. Numbers are typed as the paper
prints them, null where it prints none; ``times`` of a column (1 by default) makes them what our tables show, 100 where
the paper prints fractions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from roga_domainbed.catalog import DATASETS
from roga_domainbed.catalog.values import Allowed, shown
from roga_domainbed.errors import Problems, unknown_name
from roga_domainbed.sweep.checked import checked


@dataclass(frozen=True)
class PaperColumn:
    """A column of the paper's table.

    Attributes:
        name: its head.
        dataset: registered name.
        env: name of the test environment.
        metric: of the records.
        times: what the paper's numbers are multiplied by to be in the unit of our tables.
    """

    name: str
    dataset: str
    env: str
    metric: str
    times: float = 1.0


@dataclass(frozen=True)
class PaperTable:
    """A table of a paper.

    Attributes:
        source: paper and table.
        columns: of the paper's table, those that some of our numbers belong beside.
        rows: name of the row → a number for each column, as the paper prints it; None where it prints none.
        note: how the paper's protocol differs from that of the runs.
    """

    source: str
    columns: tuple[PaperColumn, ...]
    rows: Mapping[str, tuple[float | None, ...]]
    note: str = ""

    def number(self, row: str, column: PaperColumn) -> float | None:
        """The paper's number in the unit of our tables; None where it prints none."""
        values = self.rows.get(row)
        value = None if values is None else values[self.columns.index(column)]
        return None if value is None else value * column.times

    @classmethod
    def of(cls, values: Any, where: str, problems: Problems) -> PaperTable | None:
        """The table of a ``paper`` block; None if it is none, and a sentence for all that is wrong with it.

        Args:
            values: what YAML or JSON made of the block.
            where: what the sentences begin with.
            problems: where the sentences are added.
        """
        before = len(problems.messages)
        if not isinstance(values, dict):
            problems.add(f"{where}must be a mapping with source, columns and rows; got {shown(values)}")
            return None
        for key in ("source", "columns", "rows"):
            if key not in values:
                problems.add(f"{where}has no {key}")
        found = checked(values, _KEYS, where, problems)
        columns = [
            _column(value, f"{where}column {place}", problems)
            for place, value in enumerate(found.get("columns", ()), 1)
        ]
        rows = found.get("rows", {})
        for name, numbers in rows.items():
            _check_row(name, numbers, len(columns), where, problems)
        names = [column.name for column in columns if column is not None]
        for name in sorted({name for name in names if names.count(name) > 1}):
            problems.add(
                f"{where}{names.count(name)} columns are called {name!r}: give each a name of its own"
            )
        if len(problems.messages) > before:
            return None
        rows = {name: tuple(numbers) for name, numbers in rows.items()}
        return cls(found["source"], tuple(columns), rows, found.get("note", ""))

    def values(self) -> dict[str, Any]:
        """The block as plain values: what ``of`` reads."""
        columns = [
            {name: value for name, value in asdict(column).items() if (name, value) != ("times", 1.0)}
            for column in self.columns
        ]
        found = {"source": self.source, "columns": columns}
        found["rows"] = {name: list(numbers) for name, numbers in self.rows.items()}
        return found | ({"note": self.note} if self.note else {})

    def check(self, problems: Problems) -> None:
        """Add a sentence for every dataset, environment and metric of the columns that is not known here."""
        from roga_domainbed.metrics import METRICS  # numpy, which help texts do without

        for column in self.columns:
            where = f"paper: column {column.name!r}: "
            if column.dataset not in DATASETS:
                problems.add(where + unknown_name("dataset", column.dataset, DATASETS.names()))
            elif column.env not in DATASETS.get(column.dataset).environments:
                known = DATASETS.get(column.dataset).environments
                problems.add(where + unknown_name(f"environment of {column.dataset}", column.env, known))
            if column.metric not in METRICS:
                problems.add(where + unknown_name("metric", column.metric, METRICS.names()))


_KEYS = {
    "source": Allowed(kind=str),
    "note": Allowed(kind=str),
    "columns": Allowed(kind=dict, many=True),
    "rows": Allowed(kind=dict),
}
_COLUMN_KEYS = {
    **dict.fromkeys(("name", "dataset", "env", "metric"), Allowed(kind=str)),
    "times": Allowed(kind=float, above=0),
}


def _column(value: Mapping[str, Any], where: str, problems: Problems) -> PaperColumn | None:
    lacking = [key for key in ("name", "dataset", "env", "metric") if key not in value]
    if lacking:
        problems.add(f"{where} has no {' and no '.join(lacking)}")
    found = checked(value, _COLUMN_KEYS, f"{where}: ", problems)
    whole = len(found) == len(value) and not lacking
    return PaperColumn(**found) if whole else None


def _check_row(name: Any, numbers: Any, n_columns: int, where: str, problems: Problems) -> None:
    if not isinstance(name, str):
        problems.add(f"{where}the name of a row must be a string; got {shown(name)}; put it in quotes")
    elif not isinstance(numbers, list) or not all(value is None or _is_number(value) for value in numbers):
        problems.add(f"{where}row {name!r} must be a list of numbers, null for none; got {shown(numbers)}")
    elif len(numbers) != n_columns:
        problems.add(f"{where}row {name!r} has {len(numbers)} numbers for {n_columns} columns")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
