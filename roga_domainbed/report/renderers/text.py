"""Result tables as plain text, in the layout of upstream's ``collect_results``."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from roga_domainbed.foreign import one_line
from roga_domainbed.report.against import AgainstTable
from roga_domainbed.report.comparison import ComparisonTable
from roga_domainbed.report.interval_table import IntervalTable
from roga_domainbed.report.tables import Tables
from roga_domainbed.results.selection import UPSTREAM
from roga_domainbed.results.text_table import text_table

DATASET_WIDTH = 20
AVERAGES_WIDTH = 25
PROSE_WIDTH = 80


def render_text(tables: Tables, *, compat: str | None = None) -> str:
    """All tables, as upstream prints them.

    By default a column is as wide as its longest cell; with ``compat="upstream"`` cells are cut instead.
    """
    parts = [f"Total records: {tables.n_records}\n"]
    for table in tables.shown:
        if table.absent:
            parts.append(f"\n{_prose(table.absent)}")
            continue
        width = AVERAGES_WIDTH if table.dataset is None else DATASET_WIDTH
        rows = [table.labels, *([row.name, *table.texts(row, "+/-")] for row in table.rows)]
        if compat != UPSTREAM:
            rows = [list(map(one_line, row)) for row in rows]
            width = max(width, *(len(cell) for row in rows for cell in row))
        parts.append(f"\n-------- {one_line(table.title)}\n")
        parts += ["  ".join(cell.ljust(width)[:width] for cell in row) + " \n" for row in rows]
        parts += map(_prose, table.notes())
    parts.append(render_more(tables.more))
    if tables.problems:
        parts += ["\n", *(f"{one_line(line)}\n" for line in tables.problems)]
    return "".join(parts)


def render_more(tables: Sequence[IntervalTable | ComparisonTable | AgainstTable]) -> str:
    """The tables that follow those of the rules."""
    parts = []
    for table in tables:
        parts.append(f"\n-------- {one_line(table.title)}\n")
        rows = [table.labels, *(list(map(one_line, row)) for row in table.rows())]
        parts.append(text_table(rows, table.n_left))
        parts += map(_prose, table.notes())
    return "".join(parts)


def _prose(line: str) -> str:
    """A line below a table, on as many lines as a terminal needs; the others are indented."""
    line = one_line(line)
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    wrapped = textwrap.wrap(
        line, PROSE_WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return "".join(f"{part}\n" for part in wrapped or [""])
