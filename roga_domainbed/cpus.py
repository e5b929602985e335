"""How many processors this process may use."""

from __future__ import annotations

import os


def usable_cpus() -> int:
    """Processors that this process may run on, at least 1: what ``taskset`` or a cluster's allocation leaves."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1
