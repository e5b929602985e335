"""What a place in a queue does: it runs some jobs of a sweep in turn, in a warm worker for each GPU that it has.

    python -m roga_domainbed.launch.task FILE INDEX

Launchers write FILE into the sweep's folder. SIGTERM, SIGUSR1 and SIGUSR2 stop the job that runs, with a checkpoint.
Under Slurm the place is then put back into the queue, unless its end was asked for, and goes on from there. The exit
status is that of ``train``: 75 if it was told to stop.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from roga_domainbed.errors import Failed, RogaError
from roga_domainbed.files import replacing
from roga_domainbed.foreign import Malformed, read_json
from roga_domainbed.launch import Job, Options, Outcome, cancellation, slurm_commands
from roga_domainbed.launch.gpus import visible_gpus
from roga_domainbed.launch.job import State, failure_line
from roga_domainbed.launch.jobfile import STOPPED, read_job_file
from roga_domainbed.launch.lease import succeeds
from roga_domainbed.launch.local import run_in_pool
from roga_domainbed.processes import Told, told_by_signals

#: Where launchers keep what is about the queue; below the sweep's folder, with no records in it.
FOLDER = "queue"

_LARGEST = 2**30  # bytes of a file of tasks


def tasks_of(jobs: Sequence[Job], options: Options) -> list[list[Job]]:
    """``jobs`` in order, ``options.jobs_per_task`` to a task."""
    n = options.jobs_per_task
    return [list(jobs[start : start + n]) for start in range(0, len(jobs), n)]


def write_tasks(tasks: Sequence[Sequence[Job]], options: Options) -> Path:
    """Write the file that ``run_task`` reads, into the sweep's folder; its path.

    Raises:
        OSError: it cannot be written.
    """
    path = Path(options.folder, FOLDER, f"tasks-{uuid.uuid4().hex[:12]}.json").absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "entry": options.entry,
        "preload": list(options.preload),
        "jobs_per_gpu": options.jobs_per_gpu,
        "cwd": os.getcwd(),
        "cancelled": cancellation.stamp(options.folder),
        "tasks": [[_fields(job) for job in task] for task in tasks],
    }
    # A task may start on another machine before this one's buffers are written.
    with replacing(path, durable=True) as partial:
        partial.write_text(json.dumps(content), encoding="utf-8")
    return path


def _fields(job: Job) -> dict:
    return {
        "argv": job.argv,
        "output_dir": job.output_dir,
        "text": job.text,
        "retry": job.retry,
        "attempts": job.attempts,
    }


def run_task(
    file: str | os.PathLike, index: int, owner: str = "", environment: Mapping[str, str] | None = None
) -> int:
    """Run the jobs of task ``index`` in turn, but not those that are done or that another launch has.

    An exception, also one of a signal's handler, stops the job that runs, with a checkpoint.

    Args:
        file: what ``write_tasks`` wrote.
        index: of the task in it.
        owner: the place in the queue, see ``Options``.
        environment: variables of the jobs.

    Returns:
        0, or 1 if a job failed, or ``STOPPED`` if a job was told to stop or the sweep was cancelled.

    Raises:
        RogaError: the file cannot be read, or this machine does not have the folder of the launch.
    """
    folder = Path(file).parents[1]
    try:
        content = read_json(file, dict, at_most=_LARGEST)
        entry, preload, at_a_time = content["entry"], tuple(content["preload"]), content["jobs_per_gpu"]
        os.chdir(content["cwd"])  # relative paths in arguments are relative to it
        jobs = [job for fields in content["tasks"][index] if (job := _job_to_run(**fields)) is not None]
        cancelled = cancellation.stamp(folder) != content["cancelled"]
    except (Malformed, KeyError, IndexError, TypeError) as error:
        raise RogaError(f"{os.fspath(file)!r} has no task {index}: {error}") from None
    except OSError as error:
        raise Failed(
            f"{error.filename!r}: {error.strerror}. The folder where a sweep was launched, and its own, must be on "
            "every machine that works on it"
        ) from None
    if not jobs or cancelled:
        return STOPPED if jobs else 0
    if owner:
        owner = f"{owner}#{_run_number(file, index)}"
    options = Options(entry=entry, preload=preload, folder=str(folder), owner=owner)
    environments = [{**each, **(environment or {})} for each in _environments(at_a_time, len(jobs))]
    codes = []
    with contextlib.closing(run_in_pool(jobs, options, environments)) as outcomes:
        for outcome in outcomes:
            print(_line(outcome), flush=True)
            if outcome.skipped and owner and _is_taken_over(outcome.job, owner):
                return STOPPED  # the queue has started this place again, and that run has the rest, too
            codes.append(1 if outcome.failed else STOPPED if outcome.stopped else 0)
    return STOPPED if STOPPED in codes else max(codes)


def _job_to_run(*, argv, output_dir, text, retry, attempts) -> Job | None:
    """A job of the file; None if there is nothing to do about it."""
    job = Job(tuple(argv), output_dir, text, retry=True)
    state = job.state
    # An earlier turn of this task, or another launch, has seen it fail after it was submitted.
    has_failed = state is State.FAILED and job.attempts > attempts
    # A folder of upstream's may be at work unseen.
    may_resume = retry or state is State.NOT_LAUNCHED or job.is_ours or job.is_empty
    has_ended = has_failed or state in (State.DONE, State.DROPPED)
    return job if may_resume and not has_ended else None


def _run_number(file: str | os.PathLike, index: int) -> int:
    """The number of this run of the task, larger than those of earlier runs, which may still be there unseen."""
    folder = Path(file).with_suffix("")
    folder.mkdir(exist_ok=True)
    earlier = [int(path.name.rpartition("-")[2]) for path in folder.glob(f"run-{index}-*")]
    for number in itertools.count(max(earlier, default=0) + 1):
        with contextlib.suppress(FileExistsError):
            (folder / f"run-{index}-{number}").touch(exist_ok=False)
            return number


def _is_taken_over(job: Job, owner: str) -> bool:
    """Whether a later run of the place ``owner`` has the job."""
    file = read_job_file(job.output_dir)
    return file is not None and file.owner != owner and succeeds(file.owner, owner)


def _environments(jobs_per_gpu: int, n_jobs: int) -> list[dict[str, str]]:
    """A worker for each GPU that this place has, ``jobs_per_gpu`` times; one where it has none."""
    # A queue that gives GPUs says which. Where it says nothing, those of the machine are others'.
    gpus = visible_gpus() if "CUDA_VISIBLE_DEVICES" in os.environ else []
    n_workers = min(max(1, len(gpus) * jobs_per_gpu), n_jobs)
    threads = slurm_commands.threads(n_workers)
    return [
        {**threads, **({"CUDA_VISIBLE_DEVICES": gpus[index % len(gpus)]} if gpus else {})}
        for index in range(n_workers)
    ]


def _line(outcome: Outcome) -> str:
    job = outcome.job
    if outcome.skipped:
        return f"{job.output_dir}: left to another launch of the sweep"
    if outcome.failed:
        return failure_line(job, outcome.exit_code, outcome.note)
    return f"{job.output_dir}: {'stopped' if outcome.stopped else 'done'}"


def outcome_of(job: Job, note: str, was_cancelled: bool = False) -> Outcome:
    """How a job ended that was run elsewhere, as its folder shows it.

    Args:
        job: the job.
        note: why it is not done, where its folder does not say.
        was_cancelled: whether the sweep has been cancelled since its launch.
    """
    state, code = job.state, job.exit_code
    if state is State.DONE:
        return Outcome(job, 0)
    if state is State.RUNNING:
        return Outcome(job, None, "another launch of this sweep has it", skipped=True)
    if state is State.DROPPED:
        return Outcome(job, None, "successive halving dropped it", skipped=True)
    if was_cancelled and code is None:
        return Outcome(job, STOPPED)  # it waited
    # Without an exit status, or with one of an attempt that was killed, the job goes on with the next launch.
    return Outcome(job, code, "" if code else note)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one task; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m roga_domainbed.launch.task")
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("index", metavar="INDEX", type=int)
    args = parser.parse_args(argv)
    with told_by_signals():
        # In here to the end: a second signal must not end this process while it puts its place back.
        try:
            return run_task(args.file, args.index, slurm_commands.owner())
        except Told as told:
            print(f"Told to stop by {told}.", flush=True)
            slurm_commands.requeue()
            return STOPPED
        except RogaError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1


if __name__ == "__main__":
    sys.exit(main())
