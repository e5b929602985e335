"""Algorithms against a baseline, in numbers and in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from roga_domainbed.metrics import ACCURACY, Metric
from roga_domainbed.results.runs import Run
from roga_domainbed.results.selection import (
    Rule,
    group_by_test_env,
    held_out_with,
    sweep_value,
)
from roga_domainbed.results.statistics import Comparison, average_ranks, compare, holm

SIGNIFICANT = 0.05
LABELS = ("Algorithm", "Difference", "95 % interval", "p (Holm)", "Win/tie/loss", "Pairs", "Average rank")


@dataclass(frozen=True)
class ComparisonTable:
    """Every algorithm of a sweep against one, for one selection rule.

    Attributes:
        baseline: the algorithm that the others are compared with.
        rule: the selection rule.
        metric: what is compared.
        found: one for every other algorithm; fractions.
        ranks: average rank of every algorithm, the baseline's too.
        blocks: how many (dataset, test environment, trial) the ranks are over.
    """

    baseline: str
    rule: Rule
    metric: Metric
    found: tuple[Comparison, ...]
    ranks: Mapping[str, float]
    blocks: int

    @property
    def header(self) -> str:
        """The sentence above the table."""
        return f"Compared with {self.baseline}, metric: {self.metric.name}, model selection method: {self.rule.title}"

    def rows(self) -> list[list[str]]:
        """The cells below ``LABELS``, the baseline first; differences in percentage points."""
        own = [self.baseline, "", "", "", "", "", _rank(self.ranks[self.baseline])]
        return [own] + [[*_cells(row), _rank(self.ranks[row.algorithm])] for row in self.found]

    def notes(self) -> list[str]:
        """What the columns are, and what the comparison says."""
        return [
            "Pairs: (dataset, test environment, trial) that both have; p: Wilcoxon signed-rank test, Holm-corrected; "
            f"ranks over the {self.blocks} that all have.",
            *verdicts(self.found, self.baseline, self.metric),
        ]


def comparison_table(
    runs: Sequence[Run], rule: Rule, baseline: str, metric: Metric = ACCURACY
) -> ComparisonTable:
    """Compare every algorithm of ``runs`` with ``baseline``."""
    values = values_by_algorithm(runs, rule, metric)
    found = compare(values, baseline, lower_is_better=metric.lower_is_better)
    ranks, blocks = average_ranks(values, lower_is_better=metric.lower_is_better)
    return ComparisonTable(baseline, rule, metric, tuple(found), ranks, blocks)


def values_by_algorithm(
    runs: Sequence[Run], rule: Rule, metric: Metric = ACCURACY
) -> dict[str, dict[tuple, float]]:
    """Algorithm → (dataset, test environment, trial) → the test metric of the run the rule picks."""
    by_dataset: dict[str, list[Run]] = {}
    for run in runs:
        by_dataset.setdefault(run.args["dataset"], []).append(run)
    values: dict[str, dict[tuple, float]] = {}
    for (trial, dataset, algorithm, env), group in group_by_test_env(runs).items():
        own = values.setdefault(algorithm, {})
        tested = held_out_with(by_dataset[dataset], env)
        value = None if tested is None else sweep_value(group, rule, env, metric, tested=tested)
        if value is not None:
            own[dataset, env, trial] = value
    return values


def verdicts(found: Sequence[Comparison], baseline: str, metric: Metric = ACCURACY) -> list[str]:
    """What the comparison says, one sentence for each kind of outcome."""
    groups: dict[str, list[str]] = {"better": [], "worse": [], "noise": [], "few": [], "none": []}
    judged = [row for row in found if row.pairs]
    # The smallest p-value of n pairs is 2 / 2ⁿ; corrected, what each algorithm could reach at best.
    best = dict(
        zip([row.algorithm for row in judged], holm([2.0 ** (1 - row.pairs) for row in judged]), strict=True)
    )
    for row in found:
        if not row.pairs:
            groups["none"].append(row.algorithm)
        elif best[row.algorithm] >= SIGNIFICANT:
            groups["few"].append(row.algorithm)
        elif row.p_value >= SIGNIFICANT:
            groups["noise"].append(row.algorithm)
        else:
            better = (row.difference < 0) == metric.lower_is_better
            groups["better" if better else "worse"].append(row.algorithm)
    sentences = {
        "better": f"Better than {baseline}, beyond noise",
        "worse": f"Worse than {baseline}, beyond noise",
        "noise": f"Differences from {baseline} within noise (p >= {SIGNIFICANT})",
        "few": "Too few pairs to tell, whatever the differences: the test cannot reach "
        f"p < {SIGNIFICANT}, add trials",
        "none": f"No pair in common with {baseline}",
    }
    return [f"{text}: {', '.join(groups[kind])}." for kind, text in sentences.items() if groups[kind]]


def _cells(row: Comparison) -> list[str]:
    if not row.pairs:
        return [row.algorithm, "X", "X", "X", "X", "0"]
    low, high = row.interval
    interval = "X" if math.isnan(low) else f"{100 * low:+.1f} to {100 * high:+.1f}"
    outcome = f"{row.wins}/{row.ties}/{row.losses}"
    return [
        row.algorithm,
        f"{100 * row.difference:+.1f}",
        interval,
        f"{row.p_value:.3f}",
        outcome,
        str(row.pairs),
    ]


def _rank(rank: float) -> str:
    return "X" if math.isnan(rank) else f"{rank:.2f}"
