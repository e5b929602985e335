"""The attempts at a job: ``job.json``, ``job.2.json`` and so on in its folder, and ``job.log``.

Each says which process runs the job, or how it ended. The newest is the job's lease (``lease.py``): whoever holds it
may write in the folder.
"""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from roga_domainbed.files import is_locked, replacing
from roga_domainbed.foreign import Malformed, read_json

#: The first attempt's; it is also what versions before leases wrote.
JOB_FILE = "job.json"
LOG_FILE = "job.log"
#: A training that no launcher started holds this lock. The file stays when the run is done: whoever waits for it would
#: hold a lock that nobody else sees, and it says that the folder is a run's.
LOCK_FILE = "train.lock"

_ATTEMPT = re.compile(r"job(?:\.([1-9]\d{0,8}))?\.json")
_LARGEST = 2**20  # bytes of a job file

#: Exit status of a training that was told to stop and has written a checkpoint: "temporary failure, try again" of
#: sysexits.h. Such a job is interrupted, not failed.
STOPPED = 75
#: That of one that Ctrl-C stopped.
INTERRUPTED = 130


def lease_seconds() -> float:
    """How long a lease lasts without a sign of life: 180 seconds, or ``ROGA_DOMAINBED_LEASE_S``."""
    try:
        return max(0.5, float(os.environ["ROGA_DOMAINBED_LEASE_S"]))
    except (KeyError, ValueError):
        return 180.0


@dataclass(frozen=True)
class JobFile:
    """What the file of an attempt holds.

    Attributes:
        argv: the job's arguments.
        exit_code: None until it has ended; negative: ended by that signal.
        started: Unix time in seconds.
        seconds: wall time; None until it has ended.
        host: the machine's name.
        pid: of the job's process on that machine.
        process_started: the kernel's start time of that process, which tells a pid that was used again; None
            where it is not known.
        owner: the place in a cluster's queue that runs the job, such as ``slurm:12_3``; else empty.
        boot: the kernel's id of the start of that machine, which tells machines of one name; empty if not known.
    """

    argv: tuple[str, ...]
    exit_code: int | None
    started: float
    seconds: float | None
    host: str
    pid: int
    process_started: int | None = None
    owner: str = ""
    boot: str = ""


def started_now(argv: tuple[str, ...], pid: int, owner: str = "") -> JobFile:
    """The file of a job that starts now as process ``pid`` of this machine."""
    started = _process_started(pid)
    return JobFile(argv, None, time.time(), None, socket.gethostname(), pid, started, owner, _boot())


def attempt_name(number: int) -> str:
    """The name of the file of attempt ``number``, the first of which is 1."""
    return JOB_FILE if number == 1 else f"job.{number}.json"


def attempts(folder: str | os.PathLike) -> int:
    """How many attempts there were, the present one included: 0 where no launcher was."""
    try:
        found = map(_ATTEMPT.fullmatch, os.listdir(folder))
    except OSError:
        return 0
    return max((int(match[1] or 1) for match in found if match), default=0)


def job_file_text(job: JobFile) -> str:
    """The content of an attempt's file."""
    return json.dumps(asdict(job), indent=1) + "\n"


def write_job_file(folder: str | os.PathLike, job: JobFile, number: int = 1) -> None:
    """Write the file of attempt ``number``, atomically."""
    with replacing(Path(folder) / attempt_name(number)) as partial:
        partial.write_text(job_file_text(job), encoding="utf-8")


def read_job_file(folder: str | os.PathLike, number: int | None = None) -> JobFile | None:
    """The file of attempt ``number``, or of the newest; None if there is none or it cannot be read as one."""
    name = attempt_name((attempts(folder) or 1) if number is None else number)
    try:
        fields = read_json(os.path.join(folder, name), dict, at_most=_LARGEST)
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
        and type(job.owner) is str
        and type(job.boot) is str
    )


def newest_attempt(folder: str | os.PathLike) -> tuple[int, JobFile | None]:
    """The number of the newest attempt, 0 for none, and its file; None if it cannot be read."""
    number = attempts(folder)
    return number, read_job_file(folder, number) if number else None


def is_running(folder: str | os.PathLike, newest: tuple[int, JobFile | None] | None = None) -> bool:
    """Whether a process works in ``folder`` now: the newest attempt has shown a sign of life, or a lock is held.

    Args:
        folder: the job's.
        newest: its ``newest_attempt``, if it was read already.
    """
    newest = newest_attempt(folder) if newest is None else newest
    return shows_life(folder, *newest) or is_locked(os.path.join(folder, LOCK_FILE))


def is_live(folder: str | os.PathLike, number: int, now: float | None = None) -> bool:
    """Whether attempt ``number`` runs.

    It has no exit status and has touched its file within the last ``lease_seconds()``. On this machine its process must
    exist, too.

    Args:
        folder: the job's.
        number: of the attempt; 0 is none.
        now: Unix time by the clock that dates the files; None for this machine's.
    """
    return shows_life(folder, number, read_job_file(folder, number) if number else None, now)


def shows_life(folder: str | os.PathLike, number: int, job: JobFile | None, now: float | None = None) -> bool:
    """``is_live`` of an attempt whose file was read; None: there is none."""
    if job is None or job.exit_code is not None:
        return False
    try:
        touched = os.stat(os.path.join(folder, attempt_name(number))).st_mtime
    except OSError:
        return False
    # A time to come is no sign of life: a clock was wrong, or the file was copied.
    if abs((time.time() if now is None else now) - touched) >= lease_seconds():
        return False
    if job.host != socket.gethostname() or (job.boot and job.boot != _boot()):
        return True
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


@functools.cache
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _process_started(pid: int) -> int | None:
    """When process ``pid`` started, in the kernel's ticks; None where there is none, or no /proc."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The command name, in parentheses, may hold blanks; the start time is the 20th field after it.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[19])
