"""The table as a picture: one panel a test environment, one row an algorithm, a point and its 95 % interval."""

from __future__ import annotations

import math
from collections.abc import Mapping

from matplotlib.axes import Axes

from roga_domainbed.report.figures.figure import Figure, Panel
from roga_domainbed.report.figures.style import INK, MUTED, SERIES
from roga_domainbed.report.intervals import OVER, Interval
from roga_domainbed.report.study import CellKey, Study, environment_name

LONGEST_NAME = 22  # letters; more would leave less than half of a panel for the points


def by_environment(study: Study, dataset: str, intervals: Mapping[CellKey, Interval]) -> Figure:
    """Mean over trials with its interval; points rather than bars, for the axis does not start at zero."""
    rows = [a for a in study.algorithms if study.chosen_in(dataset, algorithm=a)]
    means: dict[tuple[str, int], list[float]] = {}
    for candidate in study.chosen_in(dataset):
        if not math.isnan(candidate.test):
            means.setdefault((candidate.algorithm, candidate.env), []).append(100 * candidate.test)
    envs = sorted({env for _, env in means})
    shown = {key: sum(values) / len(values) for key, values in means.items()}
    title = study.metric.title
    axis = f"{title} ({study.metric.unit})"
    panels = []
    for env in envs:
        cells = {a: (shown[a, env], intervals[dataset, a, env]) for a in rows if (a, env) in shown}
        panels.append(
            Panel(
                environment_name(dataset, env),
                lambda axes, cells=cells: _draw(axes, cells, rows, axis),
                height=0.75 + 0.19 * len(rows),
            )
        )
    used = sorted({i.over for cell, i in intervals.items() if cell[0] == dataset and i.over})
    lines = [f"Over {over}: {OVER[over]}." for over in used]
    without = [i.note for cell, i in intervals.items() if cell[0] == dataset and not i.over]
    if len(without) == len(shown) and len(set(without)) == 1:
        lines.append(f"No point has an interval: {without[0]}.")
    elif without:
        lines.append(f"{len(without)} of {len(shown)} points have no interval; the table of cells says why.")
    return Figure(
        "environments",
        f"{title[0].upper()}{title[1:]} of each held-out environment",
        "Mean over trials in percent with its 95 % interval. The axis does not start at zero. "
        + " ".join(lines),
        tuple(panels),
        missing="" if panels else "The rule chose nothing here.",
    )


def _draw(axes: Axes, cells: Mapping[str, tuple[float, Interval]], rows: list[str], label: str) -> None:
    for place, algorithm in enumerate(rows):
        if algorithm not in cells:
            axes.text(0.02, place, "no run", transform=axes.get_yaxis_transform(), va="center", color=MUTED)
            continue
        mean, interval = cells[algorithm]
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
    """A name that leaves room for the data; the middle goes, for variants of a method differ at the end."""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 10]}…{name[-9:]}"
