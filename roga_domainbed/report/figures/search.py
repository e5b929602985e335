"""The search for hyper-parameters: validation against test, and validation against each hyper-parameter."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial

from matplotlib.axes import Axes

from roga_domainbed.metrics import Metric
from roga_domainbed.report.figures.figure import Figure, Line, Panel
from roga_domainbed.report.figures.style import INK, point_style
from roga_domainbed.report.study import Study
from roga_domainbed.results.runs import as_number
from roga_domainbed.results.selected import JudgedRun

MOST_POINTS = 1500  # of one figure: more make the page large and hide each other
MOST_HPARAMS = 8

#: A run with its place in the axes.
Point = tuple[JudgedRun, float, float]


def search_figures(study: Study, dataset: str, lines: Sequence[Line]) -> list[Figure]:
    """Validation against test, and validation against each hyper-parameter that was varied."""
    slots = {line.label: line for line in lines}
    runs = [
        run
        for run in study.first.judged
        if run.table == dataset and run.row in slots and math.isfinite(run.val) and math.isfinite(run.test)
    ]
    shown, thinned = _thinned(runs)
    drawn = tuple(line for line in lines if any(run.row == line.label for run in shown))
    tests, hparams = [], []
    missing = "Every cell has one draw of hyper-parameters: nothing was searched."
    if len({run.hparams_seed for run in runs}) > 1:
        missing = ""
        for env in sorted({run.env for run in shown}):
            own = [(run, 100 * run.val, 100 * run.test) for run in shown if run.env == env]
            tests.append(
                Panel(study.environment_name(dataset, env), partial(_against_test, own, slots, study.metric))
            )
        for name in _varied(shown):
            own = [
                (run, run.hparams[name], 100 * run.val) for run in shown if _is_finite(run.hparams.get(name))
            ]
            hparams.append(Panel(name, partial(_against_hparam, own, slots, name)))
    circled = f"Circled: the chosen runs.{thinned}"
    metric = study.metric.title
    return [
        Figure(
            "validation",
            "Validation against test",
            f"Each point is a run at its best step: the value the rule selects by against the {metric} on the held-out "
            f"environment, in percent. {circled}",
            tuple(tests),
            drawn,
            missing,
            has_markers=True,
        ),
        Figure(
            "hparams",
            "Hyper-parameters",
            f"Each point is a run: the value that was drawn against the value the rule selects by ({metric}), in "
            f"percent. {circled}",
            tuple(hparams),
            drawn,
            missing or ("" if hparams else "No numeric hyper-parameter differs between the runs."),
            has_markers=True,
        ),
    ]


def _thinned(runs: list[JudgedRun]) -> tuple[list[JudgedRun], str]:
    """At most ``MOST_POINTS`` runs, all chosen ones among them, and a sentence if some are left out."""
    if len(runs) <= MOST_POINTS:
        return runs, ""
    chosen = [run for run in runs if run.is_chosen]
    others = [run for run in runs if not run.is_chosen]
    every = math.ceil(len(others) / max(1, MOST_POINTS - len(chosen)))
    return others[::every] + chosen, f" Of {len(runs)} runs one in {every} is drawn, and every chosen one."


def _varied(runs: Sequence[JudgedRun]) -> list[str]:
    """The first numeric hyper-parameters with more than one value."""
    values: dict[str, set] = {}
    for run in runs:
        for name, value in run.hparams.items():
            if _is_finite(value):
                values.setdefault(name, set()).add(value)
    return sorted(name for name, found in values.items() if len(found) > 1)[:MOST_HPARAMS]


def _against_test(points: Sequence[Point], slots: Mapping[str, Line], metric: Metric, axes: Axes) -> None:
    _scatter(axes, points, slots)
    axes.set(xlabel="validation (%)", ylabel=f"test {metric.title} (%)")


def _against_hparam(points: Sequence[Point], slots: Mapping[str, Line], name: str, axes: Axes) -> None:
    values = [x for _, x, _ in points]
    if min(values) > 0 and max(values) > 8 * min(values):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")  # powers of ten would need mathtext, which is off
        axes.xaxis.set_minor_formatter("")
    else:
        axes.locator_params(axis="x", nbins=5)
    _scatter(axes, points, slots)
    axes.set(xlabel=name, ylabel="validation (%)")


def _scatter(axes: Axes, points: Sequence[Point], slots: Mapping[str, Line]) -> None:
    for row, line in slots.items():
        own = [(x, y) for run, x, y in points if run.row == row]
        if own:
            axes.scatter(*zip(*own, strict=True), s=11, alpha=0.65, linewidths=0, **point_style(line))
    chosen = [(x, y) for run, x, y in points if run.is_chosen]
    if chosen:
        axes.scatter(*zip(*chosen, strict=True), s=34, facecolors="none", edgecolors=INK, linewidths=0.8)


def _is_finite(value: object) -> bool:
    return math.isfinite(as_number(value))
