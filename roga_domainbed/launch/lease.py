"""One process trains in a folder at a time: a lock of the operating system, gone the moment its process is.

It is a POSIX record lock: not inherited by forked workers, so a killed training leaves nothing behind, and known to
network file systems. Where there is none (Windows, a file system without locks) nothing is locked.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:
    fcntl = None

LOCK_FILE = "train.lock"
_BUSY = (errno.EACCES, errno.EAGAIN)
_PATIENCE_S = 0.5  # who asks ``is_held`` has the lock for an instant


class Busy(Exception):
    """Another process holds the folder."""


@contextlib.contextmanager
def hold(folder: str | os.PathLike) -> Iterator[None]:
    """Hold ``folder`` while the block runs; the lock file stays, ``forget`` removes it.

    Raises:
        Busy: another process holds it.
    """
    with open(Path(folder) / LOCK_FILE, "a") as file:
        deadline = time.monotonic() + _PATIENCE_S
        while not _locked(file):
            if time.monotonic() > deadline:
                raise Busy
            time.sleep(0.05)
        yield


def is_held(folder: str | os.PathLike) -> bool:
    """Whether another process holds ``folder``. Never ask from the process that holds it: asking lets go."""
    try:
        with open(Path(folder) / LOCK_FILE, "r+") as file:
            return not _locked(file)
    except OSError:
        return False


@contextlib.contextmanager
def turn(folder: str | os.PathLike, name: str) -> Iterator[None]:
    """Wait until no other process is in a block of that ``name`` and ``folder``; for a few system calls."""
    with open(Path(folder) / name, "a") as file:
        _locked(file, wait=True)
        yield


def forget(folder: str | os.PathLike) -> None:
    """Remove the lock file of a folder in which nothing is left to do."""
    with contextlib.suppress(OSError):
        os.unlink(Path(folder) / LOCK_FILE)


def _locked(file: Any, *, wait: bool = False) -> bool:
    """Lock ``file`` until it is closed; False if another process has it."""
    if fcntl is None:
        return True
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        return error.errno not in _BUSY  # a file system without locks: as on Windows
    return True
