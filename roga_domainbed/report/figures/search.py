"""The search for hyper-parameters: validation against test, and validation against each hyper-parameter."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes

from roga_domainbed.report.figures.figure import Figure, Line, Panel
from roga_domainbed.report.figures.style import INK, point_style
from roga_domainbed.report.selected import Candidate, environment_name
from roga_domainbed.report.study import Study
from roga_domainbed.report.summary import metric_title

MOST_POINTS = 1500  # of one figure: more make the page large and hide each other
MOST_HPARAMS = 8


def search_figures(study: Study, dataset: str, lines: Sequence[Line]) -> list[Figure]:
    """Validation against test, and validation against each hyper-parameter that was varied."""
    slots = {line.label: line for line in lines}
    runs = [
        c
        for c in study.first.candidates
        if c.dataset == dataset and c.row in slots and math.isfinite(c.val) and math.isfinite(c.test)
    ]
    searched = len({c.hparams_seed for c in runs}) > 1
    shown, thinned = _thinned(runs)
    missing = "" if searched else "Every cell has one draw of hyper-parameters: nothing was searched."
    metric = metric_title(study.metric)
    envs = sorted({c.env for c in shown})
    varied = _varied(study, shown) if searched else []
    drawn = tuple(line for line in lines if any(c.row == line.label for c in shown))
    return [
        Figure(
            "validation",
            "Validation against test",
            f"Each point is a run at its best step: the value the rule selects by against the {metric} on the held-out "
            f"environment, in percent. Circled: the chosen runs.{thinned}",
            tuple(
                Panel(
                    environment_name(dataset, env),
                    lambda axes, own=[c for c in shown if c.env == env]: _against_test(
                        axes, own, slots, metric
                    ),
                )
                for env in envs
            )
            if searched
            else (),
            drawn,
            missing,
            has_markers=True,
        ),
        Figure(
            "hparams",
            "Hyper-parameters",
            f"Each point is a run: the value that was drawn against the value the rule selects by ({metric}), in "
            f"percent. Circled: the chosen runs.{thinned}",
            tuple(
                Panel(name, lambda axes, name=name: _against_hparam(axes, study, shown, slots, name))
                for name in varied
            ),
            drawn,
            missing or ("" if varied else "No numeric hyper-parameter differs between the runs."),
            has_markers=True,
        ),
    ]


def _thinned(runs: list[Candidate]) -> tuple[list[Candidate], str]:
    """At most ``MOST_POINTS`` runs, all chosen ones among them, and a sentence if some are left out."""
    if len(runs) <= MOST_POINTS:
        return runs, ""
    chosen = [c for c in runs if c.is_chosen]
    others = [c for c in runs if not c.is_chosen]
    every = math.ceil(len(others) / max(1, MOST_POINTS - len(chosen)))
    return others[::every] + chosen, f" Of {len(runs)} runs one in {every} is drawn, and every chosen one."


def _varied(study: Study, runs: Sequence[Candidate]) -> list[str]:
    values: dict[str, set] = {}
    for candidate in runs:
        for name, value in study.folder_of[candidate.source].hparams.items():
            if _is_number(value):
                values.setdefault(name, set()).add(value)
    return sorted(name for name, found in values.items() if len(found) > 1)[:MOST_HPARAMS]


def _against_test(axes: Axes, runs: Sequence[Candidate], slots: dict[str, Line], metric: str) -> None:
    _scatter(axes, [(c, 100 * c.val, 100 * c.test) for c in runs], slots)
    axes.set(xlabel="validation (%)", ylabel=f"test {metric} (%)")


def _against_hparam(
    axes: Axes, study: Study, runs: Sequence[Candidate], slots: dict[str, Line], name: str
) -> None:
    points = []
    for candidate in runs:
        value = study.folder_of[candidate.source].hparams.get(name)
        if _is_number(value):
            points.append((candidate, value, 100 * candidate.val))
    values = [x for _, x, _ in points]
    if min(values) > 0 and max(values) > 8 * min(values):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")  # powers of ten would need mathtext, which is off
        axes.xaxis.set_minor_formatter("")
    else:
        axes.locator_params(axis="x", nbins=5)
    _scatter(axes, points, slots)
    axes.set(xlabel=name, ylabel="validation (%)")


def _scatter(axes: Axes, points: Sequence[tuple[Candidate, float, float]], slots: dict[str, Line]) -> None:
    for row, line in slots.items():
        own = [(x, y) for c, x, y in points if c.row == row]
        if own:
            axes.scatter(*zip(*own, strict=True), s=11, alpha=0.65, linewidths=0, **point_style(line))
    chosen = [(x, y) for c, x, y in points if c.is_chosen]
    if chosen:
        axes.scatter(*zip(*chosen, strict=True), s=34, facecolors="none", edgecolors=INK, linewidths=0.8)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
