"""The search for hyper-parameters: every run, whether validation predicts the test, and what each value is worth."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes

from roga_domainbed.report.figures.figure import Figure, Line, Panel
from roga_domainbed.report.figures.style import INK, point_style
from roga_domainbed.report.study import Candidate, Study, environment_name

MOST_POINTS = 1500  # of one figure: a page with more is megabytes, and dots cover dots
MOST_HPARAMS = 8


def search_figures(study: Study, dataset: str, lines: Sequence[Line]) -> list[Figure]:
    """Validation against test, and validation against each hyper-parameter that was varied."""
    slots = {line.label: line for line in lines}
    runs = [
        c
        for c in study.candidates[study.rule.name]
        if c.dataset == dataset and c.algorithm in slots and math.isfinite(c.val) and math.isfinite(c.test)
    ]
    searched = len({c.hparams_seed for c in runs}) > 1
    shown, thinned = _thinned(runs)
    missing = "" if searched else "Every cell has one draw of hyper-parameters: there was no search."
    metric = study.metric.title
    envs = sorted({c.env for c in shown})
    varied = _varied(study, shown) if searched else []
    drawn = tuple(line for line in lines if any(c.algorithm == line.label for c in shown))
    return [
        Figure(
            "validation",
            "Validation against test",
            f"Each point is a run at its best step: what the rule saw against {metric} of the held-out environment, in "
            f"percent. Circled: the chosen ones.{thinned}",
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
            f"Each point is a run: the value that was drawn against {metric} as the rule saw it, in percent. "
            f"Circled: the chosen ones.{thinned}",
            tuple(
                Panel(name, lambda axes, name=name: _against_hparam(axes, study, shown, slots, name))
                for name in varied
            ),
            drawn,
            missing or ("" if varied else "The runs have no numeric hyper-parameter that differs."),
            has_markers=True,
        ),
    ]


def _thinned(runs: list[Candidate]) -> tuple[list[Candidate], str]:
    """At most ``MOST_POINTS`` runs, the chosen ones among them, and a sentence if some are left out."""
    if len(runs) <= MOST_POINTS:
        return runs, ""
    chosen = [c for c in runs if c.is_chosen]
    others = [c for c in runs if not c.is_chosen]
    every = math.ceil(len(others) / max(1, MOST_POINTS - len(chosen)))
    return others[::every] + chosen, f" One in {every} of the {len(runs)} runs is drawn, and all chosen ones."


def _varied(study: Study, runs: Sequence[Candidate]) -> list[str]:
    values: dict[str, set] = {}
    for candidate in runs:
        for name, value in study.folder_of[candidate.source].hparams.items():
            if _is_number(value):
                values.setdefault(name, set()).add(value)
    return sorted(name for name, found in values.items() if len(found) > 1)[:MOST_HPARAMS]


def _against_test(axes: Axes, runs: Sequence[Candidate], slots: dict[str, Line], metric: str) -> None:
    _scatter(axes, [(c, 100 * c.val, 100 * c.test) for c in runs], slots)
    axes.set(xlabel="as the rule saw it (%)", ylabel=f"{metric} of the test (%)")


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
        axes.xaxis.set_major_formatter(
            "{x:g}"
        )  # not 10 to the power of …: that is mathematics, which text is not
        axes.xaxis.set_minor_formatter("")
    else:
        axes.locator_params(axis="x", nbins=5)
    _scatter(axes, points, slots)
    axes.set(xlabel=name, ylabel="as the rule saw it (%)")


def _scatter(axes: Axes, points: Sequence[tuple[Candidate, float, float]], slots: dict[str, Line]) -> None:
    for algorithm, line in slots.items():
        own = [(x, y) for c, x, y in points if c.algorithm == algorithm]
        if own:
            axes.scatter(*zip(*own, strict=True), s=11, alpha=0.65, linewidths=0, **point_style(line))
    chosen = [(x, y) for c, x, y in points if c.is_chosen]
    if chosen:
        axes.scatter(*zip(*chosen, strict=True), s=34, facecolors="none", edgecolors=INK, linewidths=0.8)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
