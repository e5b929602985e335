"""The one way to write a file, which is there whole or not at all, and the one lock.

The lock is a POSIX record lock: gone the moment its process is, not inherited by forked workers, so a killed training
leaves nothing behind, and known to network file systems. Where there is none (Windows, a file system without locks)
nothing is locked.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:
    fcntl = None

_BUSY = (errno.EACCES, errno.EAGAIN)
_PATIENCE_S = 0.5  # who asks ``is_locked`` has the lock for an instant


class Busy(Exception):
    """Another process has the lock."""


@contextlib.contextmanager
def replacing(path: str | os.PathLike, *, durable: bool = False) -> Iterator[Path]:
    """Inside, write to the path that this gives; at the end that file takes the place of ``path`` in one step.

    An exception removes the new file and leaves the old one as it was. A device or pipe, such as ``/dev/stdout``,
    keeps its name and gets the content.

    Args:
        path: the file to write.
        durable: whether its content must be on the disk before it gets its name: it survives a power cut.
    """
    path = Path(path)
    if _is_device_or_pipe(path):
        import tempfile  # takes as long to import as a small sweep to read

        with _naming(path), tempfile.TemporaryDirectory() as folder:
            yield Path(folder) / path.name
            _copy_into((Path(folder) / path.name).read_bytes(), path)
        return
    partial = path.with_name(f"{path.name}.part")
    try:
        with _naming(path):
            yield partial
            if durable:
                with open(partial, "rb+") as file:
                    os.fsync(file.fileno())
            os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def replacement_problem(path: str | os.PathLike, begin: bytes) -> str | None:
    """Why ``path`` is not replaced by a file that begins with ``begin``, as the end of a sentence; None if it may be.

    An earlier file of the same kind begins alike. Anything else is somebody's, with a name given by mistake.
    """
    with contextlib.suppress(OSError):
        if os.path.isfile(path):
            with open(path, "rb") as file:
                found = file.read(len(begin))
            if found and found != begin:
                return "holds something else; choose another name, or remove it"
    return None


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Say which file it was: an error of writing, such as a full disk, does not."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = os.fspath(path)
        raise


def _is_device_or_pipe(path: Path) -> bool:
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    # /dev/stdout is a link to whatever it is, also to a regular file, which others have open
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) or (
        path.is_symlink() and path.parent == Path("/dev")
    )


def _copy_into(content: bytes, path: Path) -> None:
    descriptor = os.open(
        path, os.O_WRONLY | getattr(os, "O_NONBLOCK", 0)
    )  # a pipe that nobody reads is an error
    with open(descriptor, "wb", buffering=0) as file:
        os.set_blocking(descriptor, True)
        left = memoryview(content)
        while left:
            left = left[file.write(left) :]


def sync_folder(folder: str | os.PathLike) -> None:
    """Put the names in ``folder`` on the disk; where a folder cannot be opened (Windows), do nothing."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def locked(path: str | os.PathLike, *, patience_s: float = _PATIENCE_S) -> Iterator[None]:
    """Hold the lock file ``path`` while the block runs; the file stays.

    Args:
        path: made if it is not there; its folder must be.
        patience_s: how long to wait for it; ``math.inf`` waits as long as it takes.

    Raises:
        Busy: another process has it.
        OSError: the file cannot be made, or is not a regular one.
    """
    with open(path, "a", opener=_without_waiting) as file:
        deadline = time.monotonic() + patience_s
        while not _lock(file, wait=math.isinf(patience_s)):
            if time.monotonic() > deadline:
                raise Busy
            time.sleep(0.05)
        yield


def is_locked(path: str | os.PathLike) -> bool:
    """Whether another process has the lock. Never ask from the process that has it: asking lets go."""
    try:
        with open(path, "r+") as file:
            return not _lock(file)
    except OSError:
        return False


def _without_waiting(path: str, flags: int) -> int:
    """Open a regular file: a named pipe of that name would be waited for."""
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
    return descriptor


def _lock(file: Any, *, wait: bool = False) -> bool:
    """Lock ``file`` until it is closed; False if another process has it."""
    if fcntl is None:
        return True
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        return error.errno not in _BUSY  # a file system without locks: as on Windows
    return True
