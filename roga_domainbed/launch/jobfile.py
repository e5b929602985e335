"""``job.json`` and ``job.log``: which process works in a job's folder, or how it ended."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from roga_domainbed.files import is_locked, replacing
from roga_domainbed.foreign import Malformed, read_json

JOB_FILE = "job.json"
LOG_FILE = "job.log"
#: Whoever holds this lock may start the folder's job.
CLAIM_FILE = "job.claim"
#: One process trains in a folder at a time: the one that holds this lock. The file stays when the run is done: whoever
#: waits for it would hold a lock that nobody else sees, and it says that the folder is a run's.
LOCK_FILE = "train.lock"

#: A worker touches the job file this often; one on another machine that is silent for longer than
#: STALE_AFTER_S is taken for dead.
HEARTBEAT_S = 20.0
STALE_AFTER_S = 180.0

_LARGEST = 2**20  # bytes of a job file

#: Exit status of a training that was told to stop and has written a checkpoint: "temporary failure, try again" of
#: sysexits.h. Such a job is incomplete, not failed.
STOPPED = 75
#: That of one that Ctrl-C stopped.
INTERRUPTED = 130


@dataclass(frozen=True)
class JobFile:
    """What ``job.json`` holds.

    Attributes:
        argv: the job's arguments.
        exit_code: None until it has ended; negative: ended by that signal.
        started: Unix time in seconds.
        seconds: wall time; None until it has ended.
        host: the machine's name.
        pid: of the job's process on that machine.
        process_started: the kernel's start time of that process, which tells a pid that was used again; None
            where it is not known.
    """

    argv: tuple[str, ...]
    exit_code: int | None
    started: float
    seconds: float | None
    host: str
    pid: int
    process_started: int | None = None


def started_now(argv: tuple[str, ...], pid: int) -> JobFile:
    """The file of a job that starts now as process ``pid`` of this machine."""
    return JobFile(argv, None, time.time(), None, socket.gethostname(), pid, _process_started(pid))


def write_job_file(folder: str | os.PathLike, job: JobFile) -> None:
    """Write ``job.json``, atomically."""
    with replacing(Path(folder) / JOB_FILE) as partial:
        partial.write_text(json.dumps(asdict(job), indent=1) + "\n", encoding="utf-8")


def read_job_file(folder: str | os.PathLike) -> JobFile | None:
    """The folder's job file; None if there is none or it cannot be read as one."""
    try:
        fields = read_json(os.path.join(folder, JOB_FILE), dict, at_most=_LARGEST)
        job = JobFile(**{**fields, "argv": tuple(fields["argv"])})
    except (OSError, Malformed, TypeError, KeyError):
        return None
    return job if _is_sound(job) else None


def _is_sound(job: JobFile) -> bool:
    whole, number = (int, type(None)), (int, float, type(None))
    return (
        all(type(word) is str for word in job.argv)
        and type(job.exit_code) in whole
        and type(job.started) in number[:2]
        and type(job.seconds) in number
        and type(job.host) is str
        and type(job.pid) is int
        and 0 < job.pid < 2**31  # os.kill takes others for groups of processes
        and type(job.process_started) in whole
    )


def is_running(folder: str | os.PathLike) -> bool:
    """Whether a process works in ``folder`` now.

    A training holds the folder's lock, whoever started it. A job on this machine: its process is alive and is the one
    that the file speaks of. On another machine: its worker has touched the file within ``STALE_AFTER_S`` seconds of
    now.
    """
    job = read_job_file(folder)
    return (job is not None and job.exit_code is None and _is_at_work(folder, job)) or is_locked(
        os.path.join(folder, LOCK_FILE)
    )


def _is_at_work(folder: str | os.PathLike, job: JobFile) -> bool:
    if job.host != socket.gethostname():
        try:
            # A time to come is no sign of life: a clock was wrong, or the file was copied.
            return abs(time.time() - (Path(folder) / JOB_FILE).stat().st_mtime) < STALE_AFTER_S
        except OSError:
            return False
    if job.process_started is not None:
        return job.process_started == _process_started(job.pid)
    return _is_alive(job.pid)


def describe_exit(code: int | None) -> str:
    """``exited with 3``, ``was killed by SIGKILL`` for the negative code of a signal, ``failed`` for None."""
    if code is None:
        return "failed"
    if code >= 0:
        return f"exited with {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was killed by {name}" + (", as when memory runs out" if name == "SIGKILL" else "")


def _is_alive(pid: int) -> bool:
    if os.name == "nt":  # there os.kill(pid, 0) would end the process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _process_started(pid: int) -> int | None:
    """When process ``pid`` started, in the kernel's ticks; None where there is none, or no /proc."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The command name, in parentheses, may hold blanks; the start time is the 20th field after it.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[19])
