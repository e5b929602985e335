"""Result tables as data, one entry for each cell: CSV, JSON and Parquet."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from roga_domainbed.report.against import FIELDS as AGAINST_FIELDS
from roga_domainbed.report.against import against_values
from roga_domainbed.report.comparison import ComparisonTable
from roga_domainbed.report.tables import Cell, Table, Tables
from roga_domainbed.results.csv_table import csv_table

_SIZES = ("samples", "videos", "real_videos", "fake_videos", "real_people", "fake_people", "few")
FIELDS = (
    "dataset", "algorithm", "row", "column", "selection", "oracle", "metric", "mean", "standard_error", "trials",
    "trials_of_the_sweep", "caveats", "reason", "trained_on", *_SIZES,
)  # fmt: skip


def values(tables: Tables) -> list[dict[str, Any]]:
    """One dict of ``FIELDS`` for each cell.

    ``row`` is the algorithm, or the name of a row where one algorithm has several. ``trained_on`` is the training set
    of a table of one, else empty. ``dataset`` is None in the table of averages, whose columns are datasets; averages
    over training sets have one, and columns such as ``trained on DF``. Column ``Avg`` is a row's average. ``mean`` and
    ``standard_error`` are percentages, None where there is no value; a single trial has no ``standard_error``.
    ``selection`` is the rule's title, with the word *oracle* where test data decided. ``caveats``: how the runs were
    made, where it is not the default; empty otherwise. ``reason``: why there is no value; empty where there is one.

    ``samples`` to ``fake_people``: how many the value was tested on, the least over trials, None where that is not
    known. ``few``: whether it is marked †.
    """
    return [value for table in tables.tables for value in _of_table(table)]


def render_csv(tables: Tables, *, compat: str | None = None) -> str:
    """A header line, then a line for each cell; an empty field for None.

    If a comparison with a paper was wanted, its cells, with ``against.FIELDS``.
    """
    if tables.against:
        return csv_table(against_values(tables.against), AGAINST_FIELDS)
    return csv_table(values(tables), FIELDS)


def render_json(tables: Tables, *, compat: str | None = None) -> str:
    """``n_records``; ``missing_runs`` and ``unfinished_runs`` of each dataset; ``cells``; ``problems``.

    If comparisons were wanted, ``comparisons`` and ``against``.
    """
    of_datasets = [table for table in tables.tables if table.dataset is not None]
    content = {
        "n_records": tables.n_records,
        "missing_runs": {table.name: list(table.missing) for table in of_datasets},
        "unfinished_runs": {table.name: list(map(asdict, table.unfinished)) for table in of_datasets},
        "cells": values(tables),
        "problems": list(tables.problems),
    }
    if tables.comparisons:
        algorithms = {row.name: row.algorithm for row in tables.tables[0].rows}
        content["comparisons"] = [
            value for table in tables.comparisons for value in _of_comparison(table, algorithms)
        ]
    if tables.against:
        content["against"] = list(against_values(tables.against))
    return json.dumps(content, indent=1) + "\n"


def render_parquet(tables: Tables, *, compat: str | None = None) -> bytes:
    """The cells as a Parquet file."""
    import pyarrow as pa
    from pyarrow import parquet

    kinds = {"oracle": pa.bool_(), "mean": pa.float64(), "standard_error": pa.float64()}
    kinds |= {"trials": pa.int64(), "trials_of_the_sweep": pa.int64()}
    kinds |= dict.fromkeys(_SIZES, pa.int64()) | {"few": pa.bool_()}
    schema = pa.schema([(field, kinds.get(field, pa.string())) for field in FIELDS])
    sink = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(values(tables), schema=schema), sink)
    return sink.getvalue()


def _of_table(table: Table) -> list[dict[str, Any]]:
    found = []
    for row in table.rows:
        shared = {
            "dataset": table.dataset or table.averages_of or None,
            "trained_on": table.trained_on,
            "algorithm": row.algorithm,
            "row": row.name,
            "selection": table.rule.title,
            "oracle": table.is_oracle,
            "metric": table.metric.name,
            "caveats": "; ".join(table.caveats),
        }
        trials = table.trials or (None,) * len(table.columns)
        columns = [
            (
                column,
                *((None, None, 0) if cell is None else (_finite(cell.mean), _finite(cell.error), cell.n)),
                expected,
                table.reason(row, place),
                *_sizes(cell),
            )
            for place, (column, cell, expected) in enumerate(
                zip(table.columns, row.cells, trials, strict=True)
            )
        ]
        columns.append(("Avg", _finite(row.average), None, None, None, table.reason(row, -1), *_sizes(None)))
        names = ("column", "mean", "standard_error", "trials", "trials_of_the_sweep", "reason", *_SIZES)
        for own in columns:
            value = {**shared, **dict(zip(names, own, strict=True))}
            found.append({field: value[field] for field in FIELDS})
    return found


def _sizes(cell: Cell | None) -> list[int | None]:
    """The values of ``_SIZES``: the least over trials, None where it is not known of all."""
    found = cell.tested_on if cell else ()
    of_each = [
        (own.n_samples, own.n_videos, *(own.videos or (None, None)), *(own.people or (None, None)))
        for own in found
    ]
    least = [None if None in values else min(values) for values in zip(*of_each, strict=True)]
    return [*(least or [None] * (len(_SIZES) - 1)), any(own.is_few for own in found) if found else None]


def _of_comparison(table: ComparisonTable, algorithms: Mapping[str, str]) -> list[dict[str, Any]]:
    """One dict for each row; differences in percentage points, as the means."""
    shared = {"baseline": table.baseline, "selection": table.rule.title, "metric": table.metric.name}
    return [
        {
            **shared,
            "algorithm": algorithms[row.name],
            "row": row.name,
            "difference": _finite(100 * row.difference),
            "interval": [_finite(100 * limit) for limit in row.interval],
            "p_holm": _finite(row.p_value),
            "wins": row.wins,
            "ties": row.ties,
            "losses": row.losses,
            "pairs": row.pairs,
            "average_rank": _finite(table.ranks[row.name]),
        }
        for row in table.found
    ]


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None  # JSON has no NaN
