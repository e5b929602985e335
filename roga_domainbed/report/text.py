"""Result tables as plain text, in the layout of upstream's ``collect_results``."""

from __future__ import annotations

from collections.abc import Sequence

from roga_domainbed.report.comparison import LABELS
from roga_domainbed.report.tables import Cell, Row, Table, Tables
from roga_domainbed.results.selection import UPSTREAM

DATASET_WIDTH = 20
AVERAGES_WIDTH = 25
MOST_GAPS = 12


def render_text(tables: Tables, *, compat: str | None = None) -> str:
    """All tables, as upstream prints them.

    By default a column is widened to its longest cell; with ``compat="upstream"`` cells are cut instead.
    """
    parts = [f"Total records: {tables.n_records}\n"]
    for table in tables.tables:
        width = AVERAGES_WIDTH if table.dataset is None else DATASET_WIDTH
        rows = [["Algorithm", *table.columns, "Avg"]]
        rows += [[row.algorithm, *format_cells(table, row, "+/-")] for row in table.rows]
        if compat != UPSTREAM:
            width = max(width, *(len(cell) for row in rows for cell in row))
        parts.append(f"\n-------- {header(table)}\n")
        parts += [format_row(row, width) for row in rows]
        parts += [f"{line}\n" for line in footnotes(table)]
    for comparison in tables.comparisons:
        rows = [[*LABELS], *comparison.rows()]
        width = max(len(cell) for row in rows for cell in row)
        parts.append(f"\n-------- {comparison.header}\n")
        parts += [format_row(row, width) for row in rows]
        parts += [f"{line}\n" for line in comparison.notes()]
    return "".join(parts)


def header(table: Table) -> str:
    """The sentence above a table: dataset, rule, and whatever is not upstream's default."""
    name = "Averages" if table.dataset is None else f"Dataset: {table.dataset}"
    return f"{name}, model selection method: {table.rule.title}{remarks(table)}"


def remarks(table: Table) -> str:
    """Metric and caveats of a table, each after a comma; empty for plain accuracy."""
    found = list(table.caveats)
    if table.metric.name != "acc":
        unit = f", {table.metric.unit}" * (table.metric.unit != "%")
        found.insert(
            0, f"metric: {table.metric.name}{' (lower is better)' * table.metric.lower_is_better}{unit}"
        )
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


def format_cells(table: Table, row: Row, plus_minus: str) -> list[str]:
    """A row's cells and its average; ``*`` after a number that fewer trials than the sweep's have made."""
    texts = [format_cell(cell, plus_minus) for cell in row.cells] + [format_average(row.average)]
    columns = [*range(len(row.cells)), -1]
    return [
        text + "*" if text != "X" and table.is_short(row, column) else text
        for text, column in zip(texts, columns, strict=True)
    ]


def footnotes(table: Table) -> list[str]:
    """What a reader must know below a table: the meaning of ``*``, and which runs are missing."""
    notes = []
    if any(table.is_short(row, -1) for row in table.rows):
        trials = " or ".join(map(str, sorted(set(table.trials))))
        notes.append(f"* fewer trials than the {trials} of the sweep")
    if table.gaps:
        notes.append(f"Missing runs in {len(table.gaps)} cells:")
        notes += [f"  {gap}" for gap in table.gaps[:MOST_GAPS]]
        if len(table.gaps) > MOST_GAPS:
            notes.append(
                f"  and {len(table.gaps) - MOST_GAPS} cells more; collect-results --format json lists all"
            )
    return notes
