"""Signals that ask a run to stop, delivered between updates, never within one."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from roga_domainbed.errors import RogaError
from roga_domainbed.launch.jobfile import STOPPED
from roga_domainbed.processes import STOP_SIGNALS


class StopRequested(BaseException):
    """A signal asked the run to stop. Not an ``Exception``, so that no handler of errors swallows it.

    Attributes:
        name: of the signal.
    """

    def __init__(self, name: str):
        self.name = name
        super().__init__(name)


class Paused(StopRequested):
    """The run came to the step of ``--until``, and has its checkpoint."""


class Stopped(RogaError):
    """A run ended because it was told to; the same command resumes it."""

    STATUS = STOPPED


class StopSignals:
    """Inside this context, ``STOP_SIGNALS`` raise ``StopRequested``: at once, or at the end of the ``held`` block.

    A second Ctrl-C raises ``KeyboardInterrupt`` at once. Outside the main thread, which alone receives signals, nothing
    changes. Forked processes that inherit the handlers ignore the signals.
    """

    def __init__(self):
        self._before: dict[int, Any] = {}
        self._held = 0
        self._received: str | None = None
        self._delivered = False
        self._pid = os.getpid()

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            numbers = [getattr(signal, name) for name in STOP_SIGNALS if hasattr(signal, name)]
            self._before = {number: signal.signal(number, self._receive) for number in numbers}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Inside, a signal waits for the end of the block."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
        if self._received and not self._delivered and not self._held:
            self._deliver()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:
            return
        if number == signal.SIGINT and self._received:
            raise KeyboardInterrupt
        self._received = self._received or signal.Signals(number).name
        if not self._held and not self._delivered:
            self._deliver()

    def _deliver(self) -> None:
        self._delivered = True
        raise StopRequested(self._received)
