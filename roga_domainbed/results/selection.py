"""Model selection: which step of which run a table shows.

A *group* is all runs of one (trial, dataset, row, test environment); a row is an algorithm, or one setting of it. In a
group, the runs with one ``hparams_seed`` are judged together: there is one, or for leave-one-domain-out one for each
further environment that was held out. A *rule* picks one of their steps; tables show the test metric of the best
hparams of the group (``results.selected``).

Ties are broken as upstream breaks them: within a run the first record wins (leave-one-domain-out: the smallest step),
between seeds the largest ``hparams_seed``. Where upstream is wrong, the default differs from it:

- a validation metric that is NaN or null never wins (upstream: NaN in the first record of a run wins);
- if a step was recorded twice, as when a run was repeated in its folder, the later record counts (upstream:
  leave-one-domain-out loses the step);
- a test metric that is NaN or null gives no value (upstream: NaN).

``compat="upstream"`` reproduces upstream.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from roga_domainbed.catalog.registry import Registry
from roga_domainbed.errors import unknown_name
from roga_domainbed.metrics import ACCURACY, Metric
from roga_domainbed.results.rows import row_name
from roga_domainbed.results.runs import COUNTS, METRIC_KEY, Run

UPSTREAM = "upstream"

GroupKey = tuple[int, str, str, int]


class Candidates(NamedTuple):
    """The steps that a rule may pick, in order of preference among equals.

    Attributes:
        val: (n,) the metric to pick by.
        test: (n,) the metric to show.
        steps: (n,) the steps.
    """

    val: np.ndarray
    test: np.ndarray
    steps: Sequence[int]


@dataclass(frozen=True)
class Rule:
    """A selection rule.

    Attributes:
        name: its name on the command line.
        title: its name in tables; contains the word *oracle* where test data decide.
        summary: one line.
        candidates: a function of the runs of one ``hparams_seed``, the test environment, all environments held
            out together with it, and the metric.
    """

    name: str
    title: str
    summary: str
    candidates: Callable[[Sequence[Run], int, tuple[int, ...], Metric], Candidates]


@dataclass(frozen=True)
class Choice:
    """The step a rule picked.

    Attributes:
        val: the metric it was picked by.
        test: the metric on the in-split of the test environment; NaN if there is none.
        step: its number.
    """

    val: float
    test: float
    step: int


@dataclass(frozen=True)
class RankedRun:
    """The runs of one ``hparams_seed``, and the step a rule picked from them."""

    hparams_seed: int
    choice: Choice
    runs: tuple[Run, ...]


def group_by_test_env(runs: Iterable[Run]) -> dict[GroupKey, list[Run]]:
    """(trial_seed, dataset, row, test_env) → runs, in order of first appearance.

    A run with several test environments is in the group of each; one that successive halving dropped is in none.
    """
    groups: dict[GroupKey, list[Run]] = {}
    for run in runs:
        if run.dropped is not None:
            continue
        args = run.args
        for env in args["test_envs"]:
            key = (args["trial_seed"], args["dataset"], row_name(args), env)
            groups.setdefault(key, []).append(run)
    return groups


def held_out_with(runs: Iterable[Run], test_env: int) -> tuple[tuple[int, ...], ...]:
    """The sets of environments that the runs which count for ``test_env`` hold out; empty if no runs count.

    If any run holds out ``test_env`` alone, ``(test_env,)``: runs with two test environments are then the
    validation runs of leave-one-domain-out. Otherwise the set that all runs with ``test_env`` share, as in a sweep
    that trains on some datasets and tests on all others at once. If there are several, all of them where every run
    holds out equally many, as in a sweep that trains on each environment alone: a number is then the mean over them.

    Args:
        runs: all runs of one dataset, of every algorithm and trial.
        test_env: index of the environment.
    """
    sets = {run.held_out for run in runs}
    found = sorted(envs for envs in sets if test_env in envs)
    if (test_env,) in found:
        return ((test_env,),)
    if len(found) > 1 and len(set(map(len, sets))) > 1:
        return ()
    return tuple(found)


def metrics_in(runs: Iterable[Run]) -> list[str]:
    """The metrics that these runs can be selected by: those of both the in- and the out-splits."""
    found = frozenset().union(*{run.metrics for run in runs})
    names = {name for name, _ in found if name not in COUNTS}
    return sorted(name for name in names if {(name, "in"), (name, "out")} <= found)


def no_such_metric(metric: Metric, runs: Iterable[Run]) -> str:
    """A sentence for a metric that these runs cannot be selected by: a wrong name, or records that do not have it."""
    known = metrics_in(runs)
    if metric.function is None:
        return unknown_name("metric", metric.name, known)
    has = f"they have {', '.join(known)}" if known else "they have no metric of both an in- and an out-split"
    return (
        f"the records have no {metric.title} ({metric.name}): {has}. DomainBed's own scripts record acc alone; "
        "'roga-domainbed train' records the others, for tasks of two classes"
    )


def environments_in(runs: Iterable[Run]) -> set[int]:
    """The environments that these runs' records have a metric of."""
    keys = set().union(*{run.columns for run in runs})
    return {int(match[1]) for key in keys if (match := METRIC_KEY.fullmatch(key))}


def rank_runs(
    runs: Iterable[Run],
    rule: Rule,
    test_env: int,
    metric: Metric = ACCURACY,
    *,
    tested: tuple[int, ...] | None = None,
    compat: str | None = None,
) -> list[RankedRun]:
    """The runs of one group by ``hparams_seed``, best first, without those that the rule can pick no step of.

    Args:
        runs: one group of ``group_by_test_env``.
        rule: an entry of ``RULES``.
        test_env: the environment whose metric is wanted.
        metric: the one to select by and to show.
        tested: the environments held out together, one of ``held_out_with``; ``(test_env,)`` by default.
        compat: None or ``"upstream"``.
    """
    by_seed: dict[int, list[Run]] = {}
    for run in runs:
        by_seed.setdefault(run.args["hparams_seed"], []).append(run)
    ranked = []
    for seed, own in sorted(by_seed.items()):
        choice = choose(own, rule, test_env, metric, tested=tested, compat=compat)
        if choice is not None:
            ranked.append(RankedRun(seed, choice, tuple(own)))

    def quality(run: RankedRun) -> float:
        value = metric.rank(run.choice.val)
        return -math.inf if math.isnan(value) else value

    return sorted(ranked, key=quality)[::-1]  # of equals the largest seed comes first


def choose(
    runs: Sequence[Run],
    rule: Rule,
    test_env: int,
    metric: Metric = ACCURACY,
    *,
    tested: tuple[int, ...] | None = None,
    compat: str | None = None,
) -> Choice | None:
    """What ``rule`` picks from the runs of one ``hparams_seed``, or None. Arguments as in ``rank_runs``."""
    if compat != UPSTREAM:
        runs = _without_repeated_steps(runs)
    val, test, steps = rule.candidates(runs, test_env, tested or (test_env,), metric)
    if not len(val):
        return None
    ranks = metric.rank(val)
    best = int(ranks.argmax())  # the first NaN, if there is one
    # Upstream's max() keeps a NaN that comes first, because every comparison with it is false.
    if math.isnan(ranks[best]) and not (compat == UPSTREAM and best == 0):
        if np.isnan(ranks).all():
            return None
        best = int(np.nanargmax(ranks))
    return Choice(float(val[best]), float(test[best]), steps[best])


def _iid(runs: Sequence[Run], test_env: int, tested: tuple[int, ...], metric: Metric) -> Candidates:
    return _by_training_environments(runs, tested, metric, f"env{test_env}_in_{metric.name}")


def _auto_lr(runs: Sequence[Run], test_env: int, tested: tuple[int, ...], metric: Metric) -> Candidates:
    return _by_training_environments(runs, tested, metric, f"fd_env{test_env}_in_{metric.name}")


def _last(runs: Sequence[Run], test_env: int, tested: tuple[int, ...], metric: Metric) -> Candidates:
    return _iid([run.take([row]) for run, row in _last_record(runs, tested)], test_env, tested, metric)


def _oracle(runs: Sequence[Run], test_env: int, tested: tuple[int, ...], metric: Metric) -> Candidates:
    keys = [f"env{test_env}_{split}_{metric.name}" for split in ("out", "in")]
    return _joined(
        Candidates(*(run.column(key)[row : row + 1] for key in keys), [run.steps[row]])
        for run, row in _last_record(runs, tested)
    )


def _loo(runs: Sequence[Run], test_env: int, tested: tuple[int, ...], metric: Metric) -> Candidates:
    pairs = [run for run in runs if len(run.held_out) == 2 and test_env in run.held_out]
    validation: dict[int, dict[int, float]] = {}  # step → the other environment of a pair → its metric
    for run in pairs:
        (other,) = set(run.held_out) - {test_env}
        values = run.column(f"env{other}_in_{metric.name}").tolist()
        for step, value in zip(run.steps, values, strict=True):
            validation.setdefault(step, {})[other] = value
    alone: dict[int, list[tuple[Run, int]]] = {}
    for run in runs if pairs else ():
        if run.held_out == (test_env,):
            for row, step in enumerate(run.steps):
                alone.setdefault(step, []).append((run, row))
    found = []
    for step in sorted(alone.keys() & validation.keys()):
        (run, row), *repeated = alone[step]
        others = [env for env in range(_environments(run.columns, metric.name)) if env != test_env]
        if not repeated and others and validation[step].keys() >= set(others):
            val = np.sum([validation[step][env] for env in others]) / len(others)
            test = run.column(f"env{test_env}_in_{metric.name}")[row]
            found.append(Candidates(np.array([val]), np.array([test]), [step]))
    return _joined(found)


#: The rules, by their names on the command line.
RULES: Registry[Rule] = Registry("selection rule")
RULES.add(
    Rule(
        "iid",
        "training-domain validation set",
        "step and hparams with the best mean over the out-splits of the training environments",
        _iid,
    )
)
RULES.add(
    Rule(
        "loo",
        "leave-one-domain-out cross-validation",
        "step and hparams with the best mean over runs that held out one more environment",
        _loo,
    )
)
RULES.add(
    Rule(
        "oracle",
        "test-domain validation set (oracle)",
        "last step; hparams with the best out-split of the test environment: test data decide",
        _oracle,
    )
)
RULES.add(
    Rule(
        "last",
        "last step, hparams by training-domain validation set",
        "last step; hparams with the best mean over the out-splits of the training environments",
        _last,
    )
)
RULES.add(
    Rule(
        "auto_lr",
        "auto lr training-domain validation set",
        "as iid, tested on the second stage of DomainBed's train_autolr",
        _auto_lr,
    )
)


def merge_auto_lr_stages(runs: Iterable[Run]) -> list[Run]:
    """One record for each run of DomainBed's ``train_autolr``: the last value of every key of both stages."""
    last: dict[str, Run] = {}
    values: dict[str, dict[str, float]] = {}
    for run in runs:
        key = repr(sorted((name, value) for name, value in run.args.items() if name != "holdout_fraction"))
        last[key] = run
        values.setdefault(key, {}).update(zip(run.columns, run.values[-1], strict=True))
    return [
        replace(
            run,
            steps=run.steps[-1:],
            columns=tuple(values[key]),
            values=np.array([list(values[key].values())]),
        )
        for key, run in last.items()
    ]


def _by_training_environments(
    runs: Sequence[Run], tested: tuple[int, ...], metric: Metric, test_key: str
) -> Candidates:
    """All steps, by the mean over the out-splits of the training environments, as upstream's ``np.mean`` gives it."""
    found = []
    for run in runs:
        if run.held_out == tested:
            columns = _training_columns(run.columns, tested, metric.name)
            sums = np.add.reduce(run.values.take(columns, axis=1), axis=1)
            val = sums / len(columns) if columns else np.full(len(run), np.nan)
            found.append(Candidates(val, run.column(test_key), run.steps))
    return _joined(found)


def _last_record(runs: Sequence[Run], tested: tuple[int, ...]) -> list[tuple[Run, int]]:
    """Run and row of the record with the largest step, of several the last; empty if no run holds out ``tested``."""
    runs = [run for run in runs if run.held_out == tested]
    last = [max(zip(run.steps, range(len(run)), strict=True)) for run in runs]
    best = max(zip(last, range(len(runs)), strict=True), default=None)
    return [] if best is None else [(runs[best[1]], best[0][1])]


def _joined(parts: Iterable[Candidates]) -> Candidates:
    parts = list(parts)
    if len(parts) == 1:
        return parts[0]
    val, test = (np.concatenate([[], *(part[i] for part in parts)]) for i in (0, 1))
    return Candidates(val, test, [step for part in parts for step in part.steps])


def _without_repeated_steps(runs: Sequence[Run]) -> Sequence[Run]:
    """``runs`` without the earlier of two records of one step; the later takes its place in the order."""
    if len(runs) == 1 and _is_distinct(runs[0].steps):
        return runs
    latest = {
        (run.held_out, step): (index, row)
        for index, run in enumerate(runs)
        for row, step in enumerate(run.steps)
    }
    return [
        runs[index].take([row for _, row in records])
        for index, records in itertools.groupby(latest.values(), lambda record: record[0])
    ]


@functools.lru_cache(maxsize=1024)
def _is_distinct(steps: tuple[int, ...]) -> bool:
    return len(set(steps)) == len(steps)


@functools.lru_cache(maxsize=1024)
def _training_columns(columns: tuple[str, ...], tested: tuple[int, ...], metric: str) -> list[int]:
    """The positions of the training environments' out-splits."""
    envs = set(range(_environments(columns, metric))).difference(tested)
    return [columns.index(f"env{env}_out_{metric}") for env in sorted(envs)]


@functools.lru_cache(maxsize=1024)
def _environments(columns: tuple[str, ...], metric: str) -> int:
    """The number of environments, counted as upstream does: up to the first without an out-split."""
    return next(env for env in itertools.count() if f"env{env}_out_{metric}" not in columns)
