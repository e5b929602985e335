"""Heat maps as a figure: a column an image, a row a run, the images themselves on top."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure as Canvas

from roga_domainbed.foreign import one_line
from roga_domainbed.report.figures.drawing import quiet_about_glyphs, write_canvas
from roga_domainbed.report.figures.style import MUTED, paper_style

if TYPE_CHECKING:
    from roga_domainbed.inference.explain.grid import Grid

#: More images are not told apart on a page.
MOST_COLUMNS = 24
_CELL, _GAP, _TEXT = 1.0, 0.06, 0.16  # inches: side of a picture, between pictures, height of a line
_COLORS = "turbo"
_MOST_ALPHA = 0.65  # the face must stay visible under its hottest part
_LONGEST = 15  # letters above a picture or beside a row


def save_heat_maps(grid: Grid, method: str, path: Path) -> None:
    """Draw ``grid`` into ``path``, whose suffix is one of ``drawing.FORMATS``.

    Args:
        grid: what to draw.
        method: its title.
        path: the file.
    """
    n_columns, n_rows = len(grid.columns), len(grid.rows)
    leaks = [note for note in grid.notes if note.startswith("LEAK")]
    names = [textwrap.wrap(_short(row.name, 3 * _LONGEST), _LONGEST) for row in grid.rows]
    side = 0.1 + 0.068 * max(len(line) for lines in [["image"], *names] for line in lines)
    width = max(side + n_columns * (_CELL + _GAP) + _GAP, 3.3)
    foot = textwrap.wrap(_caption(method), int(width * 18))
    foot += [line for note in leaks for line in textwrap.wrap(one_line(note), int(width * 18))]
    bar_height = 0.45
    head, row_height = 2 * _TEXT + _GAP, _CELL + _TEXT + _GAP
    height = head + _CELL + _GAP + n_rows * row_height + bar_height + len(foot) * _TEXT
    with paper_style(), quiet_about_glyphs(path.suffix == ".svg"):
        canvas = Canvas(figsize=(width, height), facecolor="white")

        def place(left: float, top: float, inches_wide: float, inches_high: float):
            return canvas.add_axes(
                (
                    left / width,
                    1 - (top + inches_high) / height,
                    inches_wide / width,
                    inches_high / height,
                )
            )

        def write(x: float, top: float, text: str, **options):
            canvas.text(x / width, 1 - top / height, text, **{"va": "top", "fontsize": 7.5, **options})

        def picture(column: int, top: float, image: np.ndarray):
            axes = place(side + column * (_CELL + _GAP), top, _CELL, _CELL)
            axes.imshow(image, interpolation="nearest")
            axes.set_axis_off()

        for number, column in enumerate(grid.columns):
            middle = side + number * (_CELL + _GAP) + _CELL / 2
            write(middle, _GAP / 2, _short(column.title, _LONGEST), ha="center", fontweight="bold")
            write(middle, _GAP / 2 + _TEXT, column.truth, ha="center", color=MUTED)
            picture(number, head, column.image)
        write(0.05, head + _CELL / 2, "image", va="center", color=MUTED)
        for number, (row, lines) in enumerate(zip(grid.rows, names, strict=True)):
            top = head + _CELL + _GAP + number * row_height
            write(0.05, top + _CELL / 2, "\n".join(lines), va="center", fontweight="bold")
            for place_in_row, cell in enumerate(row.cells):
                picture(place_in_row, top, overlaid(cell.image, cell.heat))
                middle = side + place_in_row * (_CELL + _GAP) + _CELL / 2
                write(
                    middle, top + _CELL + 0.02, f"p(fake) {cell.probability:.2f}", ha="center", fontsize=6.5
                )
        top = head + _CELL + _GAP + n_rows * row_height
        bar = place(side, top + 0.08, min(2 * _CELL + _GAP, width - side - _GAP), 0.09)
        _scale(canvas, bar)
        for number, line in enumerate(foot):
            write(0.05, top + bar_height + number * _TEXT, line, color=MUTED, fontsize=6.5)
        write_canvas(canvas, path)


def overlaid(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """``image`` under its heat map, (H, W, 3) uint8; the colder a place, the more of the image shows.

    Args:
        image: (H, W, 3) uint8.
        heat: (H, W) in [0, 1].
    """
    alpha = _MOST_ALPHA * np.clip(heat, 0, 1)[..., None]
    colors = colormaps[_COLORS](heat)[..., :3] * 255
    return np.rint((1 - alpha) * image + alpha * colors).astype(np.uint8)


def _scale(canvas: Canvas, axes) -> None:
    bar = canvas.colorbar(ScalarMappable(cmap=_COLORS), cax=axes, orientation="horizontal")
    bar.set_ticks([0, 1], labels=["0", "largest of the image"])
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=6.5)
    bar.ax.grid(visible=False)
    first, last = bar.ax.get_xticklabels()
    first.set_ha("left")
    last.set_ha("right")


def _caption(method: str) -> str:
    return (
        f"{method} of the logit of fake. Each map is scaled by itself: it shows where, not how much. "
        "Without colour: nothing speaks for fake."
    )


def _short(name: str, longest: int) -> str:
    name = one_line(name)
    return name if len(name) <= longest else f"{name[: longest - 6]}…{name[-5:]}"
