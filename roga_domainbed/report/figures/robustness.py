"""AUC against the strength of corruptions: a panel a corruption, a line a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.axes import Axes

from roga_domainbed.report.figures.drawing import save_figure
from roga_domainbed.report.figures.figure import Figure, Line, Panel
from roga_domainbed.report.figures.style import MUTED, line_style

if TYPE_CHECKING:
    from roga_domainbed.inference.robustness import Robustness


def robustness_figure(found: Robustness) -> Figure:
    """The figure; all panels have one scale."""
    lines = tuple(Line(name, slot) for slot, name in enumerate(found.runs))
    curves = {
        own.name: (
            {line: found.aucs(line.label, own.name) for line in lines},
            ["clean", *(f"{value:g}" for value in own.values)],
            own.parameter,
        )
        for own in found.corruptions
    }
    if len(curves) > 1:
        mean = {line: found.mean_aucs(line.label) for line in lines}
        curves["mean"] = mean, ["clean", *map(str, range(1, len(mean[lines[0]])))], "strength"
    values = [value for of_lines, *_ in curves.values() for own in of_lines.values() for value in own]
    limits = _limits([100 * value for value in values if value is not None])
    return Figure(
        "robustness",
        "Robustness",
        "AUC of frames by corruption and strength, the mean over the environments of a run. Dashed: chance.",
        tuple(
            Panel(
                name,
                lambda axes, own=(of_lines, ticks, label): _draw(axes, *own, limits),
                height=2.0,
            )
            for name, (of_lines, ticks, label) in curves.items()
        ),
        lines,
        has_markers=True,
    )


def save_robustness(found: Robustness, path: Path) -> None:
    """Draw ``found`` into ``path``, whose suffix is one of ``drawing.FORMATS``."""
    save_figure(robustness_figure(found), path)


def _draw(
    axes: Axes,
    of_lines: Mapping[Line, Sequence[float | None]],
    ticks: Sequence[str],
    label: str,
    limits: tuple[float, float],
) -> None:
    axes.axhline(50, color=MUTED, lw=0.8, ls=(0, (4, 3)))
    for line, values in of_lines.items():
        percent = [math.nan if value is None else 100 * value for value in values]
        axes.plot(range(len(percent)), percent, **line_style(line, markers=True))
    axes.set_xticks(range(len(ticks)), ticks)
    axes.set(ylim=limits, xlabel=label, ylabel="AUC (%)")


def _limits(values: Sequence[float]) -> tuple[float, float]:
    """Of an axis that shows every value, and chance."""
    low, high = min([*values, 50.0]), max([*values, 50.0])
    return low - 2, min(high + 2, 101.5)
