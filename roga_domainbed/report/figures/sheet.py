"""A page on which pictures have their places in inches from its upper left corner, in columns."""

from __future__ import annotations

from itertools import groupby

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from roga_domainbed.foreign import one_line
from roga_domainbed.report.figures.style import MUTED

SIDE, GAP, LINE = 1.0, 0.06, 0.16  # inches: of a picture, between two of them, of a line of text
STEP = SIDE + GAP


class Sheet:
    """The page.

    Args:
        width: in inches.
        height: in inches.
        left: where the first column begins, in inches.
    """

    def __init__(self, width: float, height: float, left: float):
        self._width, self._height, self._left = width, height, left
        self.canvas = Canvas(figsize=(width, height), facecolor="white")

    def middle(self, column: float) -> float:
        """The horizontal middle of a column."""
        return self._left + column * STEP + SIDE / 2

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """New axes in that place."""
        below = 1 - (top + height) / self._height
        return self.canvas.add_axes((left / self._width, below, width / self._width, height / self._height))

    def text(self, x: float, top: float, text: str, **options: object) -> None:
        """Text whose first line begins at ``top``, unless ``options`` say otherwise."""
        style = {"va": "top", "fontsize": 7.5, **options}
        self.canvas.text(x / self._width, 1 - top / self._height, text, **style)

    def picture(self, image: np.ndarray, column: float, top: float) -> None:
        """An image (H, W, 3) uint8 in a column."""
        axes = self.axes(self._left + column * STEP, top, SIDE, SIDE)
        axes.imshow(image, interpolation="nearest")
        axes.set_axis_off()

    def headings(self, columns: list[tuple[str, str]], top: float) -> None:
        """Two lines: a title, once above neighbours that share it, and what is said of each column alone."""
        for title, group in groupby(range(len(columns)), key=lambda place: columns[place][0]):
            places = list(group)
            middle = self.middle((places[0] + places[-1]) / 2)
            self.text(middle, top, title, ha="center", fontweight="bold")
        for place, (_, own) in enumerate(columns):
            self.text(self.middle(place), top + LINE, own, ha="center", color=MUTED)

    def notes(self, lines: list[str], top: float) -> None:
        """Small lines at the foot."""
        for number, line in enumerate(lines):
            self.text(0.05, top + number * LINE, line, color=MUTED, fontsize=6.5)


def short(name: str, longest: int) -> str:
    """A name on one line of at most ``longest`` letters; its end, which tells files apart, is kept."""
    name = one_line(name)
    return name if len(name) <= longest else f"{name[: longest - 6]}…{name[-5:]}"
