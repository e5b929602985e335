r"""Result tables as a LaTeX document, in the layout of upstream's ``collect_results --latex``.

By default names are escaped and cells are never cut. With ``compat="upstream"`` only the per cent signs of
column labels are escaped and cells are cut to the column's width, even inside ``\textbf{}``, as upstream does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from roga_domainbed.foreign import one_line
from roga_domainbed.report.incomplete import unfinished_notes
from roga_domainbed.report.renderers.text import AVERAGES_WIDTH, DATASET_WIDTH
from roga_domainbed.report.sizes import FEW
from roga_domainbed.report.tables import Table, Tables
from roga_domainbed.results.selection import UPSTREAM

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",  # the document's font prints other characters for these three
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    FEW: r"\dag{}",
    "[": "{[}",  # at the beginning of a line it would belong to the end of the line before
    "]": "{]}",
    **{character: f"\\{character}" for character in "_%&#${}"},
}
_SPECIAL_PATTERN = re.compile("|".join(map(re.escape, _SPECIAL)))


def render_latex(tables: Tables, *, compat: str | None = None) -> str:
    """All tables, as one document that needs the packages booktabs and adjustbox."""
    lines = [
        r"\documentclass{article}",
        r"\usepackage{booktabs}",
        r"\usepackage{adjustbox}",
        r"\begin{document}",
        r"\section{Full DomainBed results}",
        f"% Total records: {tables.n_records}",
    ]
    rule = None
    for table in tables.shown:
        if table.rule != rule:
            rule = table.rule
            lines += ["", f"\\subsection{{Model selection: {rule.title}}}"]
        if table.absent:
            lines += ["", escape(table.absent)]
            continue
        lines += ["", f"\\subsubsection{{{_title(table, compat)}}}", "", *_tabular(table, compat)]
    for table in tables.more:
        lines += ["", f"\\subsection{{{escape(table.title)}}}", ""]
        rows = [[escape(cell) for cell in row] for row in (table.labels, *table.rows())]
        lines += _layout(rows, max(len(cell) for row in rows for cell in row), None)
        lines += _notes(table.notes())
    if tables.problems:
        lines += ["", *_notes(tables.problems)]
    lines.append(r"\end{document}")
    return "".join(line + "\n" for line in lines)


def escape(text: str) -> str:
    """``text`` as one line, with every character escaped that is special in LaTeX."""
    return _SPECIAL_PATTERN.sub(lambda match: _SPECIAL[match[0]], one_line(text))


def _title(table: Table, compat: str | None) -> str:
    title = table.name + table.remarks
    return title if compat == UPSTREAM else escape(title)


def _tabular(table: Table, compat: str | None) -> list[str]:
    width = AVERAGES_WIDTH if table.dataset is None else DATASET_WIDTH
    if compat == UPSTREAM:
        labels = [label.replace("%", r"\%") for label in table.labels]
        names = [row.name for row in table.rows]
    else:
        labels = [escape(label) for label in table.labels]
        names = [escape(row.name) for row in table.rows]
    rows = [
        [name, *(text.replace(FEW, _SPECIAL[FEW]) for text in table.texts(row, r"$\pm$"))]
        for name, row in zip(names, table.rows, strict=True)
    ]
    notes = [*table.notes(), *unfinished_notes(table.unfinished)]
    return [*_layout([labels, *rows], width, compat), *_notes(notes)]


def _notes(lines: Sequence[str]) -> list[str]:
    return [escape(line.strip()) + r"\\" for line in lines]


def _layout(rows: Sequence[Sequence[str]], width: int, compat: str | None) -> list[str]:
    """A table no wider than the page; its cells are escaped, its first row has the labels."""
    labels, *rows = rows
    return [
        r"\begin{center}",
        r"\adjustbox{max width=\textwidth}{%",
        rf"\begin{{tabular}}{{l{'c' * (len(labels) - 1)}}}",
        r"\toprule",
        _line([f"\\textbf{{{label}}}" for label in labels], width, compat),
        r"\midrule",
        *(_line(row, width, compat) for row in rows),
        r"\bottomrule",
        r"\end{tabular}}",
        r"\end{center}",
    ]


def _line(cells: Sequence[str], width: int, compat: str | None) -> str:
    cells = [cell.ljust(width) for cell in cells]
    if compat == UPSTREAM:
        cells = [cell[:width] for cell in cells]
    return " & ".join(cells) + r" \\"
