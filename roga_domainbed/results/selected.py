"""What a selection rule chooses: for each row, test environment and trial one run out of all hyper-parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from roga_domainbed.metrics import Metric
from roga_domainbed.results.protocols import Group, by_test_env, environment_name, table_name
from roga_domainbed.results.rows import rows_of
from roga_domainbed.results.runs import Run
from roga_domainbed.results.selection import (
    UPSTREAM,
    RankedRun,
    Rule,
    group_by_test_env,
    rank_runs,
)

#: Name of the table (the dataset's, unless the table is of one training set), row and test environment.
CellKey = tuple[str, str, int]


@dataclass(frozen=True)
class JudgedRun:
    """A run as a rule judges it for one test environment.

    Attributes:
        dataset: its name.
        row: the row of the tables that it belongs to.
        env: index of the test environment.
        trial: ``trial_seed``.
        hparams_seed: which hyper-parameters were drawn.
        hparams: those that were drawn; empty where the records have none.
        held_out: all environments that the run holds out, ``env`` among them.
        step: the step the rule picked.
        last_step: of the run.
        val: what it was picked by, a fraction.
        test: the metric on the test environment, a fraction; may be NaN.
        source: the run's folder.
        is_chosen: whether the rule prefers it to all others of its cell and trial.
        trained_on: the training environments, where the table is of one training set; else empty.
    """

    dataset: str
    row: str
    env: int
    trial: int
    hparams_seed: int
    hparams: Mapping[str, Any]
    held_out: tuple[int, ...]
    step: int
    last_step: int
    val: float
    test: float
    source: str
    is_chosen: bool
    trained_on: str = ""

    @property
    def table(self) -> str:
        """The name of the table that it belongs to."""
        return table_name(self.dataset, self.trained_on)

    @property
    def env_name(self) -> str:
        """The test environment's name, as tables have it."""
        return environment_name(self.dataset, self.env)

    @property
    def place(self) -> str:
        """The test environment, and those held out with it: ``NT (with F2F, FS)``."""
        others = [environment_name(self.dataset, env) for env in self.held_out if env != self.env]
        return self.env_name + (f" (with {', '.join(others)})" if others else "")


@dataclass(frozen=True)
class Selected:
    """What one rule makes of all runs.

    Attributes:
        rule: the selection rule.
        metric: what was selected by and is shown.
        judged: every run the rule could judge, in the order of the records, the best of each cell and trial first.
        values: row, in the order of the tables → (table, test environment, trial) → test metric of the chosen run, a
            fraction; the mean where several sets of environments are held out with it. Empty where the rule chose
            nothing.
        groups: the protocols of the runs, with a table each.
    """

    rule: Rule
    metric: Metric
    judged: tuple[JudgedRun, ...]
    values: dict[str, dict[tuple[str, int, int], float]]
    groups: tuple[Group, ...] = field(repr=False)

    @cached_property
    def chosen(self) -> tuple[JudgedRun, ...]:
        """One run for each cell and trial, and set of environments held out together."""
        return tuple(run for run in self.judged if run.is_chosen)

    @cached_property
    def trials(self) -> dict[CellKey, list[JudgedRun]]:
        """Cell → the chosen runs that its number is the mean of."""
        trials: dict[CellKey, list[JudgedRun]] = {}
        for run in self.chosen:
            if not math.isnan(self.values[run.row].get((run.table, run.env, run.trial), math.nan)):
                trials.setdefault((run.table, run.row, run.env), []).append(run)
        return trials

    def within(self, group: Group) -> Selected:
        """What the rule makes of the runs of one group."""
        names = {protocol.name for protocol in group.protocols}
        judged = tuple(run for run in self.judged if run.table in names)
        values = {
            row: {place: value for place, value in self.values[row].items() if place[0] in names}
            for row in rows_of(group.runs)
        }
        return replace(self, judged=judged, values=values, groups=(group,))


def select(runs: Sequence[Run], rule: Rule, metric: Metric, *, compat: str | None = None) -> Selected:
    """What ``select_each`` gives for one rule."""
    return select_each(runs, [rule], metric, compat=compat)[0]


def select_each(
    runs: Sequence[Run],
    rules: Sequence[Rule],
    metric: Metric,
    *,
    compat: str | None = None,
    groups: Sequence[Group] | None = None,
) -> list[Selected]:
    """Apply each rule to every row, test environment and trial of every protocol.

    Args:
        runs: all runs of a sweep.
        rules: entries of ``selection.RULES``.
        metric: what to select by and to show.
        compat: None or ``"upstream"``, which keeps a test metric that is NaN.
        groups: the protocols of ``runs``, from ``protocols.grouped``; ``protocols.by_test_env`` by default.
    """
    groups = tuple(by_test_env(runs) if groups is None else groups)
    protocols = [protocol for group in groups for protocol in group.protocols]
    of_protocol = [group_by_test_env(protocol.runs) for protocol in protocols]
    rows = rows_of(runs)
    selected = []
    for rule in rules:
        judged: list[JudgedRun] = []
        values: dict[str, dict] = {row: {} for row in rows}
        for protocol, cells in zip(protocols, of_protocol, strict=True):
            name, trained_on = protocol.name, protocol.trained_on
            for (trial, dataset, row, env), group in cells.items():
                tests = []
                sets = ((env,),) if compat == UPSTREAM else protocol.sets(env)
                for tested in sets:
                    ranked = rank_runs(group, rule, env, metric, tested=tested, compat=compat)
                    if ranked:
                        tests.append(ranked[0].choice.test)
                    for place, own in enumerate(ranked):
                        judged.append(
                            _judged((dataset, row, env, trial), own, tested, place == 0, trained_on)
                        )
                test = sum(tests) / len(sets) if sets and len(tests) == len(sets) else math.nan
                if not math.isnan(test) or (compat == UPSTREAM and tests):
                    values[row][name, env, trial] = test
        selected.append(Selected(rule, metric, tuple(judged), values, groups))
    return selected


def _judged(
    place: tuple[str, str, int, int],
    ranked: RankedRun,
    tested: tuple[int, ...],
    is_chosen: bool,
    trained_on: str,
) -> JudgedRun:
    """Of a step that was recorded in two folders, the later folder is the source."""
    own = [run for run in ranked.runs if run.held_out == tested]
    choice = ranked.choice
    picked = [run for run in own if choice.step in run.steps][-1]
    last_step = max(step for run in own if run.source == picked.source for step in run.steps)
    return JudgedRun(
        *place, ranked.hparams_seed, picked.hparams, tested, choice.step, last_step, choice.val, choice.test,
        picked.source, is_chosen, trained_on,
    )  # fmt: skip
