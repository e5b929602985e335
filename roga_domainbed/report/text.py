"""Result tables as plain text, in the layout of upstream's ``collect_results``."""

from __future__ import annotations

from collections.abc import Sequence

from roga_domainbed.report.tables import Cell, Table, Tables
from roga_domainbed.selection import UPSTREAM

DATASET_WIDTH = 20
AVERAGES_WIDTH = 25


def render_text(tables: Tables, *, compat: str | None = None) -> str:
    """All tables, as upstream prints them.

    By default a column is widened to its longest cell; with ``compat="upstream"`` cells are cut instead.
    """
    parts = [f"Total records: {tables.n_records}\n"]
    for table in tables.tables:
        width = AVERAGES_WIDTH if table.dataset is None else DATASET_WIDTH
        rows = [["Algorithm", *table.columns, "Avg"]]
        rows += [[row.algorithm, *map(_cell, row.cells), format_average(row.average)] for row in table.rows]
        if compat != UPSTREAM:
            width = max(width, *(len(cell) for row in rows for cell in row))
        parts.append(f"\n-------- {header(table)}\n")
        parts += [format_row(row, width) for row in rows]
    return "".join(parts)


def header(table: Table) -> str:
    """The sentence above a table: dataset, rule, and whatever is not upstream's default."""
    name = "Averages" if table.dataset is None else f"Dataset: {table.dataset}"
    return f"{name}, model selection method: {table.rule.title}{remarks(table)}"


def remarks(table: Table) -> str:
    """Metric and caveats of a table, each after a comma; empty for plain accuracy."""
    found = list(table.caveats)
    if table.metric.name != "acc":
        found.insert(0, f"metric: {table.metric.name}{' (lower is better)' * table.metric.lower_is_better}")
    return "".join(f", {remark}" for remark in found)


def format_row(cells: Sequence[str], width: int) -> str:
    """One line: every cell padded, and cut, to ``width`` characters, two blanks between, one at the end."""
    return "  ".join(cell.ljust(width)[:width] for cell in cells) + " \n"


def format_average(value: float | None) -> str:
    """A percentage with one decimal; ``X`` for None."""
    return "X" if value is None else f"{value:.1f}"


def format_cell(cell: Cell | None, plus_minus: str) -> str:
    """``mean plus_minus error``, one decimal each; ``X`` for None."""
    return "X" if cell is None else f"{cell.mean:.1f} {plus_minus} {cell.error:.1f}"


def _cell(cell: Cell | None) -> str:
    return format_cell(cell, "+/-")
