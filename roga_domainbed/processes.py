"""This process and its workers: the processors and memory it uses, the signals that stop it, pools of workers."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import multiprocessing.util
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

#: Slurm can be told to send SIGUSR1 some time before the end (``--signal=USR1@120``); submitit has it send SIGUSR2.
QUEUE_SIGNALS = ("SIGTERM", "SIGUSR1", "SIGUSR2")
STOP_SIGNALS = (*QUEUE_SIGNALS, "SIGINT")

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # names of glibc's malloc.h


def usable_cpus() -> int:
    """Processors that this process may run on, at least 1: what ``taskset`` or a cluster's allocation leaves."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1


def keep_freed_memory() -> None:
    """Tell glibc to reuse large buffers; do nothing on other C libraries.

    By default a buffer of some megabytes goes back to the kernel when it is freed and comes anew, page by page and
    zeroed, at the next step: short SynthFake runs on one core take 1.3 times as long.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(_M_MMAP_THRESHOLD, 32 * 2**20)  # the most that glibc accepts
        # A reader's buffers are freed where they were made: with a heap for each reader, all keep what one would do.
        libc.mallopt(_M_ARENA_MAX, 1)


class Told(BaseException):
    """A signal told this process to stop. Not an ``Exception``, so that no handler of errors swallows it.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int):
        self.number = number
        super().__init__(signal.Signals(number).name)


@contextlib.contextmanager
def told_by_signals(names: Sequence[str] = QUEUE_SIGNALS) -> Iterator[None]:
    """Inside, the first of the signals ``names`` raises ``Told``; those that follow do nothing."""
    told = False

    def tell(number: int, frame: FrameType | None) -> None:
        nonlocal told
        if not told:
            told = True
            raise Told(number)

    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        numbers = []  # only the main thread may set handlers
    before = {number: signal.signal(number, tell) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class WorkerDied(Exception):
    """A worker process ended without an answer."""


class Worker:
    """A process that answers questions, one at a time, and ends with this process even if that is killed.

    Each has a pipe of its own, so that its death is noticed at once, in the middle of an answer too: with one pipe for
    all, whoever reads waits for ever for the rest. The pipe carries the whole answer: ``/dev/shm``, which has 64 MB in
    a container, is not used. Stop signals are left to this process: a signal to the whole group finds the workers at
    work until this process has ended its step.

    Args:
        answer: question → answer, both bytes. It is called in the worker; nothing is pickled if processes are forked.
    """

    def __init__(self, answer: Callable[[bytes], Any]):
        ours, theirs = multiprocessing.Pipe()
        try:
            process = multiprocessing.Process(target=_serve, args=(theirs, answer), daemon=True)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of threads, from Python 3.12 on
                process.start()
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self._process, self._connection = process, ours
        # At the end of this process, before multiprocessing waits for workers that ignore its SIGTERM.
        self.close = multiprocessing.util.Finalize(self, _end, (process, ours), exitpriority=10)

    def ask(self, question: bytes) -> bytes:
        """The answer.

        Raises:
            WorkerDied: there will be none.
        """
        try:
            self._connection.send_bytes(question)
            return self._connection.recv_bytes()
        except (EOFError, OSError):
            raise WorkerDied from None


def _end(process: multiprocessing.Process, connection: Any) -> None:
    process.kill()
    process.join()
    connection.close()


def _serve(connection: Any, answer: Callable[[bytes], Any]) -> None:
    for name in STOP_SIGNALS:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    end_with_parent()
    with contextlib.suppress(EOFError, OSError):
        while True:
            connection.send_bytes(answer(connection.recv_bytes()))


def end_with_parent() -> None:
    """For the start of a worker process: have it end when its parent does.

    A worker that waits for work does not notice that its parent was killed: it holds both ends of the pipe.
    """

    def wait() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
