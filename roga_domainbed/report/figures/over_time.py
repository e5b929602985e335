"""A video's probability of fake over time, above the frames at both ends of it with their heat maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D

from roga_domainbed.report.figures.drawing import Drawing
from roga_domainbed.report.figures.figure import Figure, Line, Panel
from roga_domainbed.report.figures.heat_maps import (
    draw_grid,
    grid_height,
    grid_left,
    how_to_read,
    wrapped,
)
from roga_domainbed.report.figures.sheet import GAP, LINE, STEP, Sheet, short
from roga_domainbed.report.figures.style import INK, MUTED, line_style

if TYPE_CHECKING:
    from roga_domainbed.inference.explain.timeline import Timeline

_CURVE, _BELOW = 1.7, 0.5  # inches: of the curve, and of what stands below its axis
_NARROWEST = 5.0
_AXIS = 0.5  # inches for the labels on the left of the curve
_LONGEST = 60  # letters of the file's name


def over_time_figure(found: Timeline) -> Figure:
    """The curve alone, for a page."""
    return Figure(
        "over-time",
        "Probability of fake over time",
        f"Probability of fake of the face in {len(found.at)} evenly spaced frames. Dashed: "
        f"{found.threshold:g}, above which a face is called fake. The numbers are those of the frames below.",
        (Panel(short(found.path.replace("\\", "/"), _LONGEST), lambda axes: _draw(axes, found), 1.8),),
        _lines(found),
    )


def frames_drawing(found: Timeline, method: str) -> Drawing:
    """The frames alone, for a page."""
    return Drawing(f"{method} of the most and the least suspicious frames", lambda: _frames(found, method))


def over_time_drawing(found: Timeline, method: str) -> Drawing:
    """Curve and frames in one, for a file."""
    return Drawing(f"Probability of fake over time, and {method} of frames", lambda: _both(found, method))


def _both(found: Timeline, method: str) -> Canvas:
    left, width = _sizes(found)
    lines = _lines(found)
    n_columns = max(1, int((width - _AXIS) / (0.5 + 0.075 * max(len(_legend(line.label)) for line in lines))))
    n_legend = -(-len(lines) // n_columns)
    foot = wrapped([how_to_read(method)], width)
    top = 2 * GAP + (2 + n_legend) * LINE  # the numbers stand above the curve
    bottom = top + _CURVE + _BELOW
    end = bottom + grid_height(found.grid)
    sheet = Sheet(width, end + len(foot) * LINE, left)
    sheet.text(0.05, GAP, short(found.path.replace("\\", "/"), _LONGEST), fontweight="bold")
    _draw(sheet.axes(_AXIS, top, width - _AXIS - 0.1, _CURVE), found)
    handles = [Line2D([], [], label=_legend(line.label), **line_style(line)) for line in lines]
    place = (_AXIS / width, 1 - (GAP + LINE) / (end + len(foot) * LINE))
    sheet.canvas.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=place,
        ncols=n_columns,
        borderpad=0,
        borderaxespad=0.2,
    )
    draw_grid(sheet, found.grid, bottom, left, "frame")
    sheet.notes(foot, end)
    return sheet.canvas


def _frames(found: Timeline, method: str) -> Canvas:
    left, width = _sizes(found)
    foot = wrapped([how_to_read(method)], width)
    end = GAP / 2 + grid_height(found.grid)
    sheet = Sheet(width, end + len(foot) * LINE, left)
    draw_grid(sheet, found.grid, GAP / 2, left, "frame")
    sheet.notes(foot, end)
    return sheet.canvas


def _sizes(found: Timeline) -> tuple[float, float]:
    """Where the frames begin, and the width of the sheet."""
    left = grid_left(found.grid)
    return left, max(left + len(found.shown) * STEP + GAP, _NARROWEST)


def _lines(found: Timeline) -> tuple[Line, ...]:
    return tuple(Line(name, slot) for slot, name in enumerate(found.scores))


def _legend(name: str) -> str:
    return "\u200b" * name.startswith("_") + short(name, 30)  # matplotlib leaves out names that begin so


def _draw(axes: Axes, found: Timeline) -> None:
    axes.axhline(found.threshold, color=MUTED, lw=0.8, ls=(0, (4, 3)))
    for line, scores in zip(_lines(found), found.scores.values(), strict=True):
        # A point for each face: one between two frames without a face has no line.
        axes.plot(found.at, scores, marker=".", markersize=3, **line_style(line))
    by_time: dict[float, list[str]] = {}
    for number, place in enumerate(found.shown, 1):
        by_time.setdefault(found.at[place], []).append(str(number))
    for at, numbers in by_time.items():
        axes.axvline(at, color=MUTED, lw=0.5, ls=(0, (1.2, 1.2)))
        axes.annotate(
            ", ".join(numbers), (at, 1.02), xycoords=("data", "axes fraction"), ha="center", va="bottom",
            fontsize=7, color=INK,
        )  # fmt: skip
    axes.set(ylim=(-0.03, 1.03), ylabel="p(fake)", xlabel="time in s" if found.unit == "s" else "frame")
    axes.margins(x=0.02)
