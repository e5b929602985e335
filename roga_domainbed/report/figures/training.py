"""Curves over the training steps: metrics, losses, sharpness, gradient agreement; and the cost of a step."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from roga_domainbed.metrics import Metric
from roga_domainbed.report.figures.figure import Figure, Line, Panel
from roga_domainbed.report.figures.style import line_style, point_style
from roga_domainbed.report.study import Study
from roga_domainbed.results.records import Record
from roga_domainbed.results.runs import as_number
from roga_domainbed.results.selected import JudgedRun

MOST_POINTS = 120
_OUT = re.compile(r"env(\d+)_out_(\w+)")
_ALPHA_RATIO = re.compile(r"alpha_ratio_\d+")

#: A curve: steps and values, both (S,).
Curve = tuple[np.ndarray, np.ndarray]
Reading = Callable[[Record], float]


def training_figures(study: Study, dataset: str, lines: Sequence[Line]) -> list[Figure]:
    """Curves of the chosen runs, the mean over trials at steps that all of them recorded."""
    envs = study.test_envs(dataset)
    names = {env: study.environment_name(dataset, env) for env in envs}

    def per_env(reading: Callable[[int], Reading]) -> dict[str, dict[Line, Curve]]:
        return {names[env]: _curves(study, dataset, lines, reading(env), env) for env in envs}

    def over_envs(reading: Reading) -> dict[Line, Curve]:
        return _curves(study, dataset, lines, reading, None)

    metric, title = study.metric, study.metric.title
    test = per_env(lambda env: lambda record: 100 * as_number(record.get(f"env{env}_in_{metric.name}")))
    val = per_env(lambda env: lambda record: 100 * validation(record, metric))
    of_runs = "Mean over the chosen runs of all test environments and trials, by step. "
    return [
        _figure(
            "training",
            "Training curves",
            f"{title[0].upper()}{title[1:]} in {metric.unit} by step, mean over trials. Solid: the held-out "
            "environment, which only an oracle uses. Dotted: mean over the validation parts of the training domains.",
            lines,
            [(name, test[name], f"{title} ({metric.unit})", val[name]) for name in test],
            f"No record has the {title}.",
        ),
        _figure(
            "loss",
            "Training loss",
            of_runs
            + "Each algorithm records its own objective, so the levels of different algorithms are not comparable.",
            lines,
            [("loss", over_envs(lambda record: as_number(record.get("loss"))), "loss", {})],
            "No record has a loss.",
        ),
        _figure(
            "sharpness",
            "Sharpness and gradient norms",
            of_runs
            + "Sharpness: the loss at the perturbed point minus the loss at θ, as RoGA, SAM and their kin measure it "
            "on their minibatches. Each has its own perturbation, so compare shapes, not levels.",
            lines,
            [
                ("sharpness", over_envs(_sharpness), "perturbed loss − loss", {}),
                ("gradient norm at θ", over_envs(lambda r: as_number(r.get("grad_norm"))), "‖g‖", {}),
            ],
            "No row that is drawn has a perturbed loss: only RoGA, SAM and their kin have one, and DomainBed's own "
            "trainer does not record it.",
        ),
        _figure(
            "alignment",
            "Gradient agreement between domains",
            of_runs
            + "Cosine: the mean over pairs of training domains of the cosine between their gradients (RoGA "
            "measures it every tenth step). α‖g‖/ρ: size of the alignment term relative to the perturbation; far below "
            "1 it hardly matters.",
            lines,
            [
                ("cosine between domains", over_envs(lambda r: as_number(r.get("cosine"))), "cosine", {}),
                ("α‖g‖ / ρ, mean over domains", over_envs(_alpha_ratio), "α‖g‖ / ρ", {}),
            ],
            "No row that is drawn has a cosine between the domains' gradients: only RoGA records it.",
        ),
        _cost(study, dataset, lines),
    ]


def validation(record: Record, metric: Metric) -> float:
    """Mean over the out-splits of the training environments, a fraction; NaN if one is missing."""
    tested = record["args"]["test_envs"]
    values = [
        as_number(value)
        for key, value in record.items()
        if (match := _OUT.fullmatch(key)) and match[2] == metric.name and int(match[1]) not in tested
    ]
    return float(np.mean(values)) if values else math.nan


def mean_curve(runs: Sequence[Sequence[Record]], reading: Reading) -> Curve | None:
    """The mean over runs at the steps where every run has a number, thinned out evenly to ``MOST_POINTS`` steps."""
    found = []
    for run in runs:
        values = {record["step"]: reading(record) for record in run}
        values = {step: value for step, value in values.items() if math.isfinite(value)}
        if values:
            found.append(values)
    steps = sorted(set.intersection(*map(set, found))) if found else []
    if not steps:
        return None
    if len(steps) > MOST_POINTS:
        kept = np.unique(np.linspace(0, len(steps) - 1, MOST_POINTS).round().astype(int))
        steps = [steps[i] for i in kept]
    return np.array(steps), np.array([np.mean([values[step] for values in found]) for step in steps])


def step_seconds(study: Study, runs: Sequence[JudgedRun]) -> float:
    """Median over the runs' records of the seconds per step, without the first step, which warms up."""
    values = [
        as_number(record.get("step_time"))
        for run in runs
        for record in study.folder_of[run.source].records
        if record["step"] > 0
    ]
    values = [value for value in values if math.isfinite(value)]
    return float(np.median(values)) if values else math.nan


def _curves(
    study: Study, dataset: str, lines: Sequence[Line], reading: Reading, env: int | None
) -> dict[Line, Curve]:
    curves = {}
    for line in lines:
        chosen = study.chosen_in(dataset, env, line.label)
        curve = mean_curve([study.folder_of[c.source].records for c in chosen], reading)
        if curve is not None:
            curves[line] = curve
    return curves


def _figure(
    name: str,
    title: str,
    caption: str,
    lines: Sequence[Line],
    panels: Sequence[tuple[str, Mapping[Line, Curve], str, Mapping[Line, Curve]]],
    missing: str,
) -> Figure:
    """A figure of the panels that have a curve; ``missing`` is the reason if none has."""
    kept = [panel for panel in panels if panel[1]]
    drawn = tuple(line for line in lines if any(line in curves for _, curves, _, _ in kept))
    return Figure(
        name,
        title,
        caption,
        tuple(
            Panel(title, lambda axes, c=curves, y=label, d=dotted: _draw(axes, c, y, d))
            for title, curves, label, dotted in kept
        ),
        drawn,
        "" if kept else missing,
        has_markers=True,
    )


def _draw(axes: Axes, curves: Mapping[Line, Curve], label: str, dotted: Mapping[Line, Curve]) -> None:
    for line, (steps, values) in curves.items():
        axes.plot(steps, values, markevery=max(1, len(steps) // 10), **line_style(line, markers=True))
    for line, (steps, values) in dotted.items():
        axes.plot(steps, values, color=line_style(line)["color"], ls=(0, (1, 1.4)), lw=1.0)
    axes.set(xlabel="step", ylabel=label)


def _cost(study: Study, dataset: str, lines: Sequence[Line]) -> Figure:
    points, title = {}, study.metric.title
    for line in lines:
        chosen = [c for c in study.chosen_in(dataset, row=line.label) if not math.isnan(c.test)]
        seconds = step_seconds(study, chosen)
        if chosen and math.isfinite(seconds):
            points[line] = 1000 * seconds, 100 * float(np.mean([c.test for c in chosen]))

    def draw(axes: Axes) -> None:
        for line, (x, y) in points.items():
            axes.scatter([x], [y], s=42, **point_style(line))
        axes.set(xlabel="ms per step", ylabel=f"mean {title} ({study.metric.unit})")
        axes.margins(0.15)
        axes.set_xlim(left=0)
        axes.locator_params(axis="x", nbins=6)  # numbers of four digits are wide

    return Figure(
        "cost",
        f"Cost of a step against {title}",
        "Median time of a step over the records of the chosen runs, without the first step, which warms up, against "
        "the mean over all cells. Times are comparable only if the runs had the same machine to themselves.",
        (Panel(dataset, draw),) if points else (),
        tuple(points),
        "" if points else "No record has a step time.",
        has_markers=True,
    )


def _sharpness(record: Record) -> float:
    return as_number(record.get("perturbed_loss")) - as_number(record.get("loss"))


def _alpha_ratio(record: Record) -> float:
    values = [as_number(value) for key, value in record.items() if _ALPHA_RATIO.fullmatch(key)]
    return float(np.mean(values)) if values else math.nan
