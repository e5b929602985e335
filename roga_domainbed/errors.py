"""Errors for the person who caused them: what came, what is allowed, what to do next."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

_NO_MEMORY = re.compile(
    r"can't allocate memory|cannot allocate memory|not enough memory|out of memory|failed to map segment"
    r"|can't start new thread|bad_alloc|failed to launch worker thread",
    re.IGNORECASE,
)


class RogaError(Exception):
    """Something the user can put right; the command line prints its message without a traceback."""


class Failed(RogaError):
    """The work was begun and cannot be done, through no fault in the arguments: exit status 1, not 2."""


class MissingExtra(RogaError):
    """An optional package is needed now and is not installed."""

    def __init__(self, package: str, extra: str, purpose: str):
        super().__init__(f"{purpose} needs the package {package!r}: pip install 'roga-domainbed[{extra}]'")
        self._arguments = (package, extra, purpose)

    def __reduce__(self) -> tuple:
        return MissingExtra, self._arguments  # loader processes send their errors to the parent


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` is what Python, numpy, torch, the loader of libraries or threads say for: no memory."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return bool({"MemoryError", "OutOfMemoryError"} & kinds or _NO_MEMORY.search(str(error)))


def first_line(error: BaseException) -> str:
    """The first line of what ``error`` says that is not blank; empty if it says nothing."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "")


def unknown_name(kind: str, got: str, known: Iterable[str]) -> str:
    """One sentence for an unknown name: the nearest known one first, then all of them.

    Args:
        kind: what is being named, for example ``"algorithm"``.
        got: the name that came.
        known: the names that are allowed.
    """
    known = list(known)
    return f"unknown {kind} {got!r}{did_you_mean(got, known)}; known: {', '.join(known) or 'none'}"


def did_you_mean(got: str, known: Iterable[str]) -> str:
    """`` (did you mean 'RoGA'?)``; empty where no known name is near."""
    by_lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(got.lower(), by_lower, n=1, cutoff=0.6)
    return f" (did you mean {by_lower[near[0]]!r}?)" if near else ""


def shortened(names: Iterable[object], n: int = 3) -> str:
    """``a, b, c``, and ``a, b, c, …`` where there are more than ``n``."""
    names = [str(name) for name in names]
    return ", ".join(names[:n]) + ", …" * (len(names) > n)


class Problems:
    """Collects user faults so that all of them are reported at once, before anything slow.

    >>> problems = Problems()
    >>> problems.add("no such folder: 'x'")
    >>> problems.check()
    Traceback (most recent call last):
    ...
    roga_domainbed.errors.RogaError: no such folder: 'x'
    """

    def __init__(self):
        self.messages: list[str] = []

    def add(self, message: str) -> None:
        """Note one fault."""
        self.messages.append(message)

    def check(self) -> None:
        """Raise ``RogaError`` with everything found; do nothing if nothing was."""
        if len(self.messages) == 1:
            raise RogaError(self.messages[0])
        if self.messages:
            lines = "".join(f"\n  {i}. {message}" for i, message in enumerate(self.messages, 1))
            raise RogaError(f"{len(self.messages)} problems:{lines}")
