"""Jobs as tasks of a Ray cluster: one that runs already, or one that is started on this machine for the launch.

Ray starts a task again whose machine is lost. The new run takes over the jobs of the old one at once, and continues
from their checkpoints.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import uuid
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from roga_domainbed.errors import Failed, MissingExtra, first_line
from roga_domainbed.launch import Job, Options, Outcome, cancellation
from roga_domainbed.launch.task import outcome_of, run_task, tasks_of, write_tasks

_LOSSES = 10  # of machines under one task, after which its jobs are left to the next launch
_PASSED_ON = ("DOMAINBED_HOME",)
_PATIENCE_S = 20
_PREFIX = "ROGA_DOMAINBED_"


def launch_ray(jobs: Sequence[Job], options: Options) -> Iterator[Outcome]:
    """Run ``jobs`` as Ray tasks of ``options.jobs_per_task`` each, with ``options.cpus`` processors.

    Where the cluster has GPUs, ``options.jobs_per_gpu`` tasks share one; else no more tasks run at a time than
    ``options.max_parallel`` and the processors allow. Closing the iterator stops what runs, with checkpoints.

    Raises:
        MissingExtra: Ray is not installed.
        Failed: the cluster cannot be reached or started.
    """
    try:
        import ray
    except ImportError:
        raise MissingExtra("ray", "ray", "--command_launcher ray") from None
    address = options.address or os.environ.get("RAY_ADDRESS") or "local"
    _check(address)
    seen = cancellation.stamp(options.folder)
    tasks = tasks_of(jobs, options)
    file = write_tasks(tasks, replace(options, jobs_per_gpu=1))
    with _cluster(ray, address, options.n_workers):
        n_gpus = 1 / options.jobs_per_gpu if ray.cluster_resources().get("GPU") else 0
        run = ray.remote(num_cpus=options.cpus, num_gpus=n_gpus, max_retries=_LOSSES)(_run)
        launch, environment = uuid.uuid4().hex, _environment()
        waiting = deque(range(len(tasks)))
        running: dict[Any, int] = {}
        most = options.max_parallel or len(tasks)
        try:
            while waiting or running:
                while waiting and len(running) < most:
                    index = waiting.popleft()
                    # Ray gives a task that it starts again the same arguments.
                    running[run.remote(str(file), index, f"ray:{launch}_{index}", environment)] = index
                (ended,), _ = ray.wait(list(running), num_returns=1)
                index = running.pop(ended)
                note = _problem(ray, ended)
                for job in tasks[index]:
                    yield outcome_of(job, note, cancellation.stamp(options.folder) != seen)
        finally:
            _stop(ray, list(running), options.grace_s)


def _run(file: str, index: int, owner: str, environment: Mapping[str, str]) -> int:
    return run_task(file, index, owner, environment)


def _environment() -> dict[str, str]:
    """What a job must know of this environment: a Ray worker has that of its cluster."""
    return {
        name: value for name, value in os.environ.items() if name in _PASSED_ON or name.startswith(_PREFIX)
    }


def _check(address: str) -> None:
    """Refuse an address where nobody listens: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if not port.isdecimal() or "/" in host:
        return
    try:
        socket.create_connection((host, int(port)), timeout=_PATIENCE_S).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise Failed(
            f"no Ray cluster at {address!r}: {reason}. Give the address that 'ray start --head' has printed there, or "
            "none, to start one on this machine"
        ) from None


@contextlib.contextmanager
def _cluster(ray: Any, address: str, n_workers: int | None) -> Iterator[None]:
    """Be connected to a cluster; without an address, to one on this machine that ends with the block."""
    local = {"include_dashboard": False, "num_cpus": n_workers} if address == "local" else {}
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **local)
    except Exception as error:  # of many kinds
        where = "cannot be started here" if local else f"at {address!r} does not answer"
        raise Failed(f"a Ray cluster {where}: {first_line(error)}") from None
    try:
        yield
    finally:
        ray.shutdown()


def _problem(ray: Any, task: Any) -> str:
    """Why a task that has ended has not ended well; empty if it has."""
    try:
        ray.get(task)
    except ray.exceptions.RayError as error:
        return first_line(getattr(error, "cause", None) or error)
    return ""


def _stop(ray: Any, tasks: list[Any], grace_s: float) -> None:
    """Interrupt tasks, which lets their jobs write checkpoints, and end those that take longer."""
    for force in (False, True):
        for task in tasks:
            with contextlib.suppress(ray.exceptions.RayError, ValueError):
                ray.cancel(task, force=force)
        if tasks:
            _, tasks = ray.wait(tasks, num_returns=len(tasks), timeout=grace_s + 10)
