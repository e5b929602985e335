"""What ``explain`` found: its figure as a file, or figure, table and command as one self-contained page."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from roga_domainbed import __version__
from roga_domainbed.files import replacing
from roga_domainbed.report.figures.drawing import (
    Drawing,
    inline_drawing,
    inline_svg,
    save_drawing,
    save_figure,
    swatch,
)
from roga_domainbed.report.figures.figure import Figure
from roga_domainbed.report.html import template, without_control
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
    from markupsafe import Markup

    drawn = 0

    def prefix() -> str:
        nonlocal drawn
        drawn += 1
        return f"f{drawn}-"

    def drawing(part: Drawing) -> tuple[Markup, int]:
        svg, width = inline_drawing(part, prefix())
        return Markup(without_control(svg)), width

    return template("explained.html").render(
        explained=explained,
        title=explained.title,
        version=__version__,
        parts=[
            (part, part.panels if isinstance(part, Figure) else ())
            for part in explained.parts or (explained.figure,)
        ],
        command=shlex.join(command),
        svg=lambda panel: Markup(without_control(inline_svg(panel, prefix()))),
        drawing=drawing,
        swatch=lambda line, markers: Markup(swatch(line, markers=markers)),
    )
