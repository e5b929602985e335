"""``sweep launch`` and ``sweep retry``: the jobs that are to run go to a launcher, and what became of them is said."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import sys
from collections.abc import Iterator, Sequence

from roga_domainbed.catalog.registry import load
from roga_domainbed.cli.lasting import lasting_output
from roga_domainbed.cli.sweep.asking import confirmed
from roga_domainbed.cli.sweep.places import option_fields
from roga_domainbed.cli.sweep.which import are_given
from roga_domainbed.errors import Problems, RogaError
from roga_domainbed.launch import LAUNCHERS, Job, LauncherInfo, Options, Outcome
from roga_domainbed.launch.gpus import visible_gpus
from roga_domainbed.launch.job import State, failure_line
from roga_domainbed.launch.jobfile import STOPPED
from roga_domainbed.launch.local import environments_for
from roga_domainbed.launch.slurm import sbatch_script
from roga_domainbed.processes import QUEUE_SIGNALS, Told, told_by_signals
from roga_domainbed.results.records import is_dropped
from roga_domainbed.sweep.estimate import estimate, estimate_text
from roga_domainbed.sweep.folder import PLAN_FILE, store_plan
from roga_domainbed.sweep.halving import Halving, launch_with_halving
from roga_domainbed.sweep.jobs import Launch
from roga_domainbed.sweep.plan import Plan
from roga_domainbed.sweep.status import job_states

#: What a training imports, so that jobs start warm. A module that cannot be imported is skipped.
PRELOAD = ("torch", "torchvision", "timm", "roga_domainbed.cli.train", "roga_domainbed.trainer.warm")

#: What ends the jobs too, as Ctrl-C does: a queue's signals and a closed terminal.
_SIGNALS = (*QUEUE_SIGNALS, "SIGHUP")


def launch(args: argparse.Namespace, plans: list[Plan], listed: list[tuple[Job, State]]) -> int:
    """Run the jobs that have no folder yet, and those that were interrupted; ``retry`` runs what failed instead."""
    was_planned = os.path.exists(os.path.join(args.output_dir, PLAN_FILE))
    retry = args.retry or args.command == "retry"
    again = [
        dataclasses.replace(job, retry=True)
        for job, state in listed
        if _is_relaunched(job, state, retry, was_planned)
    ]
    new = [job for job, state in listed if state is State.NOT_LAUNCHED and args.command == "launch"]
    left = sum(state in (State.FAILED, State.INTERRUPTED) for _, state in listed) - len(again)
    jobs = again + new
    launcher = LAUNCHERS.get(args.command_launcher)
    if args.print_sbatch:
        if jobs:
            _store_plans(args, plans, was_planned)
            print(sbatch_script(_tracked(jobs, args), _options(args)), end="")
        else:
            print("no job is left to run", file=sys.stderr)
        return 0
    if again:
        print(f"{len(again)} jobs resume from their last checkpoint.")
    if left:
        print(f"{left} jobs failed or were interrupted and stay as they are; --retry starts them again.")
    if not confirmed(args, args.command, jobs):
        return 0
    ended = _Ended()
    if jobs:
        if launcher.runs:
            _store_plans(args, plans, was_planned)
        print("Launching...")
        print("Making job directories:", flush=True)
        try:
            with told_by_signals(_SIGNALS), lasting_output():
                _run(launcher, jobs, args, [job for job, _ in listed], ended)
        except Told as told:
            return _told_to_stop(told, "; the same command resumes the jobs")
    undone = _undone(listed, args.output_dir) if launcher.runs and not ended.submitted else []
    for outcome in ended.failures:
        print(failure_line(outcome.job, outcome.exit_code, outcome.note), file=sys.stderr)
    if ended.failures or len(undone) > ended.stopped:
        return 1
    return STOPPED if ended.stopped else 0


def _told_to_stop(told: Told, and_now: str = "") -> int:
    print(f"roga-domainbed sweep: told to stop by {told}{and_now}", file=sys.stderr)
    return STOPPED


def _store_plans(args: argparse.Namespace, plans: Sequence[Plan], was_planned: bool) -> None:
    if not was_planned or are_given(args):
        for plan in plans:
            store_plan(args.output_dir, plan)


def _options(args: argparse.Namespace) -> Options:
    fields = option_fields(args, Problems())  # checked before
    return Options(
        args.n_workers,
        preload=PRELOAD,
        folder=args.output_dir,
        jobs_per_gpu=args.jobs_per_gpu or 1,
        **fields,
    )


@dataclasses.dataclass
class _Ended:
    """How the jobs of a launch ended."""

    failures: list[Outcome] = dataclasses.field(default_factory=list)
    skipped: int = 0
    stopped: int = 0
    at_a_rung: int = 0
    dropped: int = 0
    submitted: int = 0

    def add(self, outcome: Outcome) -> None:
        self.skipped += outcome.skipped
        self.stopped += outcome.stopped
        self.at_a_rung += bool(outcome.stopped and outcome.note)
        self.dropped += is_dropped(outcome.job.output_dir)
        self.submitted += outcome.submitted
        if outcome.failed:
            self.failures.append(outcome)

    def lines(self, n_jobs: int) -> Iterator[str]:
        """What to say of it."""
        yield f"Launched {n_jobs - self.skipped} jobs!"
        for number, what in (
            (self.skipped, "were left to another launch of this sweep"),
            (self.dropped, "were dropped by successive halving"),
            (self.at_a_rung, "wait at a rung for others of their group; the same command goes on with them"),
            (self.stopped - self.at_a_rung, "were told to stop; the same command resumes them"),
            (self.submitted, "are in the queue; 'sweep status' and 'sweep watch' show what becomes of them"),
        ):
            if number:
                yield f"{number} jobs {what}."


def _run(
    launcher: LauncherInfo,
    jobs: Sequence[Job],
    args: argparse.Namespace,
    every_job: Sequence[Job],
    ended: _Ended,
) -> None:
    launch = _launch_of(launcher, args)
    if args.halving and launcher.runs:
        halving = Halving(args.halving, args.halving_metric)
        outcomes = launch_with_halving(jobs, every_job, launch, halving, _default_length)
    else:
        outcomes = launch(jobs)
    with contextlib.closing(outcomes), _progress(launcher, len(jobs)) as bar:
        for outcome in outcomes:
            ended.add(outcome)
            if bar is not None:
                bar.set_postfix(failed=len(ended.failures), refresh=False)
                bar.update()
    for line in ended.lines(len(jobs)):
        print(line)


def _launch_of(launcher: LauncherInfo, args: argparse.Namespace) -> Launch:
    options = _options(args)
    return lambda jobs: load(launcher.target)(_tracked(jobs, args), options)


def _tracked(jobs: Sequence[Job], args: argparse.Namespace) -> list[Job]:
    # After the folders have their names: a tracker changes no result.
    words = ("--track", *args.track) if args.track else ()
    return [dataclasses.replace(job, argv=(*job.argv, *words)) for job in jobs]


def _default_length(dataset: str) -> tuple[int, int]:
    from roga_domainbed.trainer.length import default_length  # torch: only for jobs that are not told

    return default_length(dataset)


def estimated(args: argparse.Namespace, listed: Sequence[tuple[Job, State]]) -> int:
    """``sweep estimate``: run a few steps of a job of each kind as the sweep's would be run, and say what all take."""
    launcher = LAUNCHERS.get(args.command_launcher)
    if not launcher.runs:
        raise RogaError(
            f"estimate runs a few steps of jobs, which --command_launcher {launcher.name} does not"
        )
    try:
        with told_by_signals(_SIGNALS), lasting_output():
            found = estimate(listed, _launch_of(launcher, args), _default_length)
    except Told as told:
        return _told_to_stop(told)
    n_at_a_time = args.n_workers or len(environments_for(visible_gpus(), _options(args), len(listed)))
    print(estimate_text(found, n_at_a_time), end="")
    return int(any(one.cost is None for one in found))


#: What an unfinished job waits for.
_REMEDIES = {
    State.RUNNING: "running now, started by another command",
    State.FAILED: "failed; 'sweep retry' starts them again",
    State.INTERRUPTED: "interrupted; the same command resumes those of ours, 'sweep retry' all",
    State.NOT_LAUNCHED: "not launched",
}


def _undone(listed: Sequence[tuple[Job, State]], folder: str) -> list[State]:
    """The states of the jobs that are not done, and are in no queue, after a sentence about them."""
    now = job_states((job for job, _ in listed), folder)
    states = [state for _, state in now if state not in (State.DONE, State.DROPPED, State.WAITING)]
    if states:
        counted = "; ".join(
            f"{states.count(state)} {what}" for state, what in _REMEDIES.items() if state in states
        )
        print(f"{len(states)} of {len(listed)} jobs are not done: {counted}.", file=sys.stderr)
    return states


def _is_relaunched(job: Job, state: State, retry: bool, was_planned: bool) -> bool:
    if state is State.FAILED:
        return retry
    # DomainBed makes empty folders for jobs that it will run; a launch of ours that was killed may leave one.
    ours = job.is_ours or (was_planned and job.is_empty)
    return state is State.INTERRUPTED and (retry or ours)


@contextlib.contextmanager
def _progress(launcher: LauncherInfo, n_jobs: int) -> Iterator:
    if not launcher.runs:
        yield None
        return
    from tqdm import tqdm  # only launching needs it

    with tqdm(total=n_jobs, unit="job", file=sys.stderr, smoothing=0) as bar:
        yield bar
