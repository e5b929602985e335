"""What ``explain`` found: its figure as a file, or figure, table and command as one self-contained page."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from roga_domainbed.files import replacing
from roga_domainbed.report.figures.drawing import Drawing, save_drawing, save_figure
from roga_domainbed.report.figures.figure import Figure
from roga_domainbed.report.html import render
from roga_domainbed.report.page_tables import PageTable


@dataclass(frozen=True)
class Explained:
    """A figure with what belongs to it.

    Attributes:
        title: of the page.
        figure: as a file has it.
        table: what was printed.
        notes: a sentence for each thing worth knowing.
        parts: the figure as a page has it, in parts that fit a narrow one; empty if it is one part.
    """

    title: str
    figure: Figure | Drawing
    table: PageTable
    notes: tuple[str, ...] = ()
    parts: tuple[Figure | Drawing, ...] = ()


def save(explained: Explained, path: Path, command: Sequence[str]) -> None:
    """Write ``explained`` into ``path``: a page if its suffix is ``.html``, else the figure alone.

    Args:
        explained: what was found.
        path: the file.
        command: what made it, for the page.
    """
    if path.suffix == ".html":
        page = _page(explained, command)
        with replacing(path) as partial:
            partial.write_text(page, encoding="utf-8")
    elif isinstance(explained.figure, Figure):
        save_figure(explained.figure, path)
    else:
        save_drawing(explained.figure, path)


def _page(explained: Explained, command: Sequence[str]) -> str:
    return render(
        "explained.html",
        explained=explained,
        title=explained.title,
        parts=[
            (part, part.panels if isinstance(part, Figure) else ())
            for part in explained.parts or (explained.figure,)
        ],
        command=shlex.join(command),
    )
