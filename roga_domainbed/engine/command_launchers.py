"""Upstream's launchers: callables that take a list of shell commands. ``REGISTRY`` is theirs to extend.

Our own sweeps use ``roga_domainbed.launch``, which knows how each job ended; these say it on stderr.
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from roga_domainbed.launch.gpus import visible_gpus


def local_launcher(commands: Sequence[str]) -> None:
    """Run the commands one after the other."""
    for command in commands:
        _call(command)


def dummy_launcher(commands: Sequence[str]) -> None:
    """Print the commands."""
    for command in commands:
        print(f"Dummy launcher: {command}")


def multi_gpu_launcher(commands: Sequence[str]) -> None:
    """Run the commands, one at a time on each visible GPU; ``RogaError`` if there is none."""
    gpus = visible_gpus()
    free: queue.Queue[str] = queue.Queue()
    for gpu in gpus:
        free.put(gpu)

    def run(command: str) -> None:
        gpu = free.get()
        try:
            _call(command, {"CUDA_VISIBLE_DEVICES": gpu})
        finally:
            free.put(gpu)

    with ThreadPoolExecutor(len(gpus)) as pool:
        list(pool.map(run, commands))


def _call(command: str, environment: Mapping[str, str] | None = None) -> None:
    code = subprocess.call(command, shell=True, env={**os.environ, **(environment or {})})
    if code:
        print(f"exited with {code}: {command}", file=sys.stderr)


REGISTRY = {"local": local_launcher, "dummy": dummy_launcher, "multi_gpu": multi_gpu_launcher}
