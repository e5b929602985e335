"""Result tables as GitHub-flavoured Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence

from roga_domainbed.foreign import one_line
from roga_domainbed.report.incomplete import unfinished_notes
from roga_domainbed.report.tables import Tables

_SPECIAL = re.compile(r"[\\|*_<`$&~#]|\](?=[(\[:])")  # $: formulas; ](: links


def render_markdown(tables: Tables, *, compat: str | None = None) -> str:
    """All tables; a row that test data decided has *oracle* beside its name."""
    parts = [f"Total records: {tables.n_records}\n"]
    for table in tables.shown:
        if table.absent:
            parts.append(f"\n{_escape(table.absent)}\n")
            continue
        rows = [[row.name + " (oracle)" * table.is_oracle, *table.texts(row, "±")] for row in table.rows]
        parts += _table(
            table.title, table.labels, rows, [*table.notes(), *unfinished_notes(table.unfinished)]
        )
    for table in tables.more:
        parts += _table(table.title, table.labels, table.rows(), table.notes())
    if tables.problems:
        parts += ["\n", *(f"{_escape(line)}  \n" for line in tables.problems)]
    return "".join(parts)


def _table(
    title: str, labels: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str]
) -> list[str]:
    return [
        f"\n**{_escape(title)}**\n\n",
        _line(labels),
        "|---|" + "---:|" * (len(labels) - 1) + "\n",
        *map(_line, rows),
        "\n" * bool(notes),
        *(f"{_escape(line.strip())}  \n" for line in notes),
    ]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_escape, cells))} |\n"


def _escape(text: str) -> str:
    return _SPECIAL.sub(r"\\\g<0>", one_line(text))
