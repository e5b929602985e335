"""``sweep estimate``: what a sweep will take, from two short runs of one job of every kind.

Jobs are of one kind if they have the dataset, the row and the number of held-out environments in common. The short runs
differ in how often they are evaluated, so the times between their records tell a step's from an evaluation's:
k steps and an evaluation in one, a step and an evaluation in the other. What happens before the first record, with the
first step, which warms up, and after the last one, with the model's file, is taken as it is.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

from roga_domainbed.catalog.hparams import parse_overrides
from roga_domainbed.launch import Job, Outcome
from roga_domainbed.launch.job import State
from roga_domainbed.launch.jobfile import describe_exit, read_job_file
from roga_domainbed.results.records import RECORDS, SCORES, read_records
from roga_domainbed.results.text_table import text_table
from roga_domainbed.sweep.jobs import Launch, length_of, require_plan, train_job
from roga_domainbed.sweep.status import Listed
from roga_domainbed.sweep.watch import spoken

#: Steps between the records of the longer run, which has four, and of the shorter one.
APART = 8
_N_RECORDS = 4
_N_CHECKPOINTS = 2  # that a run keeps while it trains
_POLL_S = 0.01
_HOUR = 3600.0
#: Hyper-parameters that short runs do without: few steps are too few for them, and they cost no time.
_LEFT_OUT = ("warmup_steps",)


class Kind(NamedTuple):
    """What jobs of one kind have in common."""

    dataset: str
    row: str
    n_held_out: int


class ShortRun(NamedTuple):
    """What was seen of a short run.

    Attributes:
        started: Unix time.
        records: Unix time of each record.
        scores: bytes of the file of scores at each record.
        ended: Unix time.
        kept: file → bytes, of what the finished run keeps.
        checkpoint: bytes of its largest one.
        device: that it trained on.
    """

    started: float
    records: Sequence[float]
    scores: Sequence[int]
    ended: float
    kept: Mapping[str, int]
    checkpoint: int = 0
    device: str = ""


@dataclass(frozen=True)
class Cost:
    """What a job costs.

    Attributes:
        start: seconds to the first record, with the first step and evaluation.
        step: seconds of each further step.
        evaluation: seconds of a further evaluation, with its record.
        last: seconds of the last one, which may be of more samples.
        end: seconds after the last record.
        record: bytes of a record with the scores that it adds.
        kept: bytes of all else; of the last record's scores, what they have more than those of others.
        checkpoints: bytes of the checkpoints while it trains.
        device: it was measured on.
    """

    start: float
    step: float
    evaluation: float
    last: float
    end: float
    record: float
    kept: float
    checkpoints: float
    device: str = ""

    def seconds(self, n_steps: int, n_records: int) -> float:
        """Of a job with at least two records."""
        further = (n_steps - 1) * self.step + max(0, n_records - 2) * self.evaluation
        return self.start + further + (self.last if n_records > 1 else 0.0) + self.end

    def bytes(self, n_records: int) -> float:
        """What a finished job keeps."""
        return self.kept + n_records * self.record


@dataclass(frozen=True)
class Estimate:
    """Of the jobs of one kind.

    Attributes:
        kind: which.
        n_jobs: all of them.
        n_left: those that are not done.
        n_steps: of a job.
        n_records: of a job.
        cost: of a job; None if a short run failed.
        failure: why it did.
    """

    kind: Kind
    n_jobs: int
    n_left: int
    n_steps: int
    n_records: int
    cost: Cost | None
    failure: str = ""

    @property
    def seconds(self) -> float:
        """Of a job; NaN if it is not known."""
        return math.nan if self.cost is None else self.cost.seconds(self.n_steps, self.n_records)

    @property
    def bytes(self) -> float:
        """That a finished job keeps; NaN if it is not known."""
        return math.nan if self.cost is None else self.cost.bytes(self.n_records)


def estimate(
    listed: Iterable[Listed], launch: Launch, default_length: Callable[[str], tuple[int, int]]
) -> list[Estimate]:
    """What the jobs of each kind take, in the order of the jobs. The short runs are made in a temporary folder.

    Args:
        listed: jobs and states.
        launch: runs jobs, as the sweep's would be run.
        default_length: dataset → steps, and steps between records, of a job that is not told.

    Raises:
        RogaError: jobs are of a folder without a plan, so that their arguments are not known.
    """
    listed = list(listed)
    require_plan([job for job, _ in listed], "An estimate")
    kinds: dict[Kind, list[Listed]] = {}
    for job, state in listed:
        args = job.train_args
        kind = Kind(args["dataset"], job.row, len(args["test_envs"]))
        kinds.setdefault(kind, []).append((job, state))
    with tempfile.TemporaryDirectory(prefix="roga_domainbed_estimate_") as folder:
        pairs = {kind: short_jobs(jobs[0][0].train_args, folder) for kind, jobs in kinds.items()}
        with (
            _Watching([job for pair in pairs.values() for job in pair]) as seen,
            contextlib.closing(launch(seen.jobs)) as ended,  # ended before its folder is removed
        ):
            outcomes = {outcome.job.id: outcome for outcome in ended}
        found = []
        for kind, jobs in kinds.items():
            args = jobs[0][0].train_args
            n_steps, every = length_of(args, default_length)
            cost, failure = _cost(pairs[kind], outcomes, seen)
            n_left = sum(state not in (State.DONE, State.DROPPED) for _, state in jobs)
            found.append(Estimate(kind, len(jobs), n_left, n_steps, n_records(n_steps, every), cost, failure))
    return found


def short_jobs(train_args: Mapping[str, Any], folder: str) -> tuple[Job, Job]:
    """The longer and the shorter run of a job, each with four records; only the shorter one writes a checkpoint."""
    args = dict(train_args)
    hparams = parse_overrides(args.get("hparams"))
    if any(name in hparams for name in _LEFT_OUT):
        args["hparams"] = json.dumps({name: hparams[name] for name in hparams if name not in _LEFT_OUT})
    last = _N_RECORDS - 1
    longer = {**args, "steps": APART * last + 1, "checkpoint_freq": APART, "checkpoint_every": 0}
    return train_job(longer, folder), train_job({**args, "steps": last + 1, "checkpoint_freq": 1}, folder)


def n_records(n_steps: int, every: int) -> int:
    """Of a run that makes one after step 0, every so many steps, and after the last."""
    return len({*range(0, n_steps, every), n_steps - 1})


def cost_of(longer: ShortRun, shorter: ShortRun) -> Cost:
    """What a job costs, from its short runs.

    Between two records are, but for the last, k steps and an evaluation in the longer run, and a step and an evaluation
    in the shorter one, whose first interval is left out: it has the checkpoint.
    """
    far, near = ([b - a for a, b in pairwise(run.records)] for run in (longer, shorter))
    several, one = mean(far[:-1]), mean(near[1:-1])
    step = max(0.0, ((several - one) + (far[-1] - near[-1])) / 2 / (APART - 1))
    line = mean(run.kept.get(RECORDS, 0) / _N_RECORDS for run in (longer, shorter))
    added = [b - a for a, b in pairwise(shorter.scores)]
    scores = mean(added[:-1])
    others = sum(size for name, size in shorter.kept.items() if name not in (SCORES, RECORDS))
    return Cost(
        start=mean(run.records[0] - run.started for run in (longer, shorter)),
        step=step,
        evaluation=max(0.0, one - step),
        last=max(0.0, near[-1] - step),
        end=mean(max(0.0, run.ended - run.records[-1]) for run in (longer, shorter)),
        record=line + scores,
        kept=others + added[-1] - scores,
        checkpoints=_N_CHECKPOINTS * shorter.checkpoint,
        device=longer.device,
    )


# --- the short runs ---------------------------------------------------------------------------------------


class _Watching:
    """Inside, a thread notes when each of the jobs makes a record, and how large its files are then."""

    def __init__(self, jobs: Sequence[Job]):
        self.jobs = jobs
        self._records: dict[str, list[tuple[float, int]]] = {job.id: [] for job in jobs}
        self._n_bytes = dict.fromkeys(self._records, 0)
        self._checkpoints = dict.fromkeys(self._records, 0)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> _Watching:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._thread.join()

    def run_of(self, job: Job) -> ShortRun | None:
        """What was seen of a job that is done; None if it is not, or a record was missed."""
        file, seen = read_job_file(job.output_dir), self._records[job.id]
        if file is None or file.seconds is None or len(seen) != _N_RECORDS:
            return None
        records = read_records(os.path.join(job.output_dir, RECORDS)).records
        device = records[0].get("provenance", {}).get("device", "") if records else ""
        with os.scandir(job.output_dir) as entries:
            kept = {entry.name: entry.stat().st_size for entry in entries}
        return ShortRun(
            started=file.started,
            records=[at for at, _ in seen],
            scores=[size for _, size in seen],
            ended=file.started + file.seconds,
            kept=kept,
            checkpoint=self._checkpoints[job.id],
            device=str(device),
        )

    def _watch(self) -> None:
        while not self._ended.wait(_POLL_S):
            for job in self.jobs:
                if len(self._records[job.id]) < _N_RECORDS:
                    with contextlib.suppress(OSError):
                        self._look(job)

    def _look(self, job: Job) -> None:
        """Note the records that were added since the last look; the file's own time is when the last was."""
        folder = Path(job.output_dir)
        with os.scandir(folder) as entries:
            sizes = [
                entry.stat().st_size
                for entry in entries
                if entry.name.startswith("checkpoint_") and entry.name.endswith(".pt")
            ]
        self._checkpoints[job.id] = max([self._checkpoints[job.id], *sizes])
        path = folder / RECORDS
        found = os.stat(path)
        if found.st_size == self._n_bytes[job.id]:
            return
        with open(path, "rb") as file:
            file.seek(self._n_bytes[job.id])
            added = file.read(found.st_size - self._n_bytes[job.id])
        self._n_bytes[job.id] = found.st_size
        size = os.stat(folder / SCORES).st_size
        self._records[job.id] += [(found.st_mtime, size)] * added.count(b"\n")


def _cost(pair: tuple[Job, Job], outcomes: Mapping[str, Outcome], seen: _Watching) -> tuple[Cost | None, str]:
    """What a job costs, or why that is not known."""
    for job in pair:
        outcome = outcomes[job.id]
        if outcome.exit_code != 0:
            return None, outcome.note or job.reason or describe_exit(outcome.exit_code)
    longer, shorter = map(seen.run_of, pair)
    if longer is None or shorter is None:
        return None, "its records came too fast, or on a machine that does not share its files, to be timed"
    return cost_of(longer, shorter), ""


# --- as text ----------------------------------------------------------------------------------------------


def estimate_text(found: Sequence[Estimate], n_workers: int) -> str:
    """A table with a line for each kind of job, then the totals, and how long it takes ``n_workers``."""
    rows = [["Dataset", "Row", "jobs", "a step", "an evaluation", "a job", "all jobs", "left", "disk"]]
    rows += [_row(one, _several_sizes(found)) for one in found]
    known = [one for one in found if one.cost is not None]
    lines = [text_table(rows, n_left=2)]
    lines += [f"{', '.join(_names(one, True))}: {one.failure}\n" for one in found if one.cost is None]
    if not known:
        return "".join(lines)
    total = sum(one.n_jobs * one.seconds for one in known)
    left = sum(one.n_left * one.seconds for one in known)
    wall = max([left / n_workers, *(one.seconds for one in known if one.n_left)]) if left else 0.0
    disk = sum(one.n_jobs * one.bytes for one in known)
    checkpoints = n_workers * max(one.cost.checkpoints for one in known)
    without = " without the rows that failed" * (len(known) < len(found))
    devices = " and ".join(dict.fromkeys(one.cost.device for one in known if one.cost.device))
    lines += [
        f"In all{without}: {total / _HOUR:.2f} hours of {devices or 'a device'}, {left / _HOUR:.2f} of them left. "
        f"With --n_workers {n_workers}: about {spoken(wall)}.\n",
        f"Disk: {_size(disk)} when all are done, and {_size(checkpoints)} of checkpoints until then.\n",
        "Measured in a few steps of one job of each kind, with its first hyper-parameter seed; a random search also "
        "draws other minibatch sizes.\n",
    ]
    return "".join(lines)


def _row(one: Estimate, several_sizes: bool) -> list[str]:
    cost = one.cost
    if cost is None:
        return [*_names(one, several_sizes), str(one.n_jobs), "X", "X", "X", "X", "X", "X"]
    return [
        *_names(one, several_sizes),
        str(one.n_jobs),
        f"{cost.step:.3g} s",
        f"{cost.evaluation:.3g} s",
        spoken(one.seconds),
        spoken(one.n_jobs * one.seconds),
        spoken(one.n_left * one.seconds),
        _size(one.n_jobs * one.bytes),
    ]


def _several_sizes(found: Sequence[Estimate]) -> bool:
    return len({one.kind.n_held_out for one in found}) > 1


def _names(one: Estimate, several_sizes: bool) -> tuple[str, str]:
    held_out = f", {one.kind.n_held_out} held out" * several_sizes
    return one.kind.dataset, f"{one.kind.row}{held_out}"


def _size(n_bytes: float) -> str:
    """``820 kB``, ``45 MB``, ``1.3 TB``: three digits at most, in powers of 1000."""
    for unit in ("kB", "MB", "GB"):
        n_bytes /= 1000
        if n_bytes < 999.5:
            return f"{n_bytes:.3g} {unit}"
    return f"{n_bytes / 1000:.3g} TB"
