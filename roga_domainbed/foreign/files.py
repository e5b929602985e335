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

_FIRST_PART, _LARGEST_PART = 2**16, 2**24  # bytes read at once

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
    # Without a file object, which costs as much as reading a small file: a sweep has thousands.
    descriptor = _without_waiting(
        path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    )
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
        _require_regular(mode, path)
        parts, left, most, is_full = [], at_most + 1, _FIRST_PART, True
        while left and is_full:
            wanted = min(left, most)
            parts.append(os.read(descriptor, wanted))
            is_full = len(parts[-1]) == wanted  # less than wanted is all there is
            left, most = left - len(parts[-1]), min(2 * most, _LARGEST_PART)
    finally:
        os.close(descriptor)
    if not left:
        raise OSError(
            errno.EFBIG, f"larger than {at_most // 2**10:,} KiB, the most that is read", os.fspath(path)
        )
    return parts[0] if len(parts) == 1 else b"".join(parts)


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
