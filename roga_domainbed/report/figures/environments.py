"""The main table as a figure: for each test environment and row a point with its 95 % interval, on one scale."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes

from roga_domainbed.foreign import one_line
from roga_domainbed.report.figures.figure import Figure, Panel
from roga_domainbed.report.figures.style import INK, MUTED, RULE, SERIES
from roga_domainbed.report.intervals import OVER, Interval
from roga_domainbed.report.study import Study
from roga_domainbed.results.selected import CellKey

LONGEST_NAME = 22  # letters; more would leave less than half of a panel for the points
MOST_LINES = 48  # of one panel; longer figures get a panel for each environment, with the same scale

#: Environment → row → mean and interval.
Groups = Mapping[str, Mapping[str, tuple[float, Interval]]]


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
    groups = {
        study.environment_name(dataset, env): {
            row: (shown[row, env], intervals[dataset, row, env]) for row in rows if (row, env) in shown
        }
        for env in envs
    }
    parts = (
        [groups] if len(groups) * (len(rows) + 1) <= MOST_LINES else [{env: groups[env]} for env in groups]
    )
    limits = _limits(groups) if groups else (0.0, 1.0)
    panels = [
        Panel(
            ", ".join(part),
            lambda axes, part=part: _draw(axes, part, rows, axis, limits),
            height=0.6 + 0.19 * len(part) * (len(rows) + 1),
        )
        for part in parts
        if part
    ]
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
        f"Mean over trials in {study.metric.unit} with its 95 % interval. The axis does not start at zero. "
        + " ".join(lines),
        tuple(panels),
        missing="" if panels else "The rule chose no run.",
    )


def _draw(axes: Axes, groups: Groups, rows: list[str], label: str, limits: tuple[float, float]) -> None:
    names, place = [], 0
    for env, cells in groups.items():
        names.append(_short(env))
        axes.axhline(place, color=RULE, lw=0.6)
        for row in rows:
            place += 1
            names.append(_short(row))
            if row not in cells:
                axes.text(
                    0.02, place, "no number", transform=axes.get_yaxis_transform(), va="center", color=MUTED
                )
                continue
            mean, interval = cells[row]
            if interval.over:
                ends = [100 * interval.low, 100 * interval.high]
                axes.plot(ends, [place, place], color=SERIES[0], lw=2.2, alpha=0.55)
            axes.plot([mean], [place], "o", color=INK, ms=3.6)
        place += 1
    axes.set_yticks(range(len(names)), names)
    for tick in axes.get_yticklabels()[:: len(rows) + 1]:
        tick.set_fontweight("bold")
    axes.set_ylim(len(names) - 0.5, -0.7)
    axes.set_xlim(*limits)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(label)


def _limits(groups: Groups) -> tuple[float, float]:
    """Of an axis that shows every mean and interval."""
    values = [
        value
        for cells in groups.values()
        for mean, interval in cells.values()
        for value in (mean, *((100 * interval.low, 100 * interval.high) if interval.over else ()))
    ]
    low, high = min(values), max(values)
    margin = 0.08 * (high - low) or 1.0
    # nobody reaches 102 %
    return low - margin, 100 + 0.25 * margin if high <= 100 < high + margin else high + margin


def _short(name: str) -> str:
    """A name that leaves room for the data: cut in the middle, because variants of a method differ at the end."""
    name = one_line(name)
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 10]}…{name[-9:]}"
