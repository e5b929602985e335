"""Jobs as arrays of a Slurm cluster: through submitit, or as a script for ``sbatch``.

A place of the array runs some jobs in turn. Slurm tells it before its time is over, or when it must make room: the job
then writes a checkpoint, the place goes back into the queue under the same number, and continues from there.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from roga_domainbed.errors import Failed, MissingExtra, Problems, RogaError
from roga_domainbed.launch import Job, Options, Outcome, cancellation, slurm_commands
from roga_domainbed.launch.job import State
from roga_domainbed.launch.jobfile import STOPPED
from roga_domainbed.launch.submissions import Submission, keep, waiting
from roga_domainbed.launch.task import FOLDER, outcome_of, run_task, tasks_of, write_tasks
from roga_domainbed.processes import QUEUE_SIGNALS, Told, told_by_signals

_NOTICE_S = 120  # from the signal to the end: a checkpoint has to fit in
_TIME_OUTS = 1000  # after which a place is given up; none is lost work, as each leaves a checkpoint
_ARRAY = 1001  # MaxArraySize where Slurm's configuration does not say

# For the shell that starts Python, which inherits it until it sets handlers of its own. Without this, a place that is
# preempted while Python starts would end by itself, and Slurm would not put it back.
_IGNORE_SIGNALS = f"trap '' {' '.join(name.removeprefix('SIG') for name in QUEUE_SIGNALS)}"

_TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<first>\d+)(?::(?P<second>\d+))?(?::(?P<third>\d+))?")
_MEMORY = re.compile(r"\d+[KMGT]?", re.IGNORECASE)
_GPUS = re.compile(r"(\w[\w.-]*:)?\d+")
_OPTION = re.compile(r"[a-z][a-z0-9_-]+")
#: What the launcher decides.
_TAKEN = (
    "array",
    "output",
    "error",
    "open-mode",
    "requeue",
    "no-requeue",
    "signal",
    "time",
    "wrap",
    "parsable",
)


def slurm_options(
    problems: Problems,
    *,
    time_limit: str | None = None,
    partition: str | None = None,
    account: str | None = None,
    cpus: int | None = None,
    gpus: str | None = None,
    memory: str | None = None,
    additional: Iterable[str] = (),
) -> dict[str, str | int | bool]:
    """The options of ``sbatch`` for ``Options.slurm``; what is wrong with them goes to ``problems``.

    Args:
        problems: gets a sentence for every fault.
        time_limit: of a place, as Slurm writes times: minutes, ``hours:minutes:seconds``, ``days-hours``.
        partition: where to run.
        account: who pays.
        cpus: processors of a place.
        gpus: GPUs of a place: a number, or ``kind:number``.
        memory: of a place: a number of megabytes, or with K, M, G or T.
        additional: more options of ``sbatch``: ``KEY=VALUE``, or ``KEY`` for a flag.
    """
    options: dict[str, str | int | bool] = {}
    minutes = None if time_limit is None else _minutes(time_limit)
    if time_limit is None:
        problems.add("give --time_limit, such as 4:00:00; a job that takes longer goes on in another turn")
    elif not minutes:
        problems.add(
            f"--time_limit {time_limit!r} is no time of Slurm's: minutes, MINUTES:SECONDS, HOURS:MINUTES:SECONDS, "
            "DAYS-HOURS, DAYS-HOURS:MINUTES or DAYS-HOURS:MINUTES:SECONDS"
        )
    else:
        options["time"] = minutes
    if memory is not None and not _MEMORY.fullmatch(memory):
        problems.add(f"--memory {memory!r}: give a number of megabytes, or with a unit, such as 16G")
    if gpus is not None and not _GPUS.fullmatch(gpus):
        problems.add(f"--gpus {gpus!r}: give a number, or a kind and a number, such as a100:1")
    given = {
        "partition": partition,
        "account": account,
        "cpus-per-task": cpus,
        "gpus-per-node": gpus,
        "mem": memory,
    }
    options |= {key: value for key, value in given.items() if value is not None}
    for text in additional:
        key, is_pair, value = text.removeprefix("--").partition("=")
        key = key.replace("_", "-")
        if not _OPTION.fullmatch(key):
            problems.add(
                f"--slurm_additional {text!r}: give KEY=VALUE, or KEY for a flag, such as constraint=a100"
            )
        elif key in _TAKEN:
            problems.add(f"--slurm_additional {text!r}: the launcher gives {key} itself")
        elif key in options:
            problems.add(f"--slurm_additional {text!r}: {key} is given by another option too")
        else:
            options[key] = value if is_pair else True
    return options


def _minutes(text: str) -> int | None:
    """A time of Slurm's, rounded up to minutes; None if it is none."""
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    first, second, third = (int(match[name] or 0) for name in ("first", "second", "third"))
    if match["days"] is not None:
        hours, minutes, seconds = int(match["days"]) * 24 + first, second, third
    elif match["third"] is not None:
        hours, minutes, seconds = first, second, third
    else:
        hours, minutes, seconds = 0, first, second
    return -(-(hours * 3600 + minutes * 60 + seconds) // 60)


def launch_slurm(jobs: Sequence[Job], options: Options) -> Iterator[Outcome]:
    """Submit ``jobs`` as arrays, ``options.jobs_per_task`` to a place. Those that wait in the queue already stay there.

    With ``options.wait``, outcomes come as the jobs end; ending the wait leaves them in the queue.

    Raises:
        MissingExtra: submitit is not installed.
        RogaError: there is no Slurm here, or it does not take the jobs; the message is its own.
    """
    _require_slurm()
    seen = cancellation.stamp(options.folder)
    names = waiting(options.folder)
    for job in jobs:
        if job.id in names:
            yield Outcome(job, None, "it waits in the queue", skipped=True)
    tasks = tasks_of([job for job in jobs if job.id not in names], options)
    cluster, most = _cluster()
    submitted = []
    for start in range(0, len(tasks), most):
        part = tasks[start : start + most]
        try:
            submitted.append((part, _submit(part, options, cluster)))
        except RogaError as error:
            if not submitted:
                raise
            raise Failed(f"{start} of {len(tasks)} tasks were submitted, then: {error}") from None
        if not options.wait:
            for job in (job for task in part for job in task):
                yield Outcome(job, None, submitted=True)
    if options.wait:
        yield from _outcomes(submitted, lambda: cancellation.stamp(options.folder) != seen)


def _require_slurm() -> None:
    try:
        import submitit  # noqa: F401 - only this launcher needs it
    except ImportError:
        raise MissingExtra("submitit", "cluster", "--command_launcher slurm") from None
    if not (slurm_commands.has("sbatch") and slurm_commands.has("srun")):
        raise RogaError(
            "--command_launcher slurm: this machine has no sbatch. Launch on a machine that submits to the cluster, or "
            "write a script for it with --print_sbatch"
        )


def _cluster() -> tuple[str, int]:
    """The cluster's name and the most places of an array."""
    try:
        config = slurm_commands.config()
    except slurm_commands.NoAnswer as error:
        raise Failed(f"the cluster does not answer: {error}") from None
    size = config.get("MaxArraySize", "")
    return config.get("ClusterName", ""), int(size) if size.isdecimal() and int(size) else _ARRAY


def _submit(tasks: Sequence[Sequence[Job]], options: Options, cluster: str) -> Submission:
    import submitit
    from submitit.core.utils import FailedJobError

    file = write_tasks(tasks, options)
    flags = dict(options.slurm)
    minutes = flags.pop("time")
    cpus = flags.get("cpus-per-task")
    python = shlex.join(["sh", "-c", f'{_IGNORE_SIGNALS}; exec "$0" "$@"', sys.executable])
    executor = submitit.SlurmExecutor(file.with_suffix(""), max_num_timeout=_TIME_OUTS, python=python)
    executor.update_parameters(
        time=minutes,
        job_name=flags.pop("job-name", _name(options)),
        wckey=None,  # submitit's own, which a site may not know
        array_parallelism=options.max_parallel or len(tasks),
        signal_delay_s=_notice_s(minutes),
        # From Slurm 22.05 on, a step has the processors that it asks for, not those of its job.
        srun_args=None if cpus is None else [f"--cpus-per-task={cpus}"],
        additional_parameters={**flags, "requeue": True},
    )
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # what sbatch says is in the exception, too
            first = executor.map_array(_Place(str(file)), range(len(tasks)))[0]
    except FailedJobError as error:
        file.unlink()
        shutil.rmtree(file.with_suffix(""), ignore_errors=True)
        raise RogaError(f"sbatch: {slurm_commands.error_line(str(error))}") from None
    return keep(options.folder, first.job_id.partition("_")[0], cluster, tasks)


class _Place:
    """What submitit runs in a place of an array; its argument is the number of the task."""

    def __init__(self, file: str):
        self._file = file

    def __call__(self, index: int) -> None:
        notice = signal.getsignal(_submitits_signal())
        with told_by_signals():
            # In here to the end: a second signal must not end this process while it puts its place back.
            try:
                run_task(self._file, index, slurm_commands.owner())
            except Told as told:
                if told.number == _submitits_signal():
                    notice(told.number, None)  # calls checkpoint, puts the place back, and exits
                slurm_commands.requeue()
                sys.exit(STOPPED)

    def checkpoint(self, index: int) -> Any:
        """For submitit: the same again. By now the job has been told to stop and has written its checkpoint."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, index)


def _submitits_signal() -> int:
    from submitit.core.job_environment import JobEnvironment

    return getattr(signal, f"SIG{JobEnvironment.USR_SIG}")


def _outcomes(
    submitted: Sequence[tuple[Sequence[Sequence[Job]], Submission]], was_cancelled: Callable[[], bool]
) -> Iterator[Outcome]:
    """The outcomes of what was submitted, as the folders of the jobs and the queue show them."""
    left = {
        job: (submission, index, job.attempts)
        for tasks, submission in submitted
        for index, task in enumerate(tasks)
        for job in task
    }
    pause = 1.0
    while left:
        # Before the folders: what leaves the queue after this has written its files.
        with contextlib.suppress(slurm_commands.NoAnswer):  # as after the last answer
            places = slurm_commands.queued({submission.id for submission, *_ in left.values()})
            gone = {
                job for job, (submission, index, _) in left.items() if not submission.is_queued(index, places)
            }
            if gone:
                time.sleep(pause)  # network file systems show a file of another machine after a while
            for job, (submission, index, before) in list(left.items()):
                state = job.state
                failed = state is State.FAILED and job.attempts > before
                if state is State.DONE or failed or job in gone:
                    del left[job]
                    place = f"{submission.id}_{index}"
                    log = os.path.join(os.path.dirname(job.output_dir), FOLDER, "*", f"{place}*_log.err")
                    note = f"its task {place} has left the queue; what Slurm says: {log}"
                    yield outcome_of(job, note, was_cancelled())
        time.sleep(pause)
        pause = min(2 * pause, 15.0)


def sbatch_script(jobs: Sequence[Job], options: Options) -> str:
    """A script for ``sbatch`` that runs ``jobs`` as an array, without submitit; what it reads is written beside it.

    Raises:
        RogaError: the array has more places than this cluster allows.
        OSError: the file of the tasks cannot be written.
    """
    tasks = tasks_of(jobs, options)
    with contextlib.suppress(Failed):  # on a machine without Slurm nobody knows
        _, most = _cluster()
        if len(tasks) > most:
            raise RogaError(
                f"{len(tasks)} places are more than an array of this cluster may have ({most}): give --jobs_per_task "
                f"{-(-len(jobs) // most)} or more"
            )
    file = write_tasks(tasks, options)
    flags = dict(options.slurm)
    limit = f"%{options.max_parallel}" if options.max_parallel else ""
    lines = {
        "job-name": flags.pop("job-name", _name(options)),
        "array": f"0-{len(tasks) - 1}{limit}",
        **flags,
        "requeue": True,
        "signal": f"B:USR1@{_notice_s(flags['time'])}",
        "open-mode": "append",
        "output": f"{file.parent}/%A_%a.log",
    }
    command = [sys.executable, "-m", "roga_domainbed.launch.task", str(file)]
    return "\n".join(
        [
            "#!/bin/bash",
            *(
                f"#SBATCH --{key}{'' if value is True else f'={shlex.quote(str(value))}'}"
                for key, value in lines.items()
            ),
            "# The task takes the shell's place, so that Slurm's signals reach it; it puts itself back into the queue.",
            "# Until it can do so, it ignores them.",
            _IGNORE_SIGNALS,
            f'exec {shlex.join(command)} "$SLURM_ARRAY_TASK_ID"',
            "",
        ]
    )


def _notice_s(minutes: int) -> int:
    """Seconds before the end at which Slurm tells a place; of a short turn not more than a third."""
    return min(_NOTICE_S, minutes * 20)


def _name(options: Options) -> str:
    return Path(options.folder).absolute().name
