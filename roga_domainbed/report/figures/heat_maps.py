"""Heat maps as a figure: a column an image, a row a run, the images themselves on top."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from roga_domainbed.foreign import one_line
from roga_domainbed.report.figures.drawing import Drawing
from roga_domainbed.report.figures.sheet import GAP, LINE, SIDE, STEP, Sheet, short
from roga_domainbed.report.figures.style import MUTED, RULE

if TYPE_CHECKING:
    from roga_domainbed.inference.explain.grid import Grid

#: More images are not told apart on a page.
MOST_COLUMNS = 24
_HEAD = 2 * LINE + GAP  # above the images
_ROW = STEP + LINE + GAP  # a picture with the probability below it
_BAR = 0.45  # the scale of colours with its labels
_COLORS = "turbo"
_MOST_ALPHA = 0.65  # the face must stay visible under its hottest part
_LONGEST = 16  # letters above a picture or in a line beside a row


def heat_maps_drawing(grid: Grid, method: str) -> Drawing:
    """``grid`` as a figure.

    Args:
        grid: what to draw.
        method: its title.
    """
    return Drawing(f"{method} of {len(grid.columns)} images", lambda: _canvas(grid, method))


def _canvas(grid: Grid, method: str) -> Canvas:
    left = grid_left(grid)
    width = max(left + len(grid.columns) * STEP + GAP, 3.3)
    foot = wrapped(_notes(grid, method), width)
    bottom = GAP / 2 + grid_height(grid)
    sheet = Sheet(width, bottom + len(foot) * LINE, left)
    draw_grid(sheet, grid, GAP / 2, left)
    sheet.notes(foot, bottom)
    return sheet.canvas


def grid_left(grid: Grid) -> float:
    """Where the first column of a grid begins, in inches: behind the names of its rows."""
    return 0.1 + 0.068 * max(len(line) for lines in [["image"], *_names(grid)] for line in lines)


def grid_height(grid: Grid) -> float:
    """Of headings, rows and scale, in inches."""
    return _HEAD + STEP + len(grid.rows) * _ROW + _BAR


def draw_grid(sheet: Sheet, grid: Grid, top: float, left: float, image: str = "image") -> None:
    """Draw headings, rows and scale.

    Args:
        sheet: of at least ``grid_height`` below ``top``.
        grid: what to draw.
        top: where the headings begin.
        left: where the columns of ``sheet`` begin.
        image: what the first row shows.
    """
    sheet.headings([(short(column.title, _LONGEST), column.truth) for column in grid.columns], top)
    top += _HEAD
    for place, column in enumerate(grid.columns):
        sheet.picture(column.image, place, top)
    sheet.text(0.05, top + SIDE / 2, image, va="center", color=MUTED)
    top += STEP
    for row, lines in zip(grid.rows, _names(grid), strict=True):
        sheet.text(0.05, top + SIDE / 2, "\n".join(lines), va="center", fontweight="bold")
        for place, cell in enumerate(row.cells):
            sheet.picture(overlaid(cell.image, cell.heat), place, top)
            said = f"p(fake) {cell.probability:.2f}"
            sheet.text(sheet.middle(place), top + SIDE + 0.02, said, ha="center", fontsize=6.5)
        top += _ROW
    draw_scale(sheet.axes(left, top + 0.08, min(2, len(grid.columns)) * STEP - GAP, 0.09))


def overlaid(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """``image`` under its heat map, (H, W, 3) uint8; the colder a place, the more of the image shows.

    Args:
        image: (H, W, 3) uint8.
        heat: (H, W) in [0, 1].
    """
    alpha = _MOST_ALPHA * np.clip(heat, 0, 1)[..., None]
    colors = colormaps[_COLORS](heat)[..., :3] * 255
    return np.rint((1 - alpha) * image + alpha * colors).astype(np.uint8)


def draw_scale(axes: Axes) -> None:
    """The colours from least to most, as they look over white."""
    heat = np.linspace(0, 1, 256)[None]
    axes.imshow(overlaid(np.full((1, 256, 3), 255, np.uint8), heat), aspect="auto")
    axes.set(xticks=[0, 255], xticklabels=["least", "most"], yticks=[])
    axes.grid(visible=False)
    axes.tick_params(length=0, labelsize=6.5)
    for label, side in zip(axes.get_xticklabels(), ("left", "right"), strict=True):
        label.set_ha(side)
    for spine in axes.spines.values():
        spine.set(visible=True, color=RULE)


def how_to_read(method: str) -> str:
    """A sentence on what the colours mean."""
    return (
        f"{method} of the logit of fake. Each map goes from its own least to its own most: it says where, not how "
        "much. A map without colour: nothing raises the logit."
    )


def wrapped(notes: list[str], width: float) -> list[str]:
    """Lines of small text that fit a sheet of ``width`` inches."""
    return [line for note in notes for line in textwrap.wrap(note, int(width * 18))]


def _names(grid: Grid) -> list[list[str]]:
    """The name of each row, in lines."""
    return [textwrap.wrap(short(row.name, 3 * _LONGEST), _LONGEST) for row in grid.rows]


def _notes(grid: Grid, method: str) -> list[str]:
    leaks = [one_line(note) for note in grid.notes if note.startswith("LEAK")]
    return [how_to_read(method), *leaks]
