"""The main table as a figure: a panel for each test environment, a point with its 95 % interval for each row."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes

from roga_domainbed.report.figures.figure import Figure, Panel
from roga_domainbed.report.figures.style import INK, MUTED, SERIES
from roga_domainbed.report.intervals import OVER, Interval
from roga_domainbed.report.study import Study
from roga_domainbed.results.selected import CellKey, environment_name

LONGEST_NAME = 22  # letters; more would leave less than half of a panel for the points


def by_environment(study: Study, dataset: str, intervals: Mapping[CellKey, Interval]) -> Figure:
    """Mean over trials with its interval; points, not bars, because the axis does not start at zero."""
    rows = [row for row in study.rows if study.chosen_in(dataset, row=row)]
    shown = {
        (row, env): 100 * sum(c.test for c in trials) / len(trials)
        for (of, row, env), trials in study.first.trials.items()
        if of == dataset
    }
    envs = sorted({env for _, env in shown})
    title = study.metric.title
    axis = f"{title} ({study.metric.unit})"
    panels = []
    for env in envs:
        cells = {row: (shown[row, env], intervals[dataset, row, env]) for row in rows if (row, env) in shown}
        panels.append(
            Panel(
                environment_name(dataset, env),
                lambda axes, cells=cells: _draw(axes, cells, rows, axis),
                height=0.75 + 0.19 * len(rows),
            )
        )
    used = sorted({i.over for cell, i in intervals.items() if cell[0] == dataset and i.over})
    lines = [f"An interval over {over}: {OVER[over]}." for over in used]
    without = [i.note for cell, i in intervals.items() if cell[0] == dataset and not i.over]
    if len(without) == len(shown) and len(set(without)) == 1:
        lines.append(f"No point has an interval: {without[0]}.")
    elif without:
        lines.append(f"{len(without)} of {len(shown)} points have no interval; the table below says why.")
    return Figure(
        "environments",
        f"{title[0].upper()}{title[1:]} on each held-out environment",
        "Mean over trials in percent with its 95 % interval. The axis does not start at zero. "
        + " ".join(lines),
        tuple(panels),
        missing="" if panels else "The rule chose no run.",
    )


def _draw(axes: Axes, cells: Mapping[str, tuple[float, Interval]], rows: list[str], label: str) -> None:
    for place, row in enumerate(rows):
        if row not in cells:
            axes.text(0.02, place, "no run", transform=axes.get_yaxis_transform(), va="center", color=MUTED)
            continue
        mean, interval = cells[row]
        if interval.over:
            axes.plot(
                [100 * interval.low, 100 * interval.high], [place, place], color=SERIES[0], lw=2.2, alpha=0.55
            )
        axes.plot([mean], [place], "o", color=INK, ms=3.6)
    axes.set_yticks(range(len(rows)), [_short(name) for name in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.margins(x=0.08)
    left, right = axes.get_xlim()
    if axes.dataLim.x1 <= 100 < right:  # nobody reaches 102 %
        axes.set_xlim(right=100 + 0.02 * (100 - left))
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(label)


def _short(name: str) -> str:
    """A name that leaves room for the data: cut in the middle, because variants of a method differ at the end."""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 10]}…{name[-9:]}"
