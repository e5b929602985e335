"""Result tables as GitHub-flavoured Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from roga_domainbed.report.comparison import LABELS
from roga_domainbed.report.tables import Tables
from roga_domainbed.report.text import footnotes, format_cells, header
from roga_domainbed.report.unfinished import notes


def render_markdown(tables: Tables, *, compat: str | None = None) -> str:
    """All tables; a row that test data decided says *oracle* beside the algorithm's name."""
    parts = [f"Total records: {tables.n_records}\n"]
    for table in tables.tables:
        labels = ["Algorithm", *table.columns, "Avg"]
        parts.append(f"\n**{_escape(header(table))}**\n\n")
        parts += [_line(labels), "|---|" + "---:|" * (len(labels) - 1) + "\n"]
        for row in table.rows:
            name = row.algorithm + " (oracle)" * table.is_oracle
            parts.append(_line([name, *format_cells(table, row, "±")]))
        parts.append(_notes([*footnotes(table), *notes(table.unfinished)]))
    for comparison in tables.comparisons:
        parts.append(f"\n**{_escape(comparison.header)}**\n\n")
        parts += [_line(LABELS), "|---|" + "---:|" * (len(LABELS) - 1) + "\n"]
        parts += map(_line, comparison.rows())
        parts.append(_notes(comparison.notes()))
    return "".join(parts)


def _notes(lines: Sequence[str]) -> str:
    return "\n" * bool(lines) + "".join(f"{_escape(line.strip())}  \n" for line in lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_escape, cells))} |\n"


def _escape(text: str) -> str:
    for character in "\\|*_<":
        text = text.replace(character, "\\" + character)
    return text
