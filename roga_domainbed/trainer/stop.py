"""Signals that ask a run to stop, delivered where it can: between updates, never within one."""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import multiprocessing.util  # its own function for the end is registered before ours, and so runs after it
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from roga_domainbed.errors import RogaError
from roga_domainbed.launch.jobfile import STOPPED

#: SIGUSR1 is what Slurm can be told to send some time before the end (``--signal=USR1@120``).
NAMES = ("SIGTERM", "SIGUSR1", "SIGINT")


class StopRequested(BaseException):
    """A signal asked for the end. No error: what catches ``Exception`` must not swallow it.

    Attributes:
        name: of the signal.
    """

    def __init__(self, name: str):
        self.name = name
        super().__init__(name)


class Stopped(RogaError):
    """A run ended because it was told to; the same command goes on with it."""

    STATUS = STOPPED


class StopSignals:
    """Inside this context, ``NAMES`` raise ``StopRequested``: at once, or after the ``held`` block they came in.

    A second Ctrl-C raises ``KeyboardInterrupt`` wherever it comes. In another thread than the main one, which
    alone receives signals, nothing changes. Worker processes that inherit the handlers ignore the signals: where a
    whole process group is told to stop, they go on serving until the step is done.
    """

    def __init__(self):
        self._before: dict[int, Any] = {}
        self._held = 0
        self._received: str | None = None
        self._delivered = False
        self._pid = os.getpid()

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            numbers = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
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


def ignore_in_worker(worker: int = 0) -> None:
    """For the start of a worker process: leave the signals to the parent, which ends its workers itself.

    torch's loader workers die of a SIGTERM that was sent to the whole group, and the parent of that, in mid-update.
    And they notice a parent's death only if it comes after they have looked up who that is: one that was killed before
    would leave them waiting for ever.
    """
    for name in NAMES:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    forked_elsewhere = multiprocessing.get_start_method(allow_none=True) == "forkserver"
    if parent is not None and not forked_elsewhere and os.getppid() != parent.pid:
        os._exit(1)


@atexit.register
def end_workers() -> None:
    """Kill the daemons of this process that are left at its end.

    multiprocessing would ask them by a SIGTERM, which ``ignore_in_worker`` has them ignore, and wait for ever.
    """
    for child in multiprocessing.active_children():
        if child.daemon and child._parent_pid == os.getpid():  # a fork inherits the list
            child.kill()
