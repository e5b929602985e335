"""Model selection: which step of which run a table shows.

A *group* is all runs of one (trial, dataset, row, test environment); a row is an algorithm, or one setting of it. In a
group, the runs with one ``hparams_seed`` are judged together: there is one, or for leave-one-domain-out one for each
further environment that was held out. A *rule* picks one of their steps; tables show the test metric of the best
hparams of the group (``results.selected``).

Ties, in every rule: within a run the first record wins (leave-one-domain-out: the smallest step); between hparams
the largest ``hparams_seed``. So does upstream. Where upstream is wrong we differ, unless ``compat`` is set:

- a validation metric that is NaN or null never wins (upstream: NaN in a run's first record wins);
- a step recorded twice, as after a folder was run again, counts once, the later record (upstream: such steps
  are lost to leave-one-domain-out);
- a test metric that is NaN or null gives no value rather than NaN.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from roga_domainbed.catalog.registry import Registry
from roga_domainbed.metrics import ACCURACY, Metric
from roga_domainbed.results.rows import row_name
from roga_domainbed.results.runs import METRIC_KEY, Run

UPSTREAM = "upstream"

GroupKey = tuple[int, str, str, int]
_COUNTS = ("n", "video_n")


@dataclass(frozen=True)
class Choice:
    """The step a rule picked.

    Attributes:
        val: the metric it was picked by; NaN if there is none.
        test: the metric on the test environment's in-split; NaN if there is none.
        step: the step of the record that ``test`` comes from.
    """

    val: float
    test: float
    step: int


@dataclass(frozen=True)
class RankedRun:
    """A run with what the rule picked from it."""

    hparams_seed: int
    choice: Choice
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Candidates:
    """What a rule may pick from a run, in order of preference among equals.

    Attributes:
        val: (n,) the metric to pick by.
        test: (n,) the metric to show.
        steps: the step of each.
    """

    val: np.ndarray
    test: np.ndarray
    steps: Sequence[int]


Pick = Callable[[Sequence[Run], int, "tuple[int, ...]", Metric], Candidates]


@dataclass(frozen=True)
class Rule:
    """A selection rule.

    Attributes:
        name: its name on the command line.
        title: its name in tables; carries the word *oracle* where test data decide.
        summary: one line.
        candidates: the choices a run offers, in order of preference among equals.
    """

    name: str
    title: str
    summary: str
    candidates: Pick


def group_by_test_env(runs: Iterable[Run]) -> dict[GroupKey, list[Run]]:
    """(trial_seed, dataset, row, test_env) → runs, in order of first appearance.

    A run with several test environments joins the group of each.
    """
    groups: dict[GroupKey, list[Run]] = {}
    for run in runs:
        args = run.args
        for env in args["test_envs"]:
            key = (args["trial_seed"], args["dataset"], row_name(args), env)
            groups.setdefault(key, []).append(run)
    return groups


def held_out_with(runs: Iterable[Run], test_env: int) -> tuple[int, ...] | None:
    """The environments held out in the runs that count for ``test_env``; None if there are no such runs.

    ``(test_env,)`` wherever some run held out that environment alone: runs with two test environments are
    then the validation runs of leave-one-domain-out. Otherwise the one list that all runs share, as where a
    sweep trains on some datasets and tests on all others at once. Several different lists leave no answer.

    Args:
        runs: all runs of one dataset, of every algorithm and trial.
        test_env: index of the environment.
    """
    lists = {run.held_out for run in runs}
    lists = {envs for envs in lists if test_env in envs}
    if (test_env,) in lists:
        return (test_env,)
    return lists.pop() if len(lists) == 1 else None


def metrics_in(runs: Iterable[Run]) -> list[str]:
    """The metrics these runs can be selected by: those with both an in- and an out-split value."""
    found = frozenset().union(*{run.metrics for run in runs})
    names = {name for name, _ in found if name not in _COUNTS}
    return sorted(name for name in names if {(name, "in"), (name, "out")} <= found)


def environments_in(runs: Iterable[Run]) -> int:
    """The number of environments in these runs' records: one more than the largest index in their keys."""
    keys = set().union(*{run.columns for run in runs})
    return max((int(match[1]) for key in keys if (match := METRIC_KEY.fullmatch(key))), default=-1) + 1


def rank_runs(
    runs: Iterable[Run],
    rule: Rule,
    test_env: int,
    metric: Metric = ACCURACY,
    *,
    tested: tuple[int, ...] | None = None,
    compat: str | None = None,
) -> list[RankedRun]:
    """The runs of one group, best first; runs the rule cannot judge are left out.

    Args:
        runs: one group of ``group_by_test_env``.
        rule: an entry of ``RULES``.
        test_env: the environment whose metric is wanted.
        metric: what to select by and to show.
        tested: the environments held out together, from ``held_out_with``; ``(test_env,)`` by default.
        compat: None or ``"upstream"``.
    """
    by_seed: dict[int, list[Run]] = {}
    for run in runs:
        by_seed.setdefault(run.args["hparams_seed"], []).append(run)
    ranked = []
    for seed in sorted(by_seed):
        choice = choose(by_seed[seed], rule, test_env, metric, tested=tested, compat=compat)
        if choice is not None:
            ranked.append(RankedRun(seed, choice, tuple(by_seed[seed])))

    def best_last(run: RankedRun) -> float:
        value = metric.rank(run.choice.val)
        return -math.inf if math.isnan(value) else value

    return sorted(ranked, key=best_last)[::-1]


def choose(
    runs: Sequence[Run],
    rule: Rule,
    test_env: int,
    metric: Metric = ACCURACY,
    *,
    tested: tuple[int, ...] | None = None,
    compat: str | None = None,
) -> Choice | None:
    """What ``rule`` picks from the runs with one ``hparams_seed``, or None. Arguments as in ``rank_runs``."""
    upstream = compat == UPSTREAM
    if not upstream:
        runs = _latest_of_each_step(runs)
    candidates = rule.candidates(runs, test_env, tested or (test_env,), metric)
    if not len(candidates.val):
        return None
    best = _first_best(metric.rank(candidates.val), upstream)
    if best is None:
        return None
    return Choice(float(candidates.val[best]), float(candidates.test[best]), candidates.steps[best])


def _iid(runs: Sequence[Run], test_env: int, tested: tuple[int, ...], metric: Metric) -> Candidates:
    return _by_training_validation(runs, tested, metric, f"env{test_env}_in_{metric.name}")


def _by_training_validation(
    runs: Sequence[Run], tested: tuple[int, ...], metric: Metric, test_key: str
) -> Candidates:
    runs = [run for run in runs if run.held_out == tested]
    return _joined(
        [(_training_validations(run, tested, metric), run.column(test_key), run.steps) for run in runs]
    )


def _loo(runs: Sequence[Run], test_env: int, tested: tuple[int, ...], metric: Metric) -> Candidates:
    if all(len(run.args["test_envs"]) == 1 for run in runs):
        return _joined([])
    alone: dict[int, list[tuple[Run, int]]] = {}
    others: dict[int, dict[int, float]] = {}
    for run in runs:
        envs = run.held_out
        if envs == (test_env,):
            for row, step in enumerate(run.steps):
                alone.setdefault(step, []).append((run, row))
        elif len(envs) == 2 and test_env in envs:
            (other,) = set(envs) - {test_env}
            values = run.column(f"env{other}_in_{metric.name}").tolist()
            for step, value in zip(run.steps, values, strict=True):
                others.setdefault(step, {})[other] = value
    found = []
    for step in sorted(alone.keys() & others.keys()):
        if len(alone[step]) != 1:
            continue
        (run, row), pairs = alone[step][0], others[step]
        wanted = [env for env in range(_count(run.columns, metric)) if env != test_env]
        if wanted and all(env in pairs for env in wanted):
            val = np.sum([pairs[env] for env in wanted]) / len(wanted)
            found.append(([val], [run.column(f"env{test_env}_in_{metric.name}")[row]], [step]))
    return _joined(found)


def _oracle(runs: Sequence[Run], test_env: int, tested: tuple[int, ...], metric: Metric) -> Candidates:
    last = _last_record(runs, tested)
    if last is None:
        return _joined([])
    run, row = last
    val, test = (run.column(f"env{test_env}_{split}_{metric.name}")[row : row + 1] for split in ("out", "in"))
    return Candidates(val, test, [run.steps[row]])


def _last(runs: Sequence[Run], test_env: int, tested: tuple[int, ...], metric: Metric) -> Candidates:
    last = _last_record(runs, tested)
    return _iid([] if last is None else [last[0].take([last[1]])], test_env, tested, metric)


def _auto_lr(runs: Sequence[Run], test_env: int, tested: tuple[int, ...], metric: Metric) -> Candidates:
    return _by_training_validation(runs, tested, metric, f"fd_env{test_env}_in_{metric.name}")


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


def _first_best(ranks: np.ndarray, upstream: bool) -> int | None:
    """Index of the largest, the first of equals; None if all are NaN.

    NaN is never the best; upstream's ``max()`` keeps a NaN that comes first, because comparisons with it are false.
    """
    if upstream and math.isnan(ranks[0]):
        return 0
    best = int(ranks.argmax())  # of a NaN, where there is one
    if not math.isnan(ranks[best]):
        return best
    usable = np.flatnonzero(~np.isnan(ranks))
    return int(usable[ranks[usable].argmax()]) if len(usable) else None


def _joined(parts: Sequence[tuple]) -> Candidates:
    """Parts of (val, test, steps) as one."""
    if len(parts) == 1:
        return Candidates(np.asarray(parts[0][0]), np.asarray(parts[0][1]), parts[0][2])
    empty = [np.empty(0)]
    val, test = (np.concatenate([part[i] for part in parts] or empty) for i in (0, 1))
    return Candidates(val, test, [step for part in parts for step in part[2]])


def _latest_of_each_step(runs: Sequence[Run]) -> Sequence[Run]:
    """``runs`` without the earlier of two records of one step; a step keeps the place it first had."""
    if len(runs) == 1 and len(set(runs[0].steps)) == len(runs[0].steps):
        return runs
    latest = {
        (run.held_out, step): (index, row)
        for index, run in enumerate(runs)
        for row, step in enumerate(run.steps)
    }
    if len(latest) == sum(map(len, runs)):
        return runs
    kept: list[tuple[int, list[int]]] = []
    for index, row in latest.values():
        if not kept or kept[-1][0] != index:
            kept.append((index, []))
        kept[-1][1].append(row)
    return [runs[index].take(rows) for index, rows in kept]


def _last_record(runs: Sequence[Run], tested: tuple[int, ...]) -> tuple[Run, int] | None:
    """The last of the records with the largest step: its run, and its row there."""
    last, largest = None, -math.inf
    for run in runs:
        if run.held_out == tested and max(run.steps) >= largest:
            largest = max(run.steps)
            last = run, len(run) - 1 - run.steps[::-1].index(largest)
    return last


def _training_validations(run: Run, tested: tuple[int, ...], metric: Metric) -> np.ndarray:
    """(n,) for every record the mean over the out-splits of the training environments: upstream's ``np.mean``."""
    columns = _training_columns(run.columns, tested, metric)
    if not columns:
        return np.full(len(run), np.nan)
    return np.ascontiguousarray(run.values[:, columns]).mean(axis=1)


@functools.lru_cache(maxsize=1024)
def _training_columns(columns: tuple[str, ...], tested: tuple[int, ...], metric: Metric) -> list[int]:
    keys = [f"env{env}_out_{metric.name}" for env in range(_count(columns, metric)) if env not in tested]
    return [columns.index(key) for key in keys]


@functools.lru_cache(maxsize=1024)
def _count(columns: tuple[str, ...], metric: Metric) -> int:
    return next(env for env in itertools.count() if f"env{env}_out_{metric.name}" not in columns)
