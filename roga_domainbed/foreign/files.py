"""Opens regular files only: a named pipe, a device or a terminal would be waited for, or read, without end."""

from __future__ import annotations

import errno
import os
import stat
from typing import BinaryIO

from roga_domainbed.foreign.malformed import Malformed

LARGEST = (
    64 * 2**20
)  # bytes of a list, a setting or a description; what holds pixels or weights has bounds of its own

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
}


def open_regular(path: str | os.PathLike) -> BinaryIO:
    """``path`` opened for reading bytes.

    Raises:
        OSError: it cannot be opened, or is not a regular file (links are followed).
    """
    file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115 - the caller closes it
    try:
        _require_regular(os.fstat(file.fileno()).st_mode, path)
    except OSError:
        file.close()
        raise
    return file


def check_regular(path: str | os.PathLike) -> None:
    """For files that another library opens by name.

    Raises:
        OSError: ``path`` is not there, or is not a regular file (links are followed).
    """
    _require_regular(os.stat(path).st_mode, path)


def read_bytes(path: str | os.PathLike, at_most: int = LARGEST) -> bytes:
    """The content of a regular file.

    Raises:
        OSError: it cannot be opened, is not a regular file, or has more than ``at_most`` bytes.
    """
    with open_regular(path) as file:
        content = file.read(at_most + 1)
    if len(content) > at_most:
        raise OSError(
            errno.EFBIG, f"larger than {at_most // 2**10:,} KiB, the most that is read", os.fspath(path)
        )
    return content


def read_text(path: str | os.PathLike, at_most: int = LARGEST) -> str:
    """The content of a regular UTF-8 file, with or without a byte order mark.

    Raises:
        OSError: as ``read_bytes``.
        Malformed: it is not UTF-8.
    """
    try:
        return read_bytes(path, at_most).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Malformed(f"not UTF-8 text: byte {error.object[error.start]:#04x} at {error.start}") from None


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _require_regular(mode: int, path: str | os.PathLike) -> None:
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "something else")
        raise OSError(errno.EINVAL, f"not a regular file but {kind}", os.fspath(path))
