"""The commands of Slurm that the launchers call, and what Slurm tells a task in its environment."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable

_PATIENCE_S = 60  # a busy controller takes its time


class NoAnswer(Exception):
    """The command is not there, or the cluster's controller does not answer."""


def has(command: str) -> bool:
    """Whether this machine has the command."""
    return shutil.which(command) is not None


def config() -> dict[str, str]:
    """The cluster's settings by name.

    Raises:
        NoAnswer: they are not known.
    """
    lines = _output("scontrol", "show", "config").splitlines()
    return dict(re.split(r"\s*=\s*", line, maxsplit=1) for line in lines if "=" in line)


def queued(ids: Iterable[str]) -> set[str]:
    """Which places of the arrays or jobs ``ids`` are in the queue, waiting or at work: ``12_3``, or ``12``.

    Raises:
        NoAnswer: this is not known.
    """
    ids = list(ids)
    if not ids:
        return set()
    try:
        return set(
            _output("squeue", "--noheader", "--array", "--format=%i", f"--jobs={','.join(ids)}").split()
        )
    except NoAnswer as error:
        if "Invalid job id" in str(error):  # said of a single one that is forgotten
            return set()
        raise


def cancel(ids: Iterable[str]) -> None:
    """End all places of ``ids``; those at work are sent SIGTERM first.

    Raises:
        NoAnswer: they were not.
    """
    _output("scancel", *ids)


def owner() -> str:
    """The name of the place that this process runs in, the same after it was put back; empty outside of Slurm."""
    place = _place()
    return "" if place is None else f"slurm:{os.environ.get('SLURM_CLUSTER_NAME', '')}:{place}"


def threads(n_workers: int) -> dict[str, str]:
    """``OMP_NUM_THREADS`` for workers that share the processors of this place, which Slurm need not bind it to.

    Empty where the variable is set, and outside of Slurm.
    """
    n = os.environ.get("SLURM_CPUS_ON_NODE", "")
    if not n.isdecimal() or os.environ.get("OMP_NUM_THREADS"):
        return {}
    return {"OMP_NUM_THREADS": str(max(1, int(n) // n_workers))}


def requeue() -> None:
    """Put the place of this process back into the queue, unless Slurm is about to end it or does so itself."""
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        return
    try:
        # After scancel, at a time limit and where preemption puts it back, the state is another one by now.
        if _output("squeue", "--noheader", "--format=%T", f"--jobs={job}").split() == ["RUNNING"]:
            print("Back into the queue.", flush=True)
            _output("scontrol", "requeue", job)
    except NoAnswer as error:
        print(f"Not put back into the queue: {error}", file=sys.stderr)


def _place() -> str | None:
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        return f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ.get("SLURM_JOB_ID")


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoAnswer(f"{command[0]}: {getattr(error, 'strerror', None) or error}") from None
    if done.returncode != 0:
        raise NoAnswer(f"{command[0]}: {error_line(done.stderr) or f'exit status {done.returncode}'}")
    return done.stdout


def error_line(text: str) -> str:
    """What a command of Slurm's says is wrong: its last line that is not blank, without the command's name."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return re.sub(r"^\w+: (error: )?", "", lines[-1]) if lines else ""
