"""Who may run a job, and write in its folder: the holder of its newest attempt.

An attempt is a file that only one process can make (``jobfile.py``). Its holder touches it from time to time. Whoever
finds the newest one ended, silent for longer than ``lease_seconds()``, or without its process on this machine, may make
the next. The earlier holder may still be there, stopped or cut off: before it writes anything, it finds that its
attempt is no longer the newest, and ends.

What this needs of the folder's file system, NFS included: a hard link is made by one process alone, a rename replaces
a file in one step, and a file that was touched is dated by the server. No file lock is needed. A client may see names
and dates that are a minute old, as NFS's do: a holder is taken for dead after three.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from roga_domainbed.errors import RogaError
from roga_domainbed.files import is_locked
from roga_domainbed.launch import cancellation
from roga_domainbed.launch.folders import run_folder_problem
from roga_domainbed.launch.jobfile import (
    LOCK_FILE,
    JobFile,
    attempt_name,
    job_file_text,
    lease_seconds,
    newest_attempt,
    shows_life,
    started_now,
    write_job_file,
)
from roga_domainbed.results.records import is_done, is_dropped

#: Exit status of a process that found its attempt replaced; it has written nothing since.
TAKEN_OVER = 76
_HELD = "ROGA_DOMAINBED_LEASE"  # the job's process, and what it starts, know their attempt by it
_LOOK_S = 1.0  # between looks at whether the worker lives


@dataclass(frozen=True)
class Lease:
    """An attempt at a job that this process, or its parent, has made.

    Attributes:
        folder: the job's.
        number: of the attempt.
    """

    folder: str
    number: int

    @property
    def path(self) -> str:
        """The attempt's file."""
        return os.path.join(self.folder, attempt_name(self.number))

    def is_lost(self) -> bool:
        """Whether another process has made the next attempt, or the folder was deleted."""
        following = os.path.join(self.folder, attempt_name(self.number + 1))
        return os.path.exists(following) or not os.path.exists(self.path)

    def end_if_lost(self) -> None:
        """End this process, without a word, if the job is another's now."""
        if self.is_lost():
            os._exit(TAKEN_OVER)

    def note(self, file: JobFile) -> None:
        """Write what is known of the attempt, unless the job is another's now."""
        # The folder may be deleted, or the disk full, under a running job: it ends as it ends.
        with contextlib.suppress(OSError):
            if not self.is_lost():
                write_job_file(self.folder, file, self.number)

    def environment(self) -> dict[str, str]:
        """What tells the job's process that it holds this."""
        return {_HELD: f"{self.number}:{self.folder}"}

    def keep(self) -> None:
        """Show signs of life from now on, from a thread; stop the job if it is cancelled or its worker is gone.

        The job is stopped by SIGTERM, which lets a training write a checkpoint.
        """
        parent, stamp = os.getppid(), cancellation.stamp(os.path.dirname(self.folder))
        beat_s = lease_seconds() / 9
        looks = max(1, round(beat_s / _LOOK_S))

        def keep() -> None:
            waiting, told = threading.Event(), False
            while True:
                for _ in range(looks):
                    waiting.wait(beat_s / looks)
                    if not told and os.getppid() != parent:
                        told = True
                        os.kill(os.getpid(), signal.SIGTERM)
                self.end_if_lost()
                with contextlib.suppress(OSError):
                    os.utime(self.path)
                if not told and cancellation.stamp(os.path.dirname(self.folder)) != stamp:
                    told = True
                    os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=keep, name="lease", daemon=True).start()


def claim(
    output_dir: str,
    argv: Sequence[str],
    *,
    retry: bool,
    owner: str = "",
    delete: bool = False,
) -> Lease | None:
    """Make the job's folder and the next attempt in it; None if another process has the job, or it is done.

    Of several that ask at once, on one machine or over a network file system, one gets it.

    Args:
        output_dir: the job's folder.
        argv: the job's arguments, for the file.
        retry: whether the folder may exist already.
        owner: see ``JobFile``. The lease of the same owner's earlier attempt is taken at once: a queue that starts a
            place again has given up on what ran there.
            ``place#2`` is the second run of a place: it succeeds the first, never the other way round.
        delete: whether it is claimed to be deleted.

    Raises:
        OSError: the folder cannot be made or written.
        RogaError: what is there is no job's folder.
    """
    if not delete:
        Path(output_dir).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.mkdir(output_dir)
        except FileExistsError:
            if is_done(output_dir) or is_dropped(output_dir):
                return None
            problem = run_folder_problem(output_dir)
            if problem is not None:
                raise RogaError(f"{output_dir!r} {problem}") from None
            if not retry:
                return None
    newest, before = newest_attempt(output_dir)
    mine = started_now(tuple(argv), os.getpid(), owner)
    # A name of its own for each process, so that none writes into another's. Its date is the server's time.
    partial = Path(output_dir, f"{attempt_name(newest + 1)}.{socket.gethostname()}.{os.getpid()}.part")
    try:
        partial.write_text(job_file_text(mine), encoding="utf-8")
        is_own = before is not None and succeeds(owner, before.owner)
        if not is_own and shows_life(output_dir, newest, before, now=partial.stat().st_mtime):
            return None
        if is_locked(os.path.join(output_dir, LOCK_FILE)) or is_done(output_dir):
            return None
        lease = Lease(os.path.abspath(output_dir), newest + 1)  # the job may go to another folder
        return lease if _made_alone(partial, lease.path) else None
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def succeeds(owner: str, earlier: str) -> bool:
    """Whether ``owner`` is the same run of a place as ``earlier``, or a later one: ``place#3`` after ``place#2``."""
    place, _, run = owner.rpartition("#")
    earlier_place, _, earlier_run = earlier.rpartition("#")
    if place and place == earlier_place and run.isdecimal() and earlier_run.isdecimal():
        return int(run) >= int(earlier_run)
    return bool(owner) and owner == earlier


def _made_alone(partial: Path, path: str) -> bool:
    """Give ``partial`` the name ``path``; False if a file has it."""
    try:
        os.link(partial, path)
    except FileExistsError:
        # NFS repeats a call whose answer was lost, and then finds its own link.
        return partial.stat().st_nlink == 2
    except (PermissionError, NotImplementedError, OSError):  # a file system without hard links
        try:
            with open(path, "x", encoding="utf-8") as file:
                file.write(partial.read_text(encoding="utf-8"))
        except FileExistsError:
            return False
    return True


def held() -> Lease | None:
    """The lease that the worker of this process made for it; None for a process that no launcher started."""
    number, _, folder = os.environ.get(_HELD, "").partition(":")
    return Lease(folder, int(number)) if number.isdecimal() and folder else None


def held_in(folder: str | os.PathLike) -> Lease | None:
    """``held()``, if it is for ``folder``."""
    lease = held()
    if lease is None or os.path.realpath(lease.folder) != os.path.realpath(folder):
        return None
    return lease


def require(folder: str | os.PathLike) -> None:
    """End this process, without a word, if it runs the job of ``folder`` and another process has taken the job over.

    A training calls this before each file that it writes. It does nothing in a process that no launcher started.
    """
    lease = held_in(folder)
    if lease is not None:
        lease.end_if_lost()
