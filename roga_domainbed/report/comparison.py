"""The rows of a table against a baseline, in numbers and in sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from roga_domainbed.metrics import Metric
from roga_domainbed.results.selected import Selected
from roga_domainbed.results.selection import Rule
from roga_domainbed.results.statistics import Comparison, average_ranks, compare, holm

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class ComparisonTable:
    """Every row against one, for one selection rule.

    Attributes:
        baseline: the row that the others are compared with.
        rule: the selection rule.
        metric: what is compared.
        found: one for every other row; fractions.
        ranks: average rank of every row, the baseline's too; NaN where a row has no value.
        training_sets_of: the dataset, if the comparison is over training sets of it; else empty.
        blocks: how many (dataset, test environment, trial) the ranks are over: those that all other rows have.
    """

    baseline: str
    rule: Rule
    metric: Metric
    found: tuple[Comparison, ...]
    ranks: Mapping[str, float]
    blocks: int
    training_sets_of: str = ""

    labels = ("Algorithm", "Difference", "95 % interval", "p (Holm)", "Win/tie/loss", "Pairs", "Average rank")
    n_left = 1  # columns that are aligned to the left

    @property
    def title(self) -> str:
        """The sentence above the table."""
        over = f" over training sets of {self.training_sets_of}" if self.training_sets_of else ""
        return (
            f"Compared with {self.baseline}{over}, metric: {self.metric.name}, model selection method: "
            f"{self.rule.title}"
        )

    def rows(self) -> list[list[str]]:
        """The texts below ``labels``, the baseline first; differences in percentage points."""
        own = [self.baseline, "", "", "", "", "", _rank(self.ranks[self.baseline])]
        return [own] + [[*_texts(row), _rank(self.ranks[row.name])] for row in self.found]

    def notes(self) -> list[str]:
        """What the columns are, then what the comparison shows."""
        short = [row.name for row in self.found if row.pairs and math.isnan(row.interval[0])]
        without = [row for row, rank in self.ranks.items() if math.isnan(rank)]
        return [
            *(
                [
                    f"X: an interval needs three pairs; {listed(short)} {'have' if len(short) > 1 else 'has'} fewer."
                ]
                if short
                else []
            ),
            *(
                [f"X under Average rank: no number of {listed(without)} is one that all other rows have."]
                if without
                else []
            ),
            "Pairs: the (dataset, test environment, trial) that both have. p: Wilcoxon signed-rank test, "
            f"Holm-corrected. Ranks: over the {self.blocks} (dataset, test environment, trial) that all have.",
            *verdicts(self.found, self.baseline, self.metric),
        ]


def comparison_table(selected: Selected, baseline: str) -> ComparisonTable:
    """Compare every row with ``baseline``, one of them."""
    metric = selected.metric
    found = compare(selected.values, baseline, lower_is_better=metric.lower_is_better)
    ranked = {row: values for row, values in selected.values.items() if values}
    ranks, blocks = average_ranks(ranked, lower_is_better=metric.lower_is_better)
    ranks = {row: ranks.get(row, math.nan) for row in selected.values}
    of = selected.groups[0].training_sets_of if len(selected.groups) == 1 else ""
    return ComparisonTable(baseline, selected.rule, metric, tuple(found), ranks, blocks, of)


def can_compare(selected: Selected, baseline: str) -> bool:
    """Whether the baseline and another row have values."""
    return bool(selected.values.get(baseline)) and sum(map(bool, selected.values.values())) > 1


def verdicts(found: Sequence[Comparison], baseline: str, metric: Metric) -> list[str]:
    """What the comparison shows: one sentence for each kind of outcome."""
    better, worse, alike, apart = [], [], [], []
    few = too_few(found)
    for row in found:
        if not row.pairs:
            apart.append(row)
        elif row in few:
            continue
        elif row.p_value >= SIGNIFICANT:
            alike.append(row)
        else:
            (better if (row.difference < 0) == metric.lower_is_better else worse).append(row)
    sentences = [
        f"{text}: {listed([row.name for row in rows])}."
        for text, rows in (
            (f"Better than {baseline} (p < {SIGNIFICANT})", better),
            (f"Worse than {baseline} (p < {SIGNIFICANT})", worse),
            (f"No significant difference from {baseline} (p >= {SIGNIFICANT})", alike),
            (f"No pair in common with {baseline}", apart),
        )
        if rows
    ]
    if few:
        pairs = sorted({row.pairs for row in few})
        n = (
            f"{pairs[0]} pair{'s' * (pairs[0] > 1)}"
            if len(pairs) == 1
            else f"{pairs[0]} to {pairs[-1]} pairs"
        )
        of_all = len(few) == len(found) > 3
        names = f"the other {len(few)} rows" if of_all else listed([row.name for row in few])
        sentences.append(
            f"Too few trials to compare {names} with {baseline}: with {n} the test cannot reach "
            f"p < {SIGNIFICANT}. Add trials."
        )
    return sentences


def too_few(found: Sequence[Comparison]) -> list[Comparison]:
    """The rows whose pairs are so few that no difference could be significant."""
    judged = [row for row in found if row.pairs]
    # The smallest p-value of n pairs is 2 / 2ⁿ; corrected, what each row could reach at best.
    smallest = holm([2.0 ** (1 - row.pairs) for row in judged])
    return [row for row, value in zip(judged, smallest, strict=True) if value >= SIGNIFICANT]


def listed(names: Sequence[str]) -> str:
    """``a``, ``a and b``, or ``a, b and c``; with semicolons where names have commas."""
    comma = "; " if any("," in name for name in names) else ", "
    return names[0] if len(names) == 1 else f"{comma.join(names[:-1])} and {names[-1]}"


def _texts(row: Comparison) -> list[str]:
    if not row.pairs:
        return [row.name, "X", "X", "X", "X", "0"]
    low, high = row.interval
    interval = "X" if math.isnan(low) else f"{100 * low:+.1f} to {100 * high:+.1f}"
    outcome = f"{row.wins}/{row.ties}/{row.losses}"
    return [row.name, f"{100 * row.difference:+.1f}", interval, f"{row.p_value:.3f}", outcome, str(row.pairs)]


def _rank(rank: float) -> str:
    return "X" if math.isnan(rank) else f"{rank:.2f}"
