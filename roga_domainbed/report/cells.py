"""Result tables as data, one line a cell: CSV, JSON and Parquet."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import asdict
from typing import Any

from roga_domainbed.report.comparison import ComparisonTable
from roga_domainbed.report.tables import Table, Tables

FIELDS = (
    "dataset", "algorithm", "column", "selection", "oracle", "metric", "mean", "standard_error", "trials",
    "trials_of_the_sweep", "caveats",
)  # fmt: skip


def cells(tables: Tables) -> list[dict[str, Any]]:
    """One dict of ``FIELDS`` a cell.

    ``dataset`` is None in the table of averages, whose columns are datasets; column ``Avg`` is a row's average.
    ``mean`` and ``standard_error`` are percentages, None where there is no value. ``selection`` is the rule's
    title, with the word *oracle* where test data decided. ``caveats`` says how the data were made up, where it is not
    the default; empty otherwise.
    """
    return [cell for table in tables.tables for cell in _of_table(table)]


def render_csv(tables: Tables, *, compat: str | None = None) -> str:
    """A header line, then a line a cell; an empty field for None."""
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(cells(tables))
    return text.getvalue()


def render_json(tables: Tables, *, compat: str | None = None) -> str:
    """``n_records``, by dataset ``missing_runs`` and ``unfinished_runs``, ``cells``, ``comparisons`` where wanted."""
    of_datasets = [table for table in tables.tables if table.dataset is not None]
    content = {
        "n_records": tables.n_records,
        "missing_runs": {table.dataset: list(table.gaps) for table in of_datasets},
        "unfinished_runs": {table.dataset: list(map(asdict, table.unfinished)) for table in of_datasets},
        "cells": cells(tables),
    }
    if tables.comparisons:
        content["comparisons"] = [line for table in tables.comparisons for line in _of_comparison(table)]
    return json.dumps(content, indent=1) + "\n"


def render_parquet(tables: Tables, *, compat: str | None = None) -> bytes:
    """The cells as a Parquet file."""
    import pyarrow as pa
    from pyarrow import parquet

    kinds = {"oracle": pa.bool_(), "mean": pa.float64(), "standard_error": pa.float64()}
    kinds |= {"trials": pa.int64(), "trials_of_the_sweep": pa.int64()}
    schema = pa.schema([(field, kinds.get(field, pa.string())) for field in FIELDS])
    sink = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(cells(tables), schema=schema), sink)
    return sink.getvalue()


def _of_table(table: Table) -> list[dict[str, Any]]:
    lines = []
    for row in table.rows:
        shared = {
            "dataset": table.dataset,
            "algorithm": row.algorithm,
            "selection": table.rule.title,
            "oracle": table.is_oracle,
            "metric": table.metric.name,
            "caveats": "; ".join(table.caveats),
        }
        trials = table.trials or (None,) * len(table.columns)
        for column, cell, wanted in zip(table.columns, row.cells, trials, strict=True):
            values = (None, None, 0) if cell is None else (cell.mean, cell.error, cell.n)
            lines.append(_line(shared, column, *values, wanted))
        lines.append(_line(shared, "Avg", row.average, None, None, None))
    return lines


def _of_comparison(table: ComparisonTable) -> list[dict[str, Any]]:
    """An object for each algorithm; differences in percentage points, as the cells."""
    shared = {"baseline": table.baseline, "selection": table.rule.title, "metric": table.metric.name}
    return [
        {
            **shared,
            "algorithm": row.algorithm,
            "difference": _finite(100 * row.difference),
            "interval": [_finite(100 * limit) for limit in row.interval],
            "p_holm": _finite(row.p_value),
            "wins": row.wins,
            "ties": row.ties,
            "losses": row.losses,
            "pairs": row.pairs,
            "average_rank": _finite(table.ranks[row.algorithm]),
        }
        for row in table.found
    ]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None  # JSON has no NaN


def _line(shared: dict, column: str, mean: Any, error: Any, trials: Any, wanted: Any) -> dict[str, Any]:
    line = {**shared, "column": column, "mean": mean, "standard_error": error}
    line |= {"trials": trials, "trials_of_the_sweep": wanted}
    return {field: line[field] for field in FIELDS}
