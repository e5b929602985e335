"""Why a cell of a table has no number: one sentence for each X."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from roga_domainbed.errors import shortened
from roga_domainbed.metrics import Metric
from roga_domainbed.results.runs import Run
from roga_domainbed.results.selected import environment_name
from roga_domainbed.results.selection import Rule, environments_in

NO_RUN = "no run"
NO_PAIRS = (
    "no run holds out a pair of environments, which this rule needs ('sweep launch' without --single_test_envs makes "
    "them)"
)

NO_FURTHER_RUNS = (
    "this rule judges a run by others that hold out one environment more, and here all train on the same"
)


def why_no_number(
    runs: Sequence[Run], env: int, sets: Sequence[tuple[int, ...]], rule: Rule, metric: Metric
) -> str:
    """Why ``rule`` gives no number for one environment, as the end of a sentence.

    Args:
        runs: of one dataset, row and trial, those that hold out ``env``; none of them may be there.
        env: index of the environment.
        sets: of environments that are held out together, from ``selection.held_out_with``.
        rule: an entry of ``selection.RULES``.
        metric: what is selected by and shown.
    """
    if not runs:
        return NO_RUN
    dataset = runs[0].args["dataset"]

    def named(envs: Sequence[int]) -> str:
        return shortened([environment_name(dataset, one) for one in envs], 6)

    if not sets:
        found = sorted({run.held_out for run in runs})
        return (
            f"no run holds it out alone, and runs hold out different numbers: {'; '.join(map(named, found))}"
        )
    pairs = {other for run in runs if len(run.held_out) == 2 for other in run.held_out if other != env}
    if rule.name == "loo":
        if not pairs:
            return NO_PAIRS
        lacking = sorted(environments_in(runs) - pairs - {env})
        if lacking:
            return f"no run holds out {named([env])} together with {named(lacking)}"
    for tested in sets:
        own = [run for run in runs if run.held_out == tested]
        if not own:
            return f"no run holds out {named(tested)}"
        why = _why_of_columns(own, env, tested, rule, metric, named)
        if why:
            return why
    if rule.name == "loo":
        return f"the runs have no step in common at which the {metric.title} of every pair is known"
    return f"no step has all numbers that the rule needs ({metric.name})"


def _why_of_columns(
    runs: Sequence[Run], env: int, tested: tuple[int, ...], rule: Rule, metric: Metric, named: object
) -> str:
    """The first of the record keys that the rule reads and that has no number in any of the runs; empty if all have."""
    parts = [(env, "in", f"test {metric.title}")]
    if rule.name == "oracle":
        parts.insert(0, (env, "out", f"{metric.title} of the test environment's out-split"))
    elif rule.name != "loo":
        training = sorted(environments_in(runs).difference(tested))
        if not training:
            return f"no record has the {metric.title} of a training environment"
        parts = [
            *((one, "out", f"validation {metric.title} of {named([one])}") for one in training),
            *parts,
        ]
    for one, split, words in parts:
        key = f"env{one}_{split}_{metric.name}"
        if all(np.isnan(run.column(key)).all() for run in runs):
            said = next((str(run.why_null[key]) for run in runs if key in run.why_null), "")
            if not said:
                said = (
                    "null or no number" if any(key in run.columns for run in runs) else "not in the records"
                )
            return f"there is no {words} ({key}: {said})"
    return ""
