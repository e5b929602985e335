"""A figure as a value: title, caption and panels that draw themselves, or the reason why it is missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Lines in one figure; more cannot be told apart.
MOST_LINES = 8


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        title: above the axes; read aloud by a screen reader.
        draw: puts the data and the labels into the axes it is given.
        height: in inches; the width is that of a column.
    """

    title: str
    draw: Callable[[Axes], None]
    height: float = 2.3


@dataclass(frozen=True)
class Line:
    """How one row of the tables is drawn in every figure: ``slot`` is the index of its colour, dash and marker."""

    label: str
    slot: int


@dataclass(frozen=True)
class Figure:
    """A figure.

    Attributes:
        name: of its file, without suffix.
        title: of its section.
        caption: what is drawn, from which runs, and how to read it.
        panels: at least one, unless ``missing`` is set.
        legend: the lines that are drawn; empty where the axes name the rows.
        missing: why there is no figure; empty if there is one.
        has_markers: whether lines differ in their markers rather than dashes.
    """

    name: str
    title: str
    caption: str
    panels: tuple[Panel, ...] = ()
    legend: tuple[Line, ...] = ()
    missing: str = ""
    has_markers: bool = False


def lines_for(rows: Sequence[str], averages: dict[str, float], baseline: str) -> tuple[Line, ...]:
    """The rows that figures with lines show: all, or the baseline and the best ones if there are too many.

    Args:
        rows: in the order of the tables.
        averages: row → a number, larger is better.
        baseline: always shown.
    """
    kept = list(rows)
    if len(kept) > MOST_LINES:
        others = [name for name in kept if name != baseline]
        best = sorted(others, key=lambda name: averages.get(name, float("-inf")), reverse=True)
        kept = [name for name in kept if name == baseline or name in best[: MOST_LINES - 1]]
    return tuple(Line(name, slot) for slot, name in enumerate(kept))
