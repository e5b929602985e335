"""What a figure is: a title, a caption, panels that know how to draw themselves, or the reason why it is not there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Lines of algorithms in one figure; with more no reader tells them apart.
MOST_LINES = 8


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        title: above the axes, and what a screen reader says.
        draw: puts the data and the labels into the axes it is given.
        height: in inches; the width is that of a column.
    """

    title: str
    draw: Callable[[Axes], None]
    height: float = 2.3


@dataclass(frozen=True)
class Line:
    """How one algorithm is drawn in every figure: ``slot`` numbers colour, dash and marker."""

    label: str
    slot: int


@dataclass(frozen=True)
class Figure:
    """A figure.

    Attributes:
        name: of its file, without suffix.
        title: of its section.
        caption: what is drawn, from what, and what not to read into it.
        panels: at least one, unless ``missing`` is set.
        legend: what is drawn in it, mostly algorithms; empty where rows are labelled themselves.
        missing: why there is no figure; empty if there is one.
        has_markers: whether markers tell the algorithms apart, not dashes.
    """

    name: str
    title: str
    caption: str
    panels: tuple[Panel, ...] = ()
    legend: tuple[Line, ...] = ()
    missing: str = ""
    has_markers: bool = False


def lines_for(algorithms: Sequence[str], averages: dict[str, float], baseline: str) -> tuple[Line, ...]:
    """The algorithms that figures with lines show: all, or the baseline and the best where there are too many.

    Args:
        algorithms: in the order of the tables.
        averages: algorithm → a number, larger is better.
        baseline: always among them.
    """
    kept = list(algorithms)
    if len(kept) > MOST_LINES:
        others = [name for name in kept if name != baseline]
        best = sorted(others, key=lambda name: averages.get(name, float("-inf")), reverse=True)
        kept = [name for name in kept if name == baseline or name in best[: MOST_LINES - 1]]
    return tuple(Line(name, slot) for slot, name in enumerate(kept))
