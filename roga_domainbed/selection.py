"""Model selection: which step of which run a table may show, decided from records alone.

Letters: a *run* is the records of one (dataset, algorithm, trial, hparams_seed) that bear on one test
environment; a *rule* picks one step of a run; a *sweep value* is the test metric of the best run.

Ties, in every rule: within a run the first record wins (leave-one-domain-out: the smallest step); across runs
the largest ``hparams_seed``. These are upstream's. Where upstream is wrong we differ, unless ``compat`` is set:

- a validation metric that is NaN or null never wins (upstream: NaN in a run's first record wins it);
- a step recorded twice, as after a folder was run again, counts once, the later record (upstream: such steps
  are lost to leave-one-domain-out);
- a test metric that is NaN or null gives no value rather than NaN.
"""

from __future__ import annotations

import contextlib
import functools
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from roga_domainbed.records import Record
from roga_domainbed.registry import Registry

UPSTREAM = "upstream"

GroupKey = tuple[int, str, str, int]
_METRIC_KEY = re.compile(r"env(\d+)_(in|out)_(\w+)")
_LOWER_IS_BETTER = ("eer", "eer_nearest", "log_loss", "ece")
_VIDEO = re.compile(r"video_(max_|top_k_)?")
_COUNTS = ("n", "video_n")
_MANY = 1000  # more environments than any dataset has


@dataclass(frozen=True)
class Metric:
    """A column family of the records: ``env{i}_in_{name}`` and ``env{i}_out_{name}``."""

    name: str

    @functools.cached_property
    def lower_is_better(self) -> bool:
        """True for errors, of frames and of videos: ``eer``, ``video_ece``, ``video_max_log_loss``."""
        return _VIDEO.sub("", self.name, count=1) in _LOWER_IS_BETTER

    def rank(self, value: float) -> float:
        """``value`` on a scale where larger is better."""
        return -value if self.lower_is_better else value


ACCURACY = Metric("acc")


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
    records: tuple[Record, ...]


Pick = Callable[[Sequence[Record], int, "tuple[int, ...]", Metric], "list[Choice]"]


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


def held_out(record: Record) -> tuple[int, ...]:
    """The environments that were held out of this record's run, in ascending order."""
    envs = record["args"]["test_envs"]
    return (envs[0],) if len(envs) == 1 else tuple(sorted(set(envs)))


def group_by_test_env(records: Iterable[Record]) -> dict[GroupKey, list[Record]]:
    """(trial_seed, dataset, algorithm, test_env) → records, in order of first appearance.

    A record with several test environments joins the group of each.
    """
    groups: dict[GroupKey, list[Record]] = {}
    for record in records:
        args = record["args"]
        for env in args["test_envs"]:
            key = (args["trial_seed"], args["dataset"], args["algorithm"], env)
            groups.setdefault(key, []).append(record)
    return groups


def held_out_with(records: Iterable[Record], test_env: int) -> tuple[int, ...] | None:
    """The environments held out in the runs that count for ``test_env``; None if there are no such runs.

    ``(test_env,)`` wherever some run held out that environment alone: runs with two test environments are
    then the validation runs of leave-one-domain-out. Otherwise the one list that all runs share, as where a
    sweep trains on some datasets and tests on all others at once. Several different lists leave no answer.

    Args:
        records: all records of one dataset, of every algorithm and trial.
        test_env: index of the environment.
    """
    lists = {held_out(record) for record in records}
    lists = {envs for envs in lists if test_env in envs}
    if (test_env,) in lists:
        return (test_env,)
    return lists.pop() if len(lists) == 1 else None


def metrics_in(records: Iterable[Record]) -> list[str]:
    """The metrics these records can be selected by: those with both an in- and an out-split value."""
    found: dict[str, set[str]] = {}
    seen: set[str] = set()
    for record in records:
        for key in record.keys() - seen:
            if not (record[key] is None or _is_number(record[key])):
                continue
            seen.add(key)
            match = _METRIC_KEY.fullmatch(key)
            if match and match[3] not in _COUNTS:
                found.setdefault(match[3], set()).add(match[2])
    return sorted(name for name, splits in found.items() if splits == {"in", "out"})


def environments_in(records: Iterable[Record]) -> int:
    """How many environments these records speak of: one more than the largest index in their keys."""
    keys = set().union(*records)
    return max((int(match[1]) for key in keys if (match := _METRIC_KEY.fullmatch(key))), default=-1) + 1


def rank_runs(
    records: Iterable[Record],
    rule: Rule,
    test_env: int,
    metric: Metric = ACCURACY,
    *,
    tested: tuple[int, ...] | None = None,
    compat: str | None = None,
) -> list[RankedRun]:
    """The runs of one group, best first; runs the rule cannot judge are left out.

    Args:
        records: one group of ``group_by_test_env``.
        rule: an entry of ``RULES``.
        test_env: the environment whose metric is wanted.
        metric: what to select by and to show.
        tested: the environments held out together, from ``held_out_with``; ``(test_env,)`` by default.
        compat: None or ``"upstream"``.
    """
    runs: dict[int, list[Record]] = {}
    for record in records:
        runs.setdefault(record["args"]["hparams_seed"], []).append(record)
    ranked = []
    for seed in sorted(runs):
        choice = choose(runs[seed], rule, test_env, metric, tested=tested, compat=compat)
        if choice is not None:
            ranked.append(RankedRun(seed, choice, tuple(runs[seed])))

    def best_last(run: RankedRun) -> float:
        value = metric.rank(run.choice.val)
        return -math.inf if math.isnan(value) else value

    return sorted(ranked, key=best_last)[::-1]


def choose(
    run: Sequence[Record],
    rule: Rule,
    test_env: int,
    metric: Metric = ACCURACY,
    *,
    tested: tuple[int, ...] | None = None,
    compat: str | None = None,
) -> Choice | None:
    """What ``rule`` picks from the records of one run, or None. Arguments as in ``rank_runs``."""
    upstream = compat == UPSTREAM
    if not upstream:
        run = _latest_of_each_step(run)
    candidates = rule.candidates(run, test_env, tested or (test_env,), metric)
    if not upstream:
        candidates = [candidate for candidate in candidates if not math.isnan(candidate.val)]
    # max() keeps the first of equals and, because comparisons with NaN are false, a NaN that comes first:
    # that is upstream's behaviour to the letter.
    return max(candidates, key=lambda candidate: metric.rank(candidate.val), default=None)


def sweep_value(
    records: Iterable[Record],
    rule: Rule,
    test_env: int,
    metric: Metric = ACCURACY,
    *,
    tested: tuple[int, ...] | None = None,
    compat: str | None = None,
) -> float | None:
    """The test metric of the best run of one group, or None. Arguments as in ``rank_runs``."""
    ranked = rank_runs(records, rule, test_env, metric, tested=tested, compat=compat)
    if not ranked:
        return None
    value = ranked[0].choice.test
    return None if math.isnan(value) and compat != UPSTREAM else value


def _iid(run: Sequence[Record], test_env: int, tested: tuple[int, ...], metric: Metric) -> list[Choice]:
    key = f"env{test_env}_in_{metric.name}"
    return _by_training_validation(run, tested, metric, key)


def _by_training_validation(
    run: Sequence[Record], tested: tuple[int, ...], metric: Metric, test_key: str
) -> list[Choice]:
    run = [record for record in run if held_out(record) == tested]
    values = _training_validations(run, tested, metric)
    return [
        Choice(value, _number(record, test_key), record["step"])
        for value, record in zip(values, run, strict=True)
    ]


def _loo(run: Sequence[Record], test_env: int, tested: tuple[int, ...], metric: Metric) -> list[Choice]:
    if all(len(record["args"]["test_envs"]) == 1 for record in run):
        return []
    steps: dict[int, list[Record]] = {}
    for record in run:
        steps.setdefault(record["step"], []).append(record)
    choices = []
    for step in sorted(steps):
        alone = [record for record in steps[step] if held_out(record) == (test_env,)]
        if len(alone) != 1:
            continue
        others = {}
        for record in steps[step]:
            pair = held_out(record)
            if len(pair) == 2 and test_env in pair:
                other = pair[0] if pair[1] == test_env else pair[1]
                others[other] = _number(record, f"env{other}_in_{metric.name}")
        wanted = [env for env in range(_n_environments(alone[0], metric)) if env != test_env]
        if wanted and all(env in others for env in wanted):
            val = float(np.sum([others[env] for env in wanted]) / len(wanted))
            choices.append(Choice(val, _test(alone[0], test_env, metric), step))
    return choices


def _oracle(run: Sequence[Record], test_env: int, tested: tuple[int, ...], metric: Metric) -> list[Choice]:
    last = _last_record(run, tested)
    if last is None:
        return []
    val = _number(last, f"env{test_env}_out_{metric.name}")
    return [Choice(val, _test(last, test_env, metric), last["step"])]


def _last(run: Sequence[Record], test_env: int, tested: tuple[int, ...], metric: Metric) -> list[Choice]:
    last = _last_record(run, tested)
    return [] if last is None else _iid([last], test_env, tested, metric)


def _auto_lr(run: Sequence[Record], test_env: int, tested: tuple[int, ...], metric: Metric) -> list[Choice]:
    return _by_training_validation(run, tested, metric, f"fd_env{test_env}_in_{metric.name}")


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


def merge_auto_lr_stages(records: Iterable[Record]) -> list[Record]:
    """One record for each run of DomainBed's ``train_autolr``: the last value of every key of both stages."""
    merged: dict[str, Record] = {}
    for record in records:
        args = {key: value for key, value in record["args"].items() if key != "holdout_fraction"}
        merged.setdefault(repr(sorted(args.items())), {}).update(record)
    return list(merged.values())


def _latest_of_each_step(run: Sequence[Record]) -> Sequence[Record]:
    if len({record["step"] for record in run}) == len(run):
        return run
    latest = {(held_out(record), record["step"]): record for record in run}
    return list(latest.values())


def _last_record(run: Sequence[Record], tested: tuple[int, ...]) -> Record | None:
    last = None
    for record in run:
        if held_out(record) == tested and (last is None or record["step"] >= last["step"]):
            last = record
    return last


def _training_validations(run: Sequence[Record], tested: tuple[int, ...], metric: Metric) -> list[float]:
    """For every record the mean over the out-splits of the training environments.

    All records at once, where they have the same environments and no gap: calls of numpy would be most of the
    time that the tables of a full sweep take. The bits are those of upstream's ``np.mean`` of each record.
    """
    if not run:
        return []
    count = _n_environments(run[0], metric)
    keys = _out_keys(metric, count + 1)
    training = [env for env in range(count) if env not in tested]
    if training and not any(keys[count] in record for record in run):
        with contextlib.suppress(KeyError):
            rows = np.array([[record[key] for key in keys[:count]] for record in run])
            if rows.dtype == np.float64:
                return np.ascontiguousarray(rows[:, training]).mean(axis=1).tolist()
    return [_training_validation(record, tested, metric) for record in run]


def _training_validation(record: Record, tested: tuple[int, ...], metric: Metric) -> float:
    values = [
        _number(record, f"env{env}_out_{metric.name}")
        for env in range(_n_environments(record, metric))
        if env not in tested
    ]
    return float(np.mean(values)) if values else math.nan


@functools.lru_cache(maxsize=256)
def _out_keys(metric: Metric, count: int) -> tuple[str, ...]:
    return tuple(f"env{env}_out_{metric.name}" for env in range(count))


def _test(record: Record, test_env: int, metric: Metric) -> float:
    return _number(record, f"env{test_env}_in_{metric.name}")


def _n_environments(record: Record, metric: Metric) -> int:
    return next((count for count, key in enumerate(_out_keys(metric, _MANY)) if key not in record), _MANY)


def _number(record: Record, key: str) -> float:
    value = record.get(key)
    return value if type(value) is float else float(value) if _is_number(value) else math.nan


def _is_number(value: object) -> bool:
    return type(value) is float or (isinstance(value, (int, float)) and not isinstance(value, bool))
