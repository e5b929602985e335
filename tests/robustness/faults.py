"""Faults that a machine can have, made inside the process that is about to run a command. Called by server.py."""

from __future__ import annotations

import builtins
import errno
import os
import signal
from collections.abc import Callable
from typing import Any


def fail(function: str, nth: int, code: str) -> None:
    """The ``nth`` call of ``function`` on a path below the working directory fails, and every later one too.

    Args:
        function: a function of ``os``, or "write": opening a file to write.
        nth: from 1.
        code: as ``errno`` names it, such as "ENOSPC".
    """

    def error(path: Any) -> None:
        number = getattr(errno, code)
        raise OSError(number, os.strerror(number), os.fspath(path))

    _at(function, nth, error)


def kill(function: str, nth: int) -> None:
    """The ``nth`` such call never comes: the process is killed."""
    _at(function, nth, lambda path: os.kill(os.getpid(), signal.SIGKILL))


def _at(function: str, nth: int, act: Callable[[Any], None]) -> None:
    here, calls, parent = os.getcwd(), [0], os.getpid()
    place, name = (builtins, "open") if function == "write" else (os, function)
    original = getattr(place, name)

    def replacement(path: Any, *args: Any, **kwargs: Any) -> Any:
        is_path = not isinstance(path, int)
        concerned = name != "open" or set(args[0] if args else kwargs.get("mode", "r")) & set("wax+")
        if is_path and concerned and os.path.abspath(os.fspath(path)).startswith(here):
            calls[0] += 1
            if calls[0] >= nth and os.getpid() == parent:
                act(path)
        return original(path, *args, **kwargs)

    setattr(place, name, replacement)
