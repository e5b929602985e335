"""Heat maps as a figure: a column an image, a row a run, the images themselves on top."""

from __future__ import annotations

import textwrap
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from roga_domainbed.foreign import one_line
from roga_domainbed.report.figures.drawing import quiet_about_glyphs, write_canvas
from roga_domainbed.report.figures.style import MUTED, RULE, paper_style

if TYPE_CHECKING:
    from roga_domainbed.inference.explain.grid import Grid

#: More images are not told apart on a page.
MOST_COLUMNS = 24
_SIDE, _GAP, _LINE = 1.0, 0.06, 0.16  # inches: of a picture, between two of them, of a line of text
_STEP = _SIDE + _GAP
_HEAD = 2 * _LINE + _GAP  # above the images
_ROW = _STEP + _LINE + _GAP  # a picture with the probability below it
_BAR = 0.45  # the scale of colours with its labels
_COLORS = "turbo"
_MOST_ALPHA = 0.65  # the face must stay visible under its hottest part
_LONGEST = 16  # letters above a picture or in a line beside a row


def save_heat_maps(grid: Grid, method: str, path: Path) -> None:
    """Draw ``grid`` into ``path``, whose suffix is one of ``drawing.FORMATS``.

    Args:
        grid: what to draw.
        method: its title.
        path: the file.
    """
    names = [textwrap.wrap(_short(row.name, 3 * _LONGEST), _LONGEST) for row in grid.rows]
    left = 0.1 + 0.068 * max(len(line) for lines in [["image"], *names] for line in lines)
    width = max(left + len(grid.columns) * _STEP + _GAP, 3.3)
    foot = [line for note in _notes(grid, method) for line in textwrap.wrap(note, int(width * 18))]
    bottom = _HEAD + _STEP + len(grid.rows) * _ROW
    with paper_style(), quiet_about_glyphs(path.suffix == ".svg"):
        sheet = _Sheet(width, bottom + _BAR + len(foot) * _LINE, left)
        sheet.headings([(_short(column.title, _LONGEST), column.truth) for column in grid.columns])
        sheet.pictures([column.image for column in grid.columns], _HEAD)
        sheet.text(0.05, _HEAD + _SIDE / 2, "image", va="center", color=MUTED)
        for number, (row, lines) in enumerate(zip(grid.rows, names, strict=True)):
            top = _HEAD + _STEP + number * _ROW
            sheet.text(0.05, top + _SIDE / 2, "\n".join(lines), va="center", fontweight="bold")
            sheet.pictures([overlaid(cell.image, cell.heat) for cell in row.cells], top)
            for place, cell in enumerate(row.cells):
                said = f"p(fake) {cell.probability:.2f}"
                sheet.text(sheet.middle(place), top + _SIDE + 0.02, said, ha="center", fontsize=6.5)
        _scale(sheet.axes(left, bottom + 0.08, min(2 * _STEP, width - left) - _GAP, 0.09))
        for number, line in enumerate(foot):
            sheet.text(0.05, bottom + _BAR + number * _LINE, line, color=MUTED, fontsize=6.5)
        write_canvas(sheet.canvas, path)


def overlaid(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """``image`` under its heat map, (H, W, 3) uint8; the colder a place, the more of the image shows.

    Args:
        image: (H, W, 3) uint8.
        heat: (H, W) in [0, 1].
    """
    alpha = _MOST_ALPHA * np.clip(heat, 0, 1)[..., None]
    colors = colormaps[_COLORS](heat)[..., :3] * 255
    return np.rint((1 - alpha) * image + alpha * colors).astype(np.uint8)


class _Sheet:
    """A page on which things have their places in inches from its upper left corner."""

    def __init__(self, width: float, height: float, left: float):
        self._width, self._height, self._left = width, height, left
        self.canvas = Canvas(figsize=(width, height), facecolor="white")

    def middle(self, column: float) -> float:
        """The horizontal middle of a column."""
        return self._left + column * _STEP + _SIDE / 2

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        below = 1 - (top + height) / self._height
        return self.canvas.add_axes((left / self._width, below, width / self._width, height / self._height))

    def text(self, x: float, top: float, text: str, **options: object) -> None:
        style = {"va": "top", "fontsize": 7.5, **options}
        self.canvas.text(x / self._width, 1 - top / self._height, text, **style)

    def pictures(self, images: list[np.ndarray], top: float) -> None:
        for column, image in enumerate(images):
            axes = self.axes(self._left + column * _STEP, top, _SIDE, _SIDE)
            axes.imshow(image, interpolation="nearest")
            axes.set_axis_off()

    def headings(self, columns: list[tuple[str, str]]) -> None:
        """Two lines: a title, once above neighbours that share it, and what the image truly is."""
        for title, group in groupby(range(len(columns)), key=lambda place: columns[place][0]):
            places = list(group)
            middle = self.middle((places[0] + places[-1]) / 2)
            self.text(middle, _GAP / 2, title, ha="center", fontweight="bold")
        for place, (_, truth) in enumerate(columns):
            self.text(self.middle(place), _GAP / 2 + _LINE, truth, ha="center", color=MUTED)


def _scale(axes: Axes) -> None:
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


def _notes(grid: Grid, method: str) -> list[str]:
    return [
        f"{method} of the logit of fake. Each map goes from its own least to its own most: it says where, not how "
        "much. A map without colour: nothing raises the logit.",
        *(one_line(note) for note in grid.notes if note.startswith("LEAK")),
    ]


def _short(name: str, longest: int) -> str:
    name = one_line(name)
    return name if len(name) <= longest else f"{name[: longest - 6]}…{name[-5:]}"
