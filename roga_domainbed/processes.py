"""This process and its workers: the processors it may use, the signals that stop it, the workers' end."""

from __future__ import annotations

import atexit
import multiprocessing
import multiprocessing.util  # its own function for the end is registered before ours, and so runs after it
import os
import signal

#: SIGUSR1 is what Slurm can be told to send some time before the end (``--signal=USR1@120``).
STOP_SIGNALS = ("SIGTERM", "SIGUSR1", "SIGINT")


def usable_cpus() -> int:
    """Processors that this process may run on, at least 1: what ``taskset`` or a cluster's allocation leaves."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1


def ignore_in_worker(worker: int = 0) -> None:
    """For the start of a worker process: leave the signals to the parent, which ends its workers itself.

    torch's loader workers die of a SIGTERM that was sent to the whole group, and the parent of that, in mid-update.
    And they notice a parent's death only if it comes after they have looked up who that is: one that was killed before
    would leave them waiting for ever.
    """
    for name in STOP_SIGNALS:
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
