"""This process and its workers: the processors and memory it uses, the signals that stop it, pools of workers."""

from __future__ import annotations

import contextlib
import copy
import ctypes
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

#: SIGUSR1 is what Slurm can be told to send some time before the end (``--signal=USR1@120``).
STOP_SIGNALS = ("SIGTERM", "SIGUSR1", "SIGINT")

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


def worker_pool(n_workers: int, begin: Callable[..., None], *arguments: Any) -> ProcessPoolExecutor:
    """Worker processes that leave the stop signals to this process, and end with it even if it is killed.

    A signal to the whole process group so finds them at work until this process has ended its step.

    Args:
        n_workers: how many.
        begin: called at the start of each.
        *arguments: of ``begin``; nothing is pickled if processes are forked.
    """
    context = copy.copy(multiprocessing.get_context())
    context.Process = _Worker
    return ProcessPoolExecutor(n_workers, context, _begin_worker, (begin, arguments))


class _Worker(multiprocessing.Process):
    # A pool whose worker has died terminates the others, which ignore SIGTERM.
    terminate = multiprocessing.Process.kill


def _begin_worker(begin: Callable[..., None], arguments: tuple) -> None:
    for name in STOP_SIGNALS:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    end_with_parent()
    begin(*arguments)


def end_with_parent() -> None:
    """For the start of a worker process: have it end when its parent does.

    A worker that waits for work does not notice that its parent was killed: it holds both ends of the pipe.
    """

    def wait() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
