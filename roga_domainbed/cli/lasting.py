"""Output that may lose its reader: ``train | head -1`` must not end a training, nor the end of a pipe a sweep."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO


class _Lasting:
    def __init__(self, stream: TextIO, tell: Callable[[OSError], None]):
        self._stream, self._tell = stream, tell

    def write(self, text: str) -> int:
        self._keep(self._stream.write, text)
        return len(text)

    def flush(self) -> None:
        self._keep(self._stream.flush)

    def _keep(self, do: Callable[..., Any], *arguments: Any) -> None:
        try:
            do(*arguments)
        except OSError as error:
            # What is buffered, and all that follows, goes nowhere; Python would fail on it again at its end.
            with contextlib.suppress(OSError, ValueError):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, self._stream.fileno())
                os.close(null)
                self._stream.flush()
            self._tell(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_stream"], name)


@contextlib.contextmanager
def lasting_output() -> Iterator[None]:
    """Inside, a standard output or error that cannot be written any more (a closed pipe, a full disk) stops nothing."""
    out, err = sys.stdout, sys.stderr
    sys.stderr = _Lasting(err, lambda error: None)
    sys.stdout = _Lasting(
        out,
        lambda error: print(
            f"Notice: nothing more goes to standard output ({error.strerror}); the work goes on.",
            file=sys.stderr,
        ),
    )
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stdout, sys.stderr = out, err
