"""Figures of stored scores: ROC and DET curves, and histograms of the scores of reals and fakes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from scipy.stats import norm

from roga_domainbed.metrics.binary import roc_curve
from roga_domainbed.report.figures.figure import Figure, Line, Panel
from roga_domainbed.report.figures.style import DASHES, MUTED, SERIES, line_style
from roga_domainbed.report.scores import Scores
from roga_domainbed.results.selected import environment_name

#: The rates at which the curves of several trials are averaged: every percent, and more of the low rates.
FALSE_POSITIVE_RATES = np.unique(np.concatenate([np.linspace(0, 1, 101), np.geomspace(1e-4, 1.0, 81)]))
BINS = 25
_DET_TICKS = (0.001, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95)

#: (row, test environment) → the scores of every trial.
TestScores = Mapping[tuple[str, int], Sequence[Scores]]


def detection_figures(
    dataset: str, scores: TestScores, lines: Sequence[Line], whose: str, missing: str
) -> list[Figure]:
    """ROC, DET and histograms.

    Args:
        dataset: its name.
        scores: of the test environments.
        lines: the rows to draw.
        whose: a sentence on the step that the scores are of.
        missing: the reason, if there are no scores.
    """
    labels = {line.label for line in lines}
    envs = sorted({env for row, env in scores if row in labels})
    of_panels = {
        environment_name(dataset, env): {
            line: scores[line.label, env] for line in lines if (line.label, env) in scores
        }
        for env in envs
    }
    return score_figures(of_panels, lines, whose, missing)


def score_figures(
    of_panels: Mapping[str, Mapping[Line, Sequence[Scores]]], lines: Sequence[Line], whose: str, missing: str
) -> list[Figure]:
    """ROC, DET and histograms, with a panel for each of ``of_panels``: the scores of every trial of its lines."""
    curves, histograms = [], []
    for name, own in of_panels.items():
        means = {line: mean_roc(trials) for line, trials in own.items()}
        means = {line: curve for line, curve in means.items() if curve is not None}
        if means:
            curves.append((name, means))
        histograms += [
            Panel(f"{name}, {line.label}", lambda axes, t=trials: _histogram(axes, t), height=1.5)
            for line, trials in own.items()
        ]
    drawn = tuple(line for line in lines if any(line in means for _, means in curves))
    one_class = "" if curves else missing or "Each test environment has one class only, so there is no curve."
    return [
        Figure(
            "roc",
            "ROC curves",
            f"Share of fakes detected against share of reals taken for fakes. {whose} Curves of several trials are "
            "averaged at equal false-positive rates (Fawcett 2006). Dashed: chance.",
            tuple(Panel(name, lambda axes, m=means: _roc(axes, m)) for name, means in curves),
            drawn,
            one_class,
        ),
        Figure(
            "det",
            "DET curves",
            "Fakes missed against reals taken for fakes, both on a normal-deviate scale (Martin et al. 1997). Lower "
            f"left is better; Gaussian scores give straight lines. {whose}",
            tuple(Panel(name, lambda axes, m=means: _det(axes, m)) for name, means in curves),
            drawn,
            one_class,
        ),
        Figure(
            "scores",
            "Scores of reals and fakes",
            f"Density of the predicted probability of fake, all trials together. {whose} Where both classes lie on "
            "the same side of ½, the accuracy is near chance even if the AUC is high.",
            tuple(histograms),
            (Line("real", 0), Line("fake", 1)),
            "" if histograms else missing,
        ),
    ]


def mean_roc(trials: Sequence[Scores]) -> np.ndarray | None:
    """(G,) mean over trials of the true-positive rates at ``FALSE_POSITIVE_RATES``; None if no trial has both classes.

    Between two points of a trial's curve the rates are interpolated linearly.
    """
    rates = []
    for trial in trials:
        if len(np.unique(trial.labels)) == 2:
            fpr, tpr = roc_curve(trial.scores, trial.labels)
            at = np.interp(FALSE_POSITIVE_RATES, fpr, tpr)
            at[0] = tpr[fpr == 0].max()  # np.interp takes the first of the points above 0
            rates.append(at)
    return np.mean(rates, axis=0) if rates else None


def _roc(axes: Axes, means: Mapping[Line, np.ndarray]) -> None:
    axes.plot([0, 1], [0, 1], color=MUTED, lw=0.8, ls=(0, (4, 3)))
    for line, tpr in means.items():
        axes.plot(np.concatenate([[0], FALSE_POSITIVE_RATES]), np.concatenate([[0], tpr]), **line_style(line))
    axes.set(
        xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="false-positive rate", ylabel="true-positive rate"
    )


def _det(axes: Axes, means: Mapping[Line, np.ndarray]) -> None:
    low, high = _DET_TICKS[0], _DET_TICKS[-1]
    for line, tpr in means.items():
        fpr, fnr = np.clip(FALSE_POSITIVE_RATES, low, high), np.clip(1 - tpr, low, high)
        axes.plot(norm.ppf(fpr), norm.ppf(fnr), **line_style(line))
    ticks, names = norm.ppf(_DET_TICKS), [f"{100 * tick:g}" for tick in _DET_TICKS]
    axes.set_xticks(ticks, names)
    axes.set_yticks(ticks, names)
    limits = (ticks[0] - 0.1, ticks[-1] + 0.1)
    axes.set(xlim=limits, ylim=limits, xlabel="reals taken for fakes (%)", ylabel="fakes missed (%)")


def _histogram(axes: Axes, trials: Sequence[Scores]) -> None:
    scores = np.concatenate([trial.scores for trial in trials])
    labels = np.concatenate([trial.labels for trial in trials])
    are_probabilities = scores.min() >= 0 and scores.max() <= 1
    ends = (0.0, 1.0) if are_probabilities else (scores.min(), max(scores.max(), scores.min() + 1e-6))
    edges = np.linspace(*ends, BINS + 1)
    for label in (0, 1):
        if (labels == label).any():
            density, _ = np.histogram(scores[labels == label], edges, density=True)
            axes.stairs(density, edges, fill=True, color=SERIES[label], alpha=0.3, lw=0)
            axes.stairs(density, edges, color=SERIES[label], lw=1.1, ls=DASHES[label])
    if are_probabilities:
        axes.axvline(0.5, color=MUTED, lw=0.7, ls=(0, (2, 2)))
    axes.set(xlim=ends, xlabel="probability of fake" if are_probabilities else "score", yticks=[])
    axes.set_ylim(bottom=0)
