"""Successive halving (arXiv:1502.07943): of a random search, only what looks good by validation trains to the end.

A group has the jobs that differ in ``hparams_seed`` alone. They pause at rungs, records at about steps/η², steps/η …,
and after each rung the best 1/η of the group go on. What counts is what selection looks at, the mean over the
out-splits of the training environments: no test data. The defaults, ``hparams_seed`` 0, always go on: they are what a
paper's numbers and sweeps without a search are compared with.

A job that goes on has the records it would have had. One that does not has a marker in its folder, ``dropped.json``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import math
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from roga_domainbed.errors import Problems
from roga_domainbed.files import replacing
from roga_domainbed.launch import Job, Outcome
from roga_domainbed.launch.job import State
from roga_domainbed.launch.jobfile import STOPPED
from roga_domainbed.results.records import DROPPED, RECORDS, Record, is_done, is_dropped, read_records
from roga_domainbed.sweep.jobs import Launch, length_of, require_plan

#: The metrics that ``--halving_metric`` may be.
METRICS = ("acc", "auc")
MOST_ETA = 100
#: The hyper-parameters that are never dropped.
DEFAULTS = 0


@dataclass(frozen=True)
class Halving:
    """How a search is cut short.

    Attributes:
        eta: η; of every η jobs, one goes on.
        metric: what the jobs of a group are compared by, one of ``METRICS``.
    """

    eta: int
    metric: str = METRICS[0]

    def check(self, problems: Problems) -> None:
        """Add what is not allowed."""
        if not 2 <= self.eta <= MOST_ETA:
            problems.add(f"--halving must be at least 2 and at most {MOST_ETA}; got {self.eta}")
        if self.metric not in METRICS:
            problems.add(f"--halving_metric must be one of {', '.join(METRICS)}; got {self.metric!r}")

    def rungs(self, n_steps: int, every: int, n_jobs: int) -> list[int]:
        """The steps after which a group is judged, in ascending order: of records after step 0, before the last.

        There are no more than it takes to leave one of ``n_jobs``.

        Args:
            n_steps: of a job.
            every: steps between its records.
            n_jobs: of the group.
        """
        found = set()
        power = self.eta
        while power <= n_jobs:
            found.add(n_steps // power // every * every)
            power *= self.eta
        return sorted(step for step in found if 0 < step < n_steps - 1)

    def n_kept(self, n_jobs: int, rung: int) -> int:
        """How many of a group's jobs go on after its rung number ``rung``, which counts from 0."""
        return max(1, n_jobs // self.eta ** (rung + 1))


class Verdict(NamedTuple):
    """On a group, at a rung.

    Attributes:
        ranking: every ``hparams_seed`` that was judged, the best first.
        dropped: those that do not go on, in that order.
    """

    ranking: list[int]
    dropped: list[int]


def judge(ranks: Mapping[int, float], n_kept: int, beyond: Collection[int] = ()) -> Verdict:
    """Which jobs of a group go on.

    Args:
        ranks: ``hparams_seed`` → validation at the rung, larger is better; NaN is worse than any number. Of equals the
            largest seed comes first, as in selection.
        n_kept: how many go on; ``DEFAULTS`` does beside them.
        beyond: those that have gone on already, after an earlier judgement on fewer jobs: they stay.
    """

    def quality(seed: int) -> tuple[float, int]:
        return -math.inf if math.isnan(ranks[seed]) else ranks[seed], seed

    ranking = sorted(ranks, key=quality, reverse=True)
    kept = {*ranking[:n_kept], *beyond, DEFAULTS}
    return Verdict(ranking, [seed for seed in ranking if seed not in kept])


def launch_with_halving(
    jobs: Iterable[Job],
    every_job: Iterable[Job],
    launch: Launch,
    halving: Halving,
    default_length: Callable[[str], tuple[int, int]],
) -> Iterator[Outcome]:
    """Run ``jobs``, pausing and judging them at the rungs of their groups.

    Yields an outcome for every job: that of its last start; for a job that is dropped, success with a note. A group is
    judged when each of its jobs has come to the rung, has failed or was dropped before. Where another launch still runs
    some of them, or they were stopped, the others count as stopped: the next launch goes on with them.

    Args:
        jobs: to run now; none of them is dropped.
        every_job: of the sweep, done or not: what the jobs are compared with.
        launch: runs jobs, as ``Launcher`` does.
        halving: how.
        default_length: dataset → steps, and steps between records, of a job that is not told.

    Raises:
        RogaError: jobs are of a folder without a plan, so that their groups are not known.
    """
    waiting = {job.output_dir: job for job in jobs}
    groups = _groups([*every_job, *waiting.values()], halving, default_length)
    for rung in range(1 + max((len(group.rungs) for group in groups), default=0)):
        batch: dict[str, Job] = {}
        for group in groups:
            batch |= {job.output_dir: job for job in _to_start(group, rung, waiting)}
        with contextlib.closing(launch(list(batch.values())) if batch else _nothing()) as outcomes:
            for outcome in outcomes:
                folder = outcome.job.output_dir
                # The folder is there now, and the job's next start is no first one.
                job = waiting[folder] = dataclasses.replace(waiting[folder], retry=True)
                if outcome.exit_code == STOPPED and _is_paused(batch[folder]):
                    continue
                del waiting[folder]
                yield dataclasses.replace(outcome, job=job)
        for group in groups:
            if rung < len(group.rungs):
                yield from _judged(group, rung, waiting, halving)


def _nothing() -> Iterator[Outcome]:
    yield from ()


@dataclass(frozen=True)
class _Group:
    jobs: Sequence[Job]
    rungs: Sequence[int]


def _groups(
    jobs: Sequence[Job], halving: Halving, default_length: Callable[[str], tuple[int, int]]
) -> list[_Group]:
    require_plan(jobs, "--halving")
    found: dict[str, dict[str, Job]] = {}
    for job in jobs:
        alike = {
            name: value for name, value in job.train_args.items() if name not in ("hparams_seed", "seed")
        }
        found.setdefault(json.dumps(alike, sort_keys=True), {})[job.output_dir] = job
    groups = []
    for own in found.values():
        n_steps, every = length_of(next(iter(own.values())).train_args, default_length)
        groups.append(_Group(list(own.values()), halving.rungs(n_steps, every, len(own))))
    return groups


_UNTIL = "--until"


def _to_start(group: _Group, rung: int, waiting: Mapping[str, Job]) -> Iterator[Job]:
    """The group's jobs to start now: up to the rung, those that are not there yet; after the last one, to the end."""
    for folder in [job.output_dir for job in group.jobs if job.output_dir in waiting]:
        job = waiting[folder]
        if rung == len(group.rungs):
            yield job
        elif rung < len(group.rungs) and _last_step(folder) < group.rungs[rung]:
            yield dataclasses.replace(job, argv=(*job.argv, _UNTIL, str(group.rungs[rung])))


def _is_paused(job: Job) -> bool:
    """Whether a job that was started with ``--until`` has come there."""
    return job.argv[-2:-1] == (_UNTIL,) and _last_step(job.output_dir) >= int(job.argv[-1])


def _judged(group: _Group, rung: int, waiting: dict[str, Job], halving: Halving) -> Iterator[Outcome]:
    """Mark the jobs of a group that are dropped. Those that are dropped, or cannot go on now, leave ``waiting``."""
    step = group.rungs[rung]
    alive = {job.train_args["hparams_seed"]: job for job in group.jobs if not is_dropped(job.output_dir)}
    there = {seed: job for seed, job in alive.items() if _is_at(job, step)}
    absent = [job for seed, job in alive.items() if seed not in there and job.state is not State.FAILED]
    if absent:
        for job in group.jobs:
            if job.output_dir in waiting:
                note = f"waits for {len(absent)} others of its group, which are not at step {step} yet"
                yield Outcome(waiting.pop(job.output_dir), STOPPED, note)
        return
    values = {seed: validation_at(job, step, halving.metric) for seed, job in there.items()}
    beyond = [
        seed for seed, job in there.items() if _last_step(job.output_dir) > step or is_done(job.output_dir)
    ]
    n_kept = halving.n_kept(len(group.jobs), rung)
    verdict = judge(_ranks(values, halving.metric), n_kept, beyond)
    for seed in verdict.dropped:
        job, value = there[seed], values[seed]
        if job.state is State.RUNNING:  # another launch goes on with it
            continue
        found = {
            "eta": halving.eta,
            "rung": step,
            "metric": halving.metric,
            "value": None if math.isnan(value) else value,
            "rank": 1 + verdict.ranking.index(seed),
            "of": len(verdict.ranking),
        }
        with replacing(Path(job.output_dir, DROPPED)) as partial:
            partial.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        if waiting.pop(job.output_dir, None) is not None:
            yield Outcome(job, 0, f"dropped after step {step}, as number {found['rank']} of {found['of']}")


def validation_at(job: Job, step: int, metric: str) -> float:
    """The metric by which selection would choose among the job's records up to ``step``; NaN if there is none."""
    from roga_domainbed.metrics import get_metric  # numpy, which help texts do without
    from roga_domainbed.results.runs import as_runs
    from roga_domainbed.results.selection import RULES, choose

    records = [record for record in _records(job.output_dir) if record["step"] <= step]
    tested = tuple(sorted(set(job.train_args["test_envs"])))
    choice = choose(as_runs(records, metric), RULES.get("iid"), tested[0], get_metric(metric), tested=tested)
    return math.nan if choice is None else choice.val


def _ranks(values: Mapping[int, float], metric: str) -> dict[int, float]:
    from roga_domainbed.metrics import get_metric

    return {seed: get_metric(metric).rank(value) for seed, value in values.items()}


def _is_at(job: Job, step: int) -> bool:
    return is_done(job.output_dir) or _last_step(job.output_dir) >= step


def _last_step(folder: str) -> int:
    """Of the job's records; −1 if it has none."""
    try:
        found = os.stat(os.path.join(folder, RECORDS))
    except OSError:
        return -1
    return _last_step_of(folder, found.st_mtime_ns, found.st_size)


@functools.lru_cache(maxsize=2**17)
def _last_step_of(folder: str, changed: int, size: int) -> int:
    """``changed`` and ``size`` say whether the file is still the one that was read before."""
    return max((record["step"] for record in _records(folder)), default=-1)


def _records(folder: str) -> list[Record]:
    try:
        return read_records(os.path.join(folder, RECORDS)).records
    except OSError:
        return []
