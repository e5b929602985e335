"""Standard output and error, safe to write anything to: names from elsewhere reach the terminal as letters only."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from roga_domainbed.foreign import printable


class Shown:
    """A text stream that writes out what a terminal would obey, and what its encoding does not have.

    Files that a training copies its output to get the text as it is.
    """

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        r"""Write ``text``, an escape as ``\x1b``."""
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        self._stream.write(printable(text).encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_stream"], name)


@contextlib.contextmanager
def shown_safely() -> Iterator[None]:
    """Inside, whatever is printed is safe."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(Shown, before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def has_output() -> bool:
    """Whether there is a standard output; where a standard stream is closed (``>&-``), nothing else takes its number.

    Otherwise the next file that is opened would be the standard output of every library and child.
    """
    if None not in (sys.stdin, sys.stdout, sys.stderr):
        return True
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - until the process ends
    return sys.stdout is not None


def flush_output() -> None:
    """Write what is still buffered.

    Raises:
        OSError: it cannot be written (a full disk, a reader that went away); Python will not try again when it ends.
    """
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError, ValueError):  # a stream without a number
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise
