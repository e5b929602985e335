"""Jobs in, outcomes out: the launchers by name. No torch, and nothing of what the jobs do.

To add one: a function ``(jobs, options) -> iterator of outcomes`` in a file here and a row below; from another
package, ``LAUNCHERS.add(...)``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from roga_domainbed.catalog.registry import Registry
from roga_domainbed.launch.job import Job
from roga_domainbed.launch.jobfile import INTERRUPTED, STOPPED

MOST_WORKERS = 1024  # jobs at a time

__all__ = ["LAUNCHERS", "MOST_WORKERS", "Job", "Launcher", "LauncherInfo", "Options", "Outcome"]


@dataclass(frozen=True)
class Outcome:
    """How one job ended.

    Attributes:
        job: the job.
        exit_code: 0 for success; negative: ended by that signal, as in ``subprocess``; None if it is unknown
            because the worker died, or if the job was not run.
        note: what the exit code does not say, else empty.
        skipped: True if another launch has the job.
        submitted: True if it waits in a cluster's queue, and the launcher does not wait for it.
    """

    job: Job
    exit_code: int | None
    note: str = ""
    skipped: bool = False
    submitted: bool = False

    @property
    def stopped(self) -> bool:
        """Whether it was told to stop; launched again, it resumes."""
        return self.exit_code in (STOPPED, INTERRUPTED)

    @property
    def failed(self) -> bool:
        """Whether it ran and did not succeed."""
        return self.exit_code != 0 and not (self.stopped or self.skipped or self.submitted)


@dataclass(frozen=True)
class Options:
    """What every launcher is told; each takes what is for it.

    Attributes:
        n_workers: jobs at a time on this machine; None for the launcher's own default.
        entry: ``"module:function"``, called with the argv list, returns the exit code.
        preload: modules a worker imports once, so that jobs start warm.
        folder: of the sweep; launchers may keep files of their own in it.
        jobs_per_gpu: how many jobs share a GPU at a time.
        jobs_per_task: how many jobs a place in a cluster's queue runs in turn, in one warm worker.
        max_parallel: places in a cluster's queue that run at a time; None for no limit.
        wait: whether a launcher that could leave its jobs to a queue waits for them.
        owner: the place in a queue that this process is; its jobs are taken from an earlier run of the same place.
        grace_s: seconds that jobs have for a checkpoint when they are told to stop.
        cpus: processors of a place in Ray's queue.
        slurm: what ``slurm_options`` of ``launch/slurm.py`` gives: long options of ``sbatch`` without their dashes.
        address: of a Ray cluster; None starts one on this machine.
    """

    n_workers: int | None = None
    entry: str = "roga_domainbed.cli:main"
    preload: tuple[str, ...] = ()
    folder: str | None = None
    jobs_per_gpu: int = 1
    jobs_per_task: int = 1
    max_parallel: int | None = None
    wait: bool = False
    owner: str = ""
    grace_s: float = 60.0
    cpus: int = 1
    slurm: Mapping[str, Any] = field(default_factory=dict)
    address: str | None = None


class Launcher(Protocol):
    """Runs jobs and yields one outcome each, as they end; closing the iterator stops those that still run.

    They are asked for a checkpoint first. Jobs that wait in a cluster's queue stay there.
    """

    def __call__(self, jobs: Sequence[Job], options: Options) -> Iterator[Outcome]:
        """Start."""
        ...


@dataclass(frozen=True)
class LauncherInfo:
    """A launcher.

    Attributes:
        name: of ``--command_launcher``.
        target: ``"module:function"``, a ``Launcher``.
        summary: one line.
        runs: whether the jobs run; False where they are only shown.
        is_queue: whether it needs options of a cluster, which DomainBed's own sweep does not have.
    """

    name: str
    target: str
    summary: str
    runs: bool = True
    is_queue: bool = False


LAUNCHERS: Registry[LauncherInfo] = Registry("launcher")
for _info in (
    LauncherInfo(
        "local",
        "roga_domainbed.launch.local:launch_local",
        "--n_workers warm processes here, spread over the GPUs",
    ),
    LauncherInfo(
        "dummy", "roga_domainbed.launch.dummy:launch_dummy", "print the commands, run nothing", runs=False
    ),
    LauncherInfo("multi_gpu", "roga_domainbed.launch.multi_gpu:launch_multi_gpu", "as local, on GPUs alone"),
    LauncherInfo(
        "slurm", "roga_domainbed.launch.slurm:launch_slurm", "as job arrays of a Slurm cluster", is_queue=True
    ),
    LauncherInfo("ray", "roga_domainbed.launch.ray:launch_ray", "as tasks of a Ray cluster", is_queue=True),
):
    LAUNCHERS.add(_info)
