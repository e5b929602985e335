"""Jobs in, outcomes out: the launchers by name. No torch, and nothing of what the jobs do.

To add one: a function ``(jobs, options) -> iterator of outcomes`` in a file here and a row below; from another
package, ``LAUNCHERS.add(...)``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

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
    """

    job: Job
    exit_code: int | None
    note: str = ""
    skipped: bool = False

    @property
    def stopped(self) -> bool:
        """Whether it was told to stop; launched again, it resumes."""
        return self.exit_code in (STOPPED, INTERRUPTED)

    @property
    def failed(self) -> bool:
        """Whether it ran and did not succeed."""
        return self.exit_code != 0 and not self.stopped and not self.skipped


@dataclass(frozen=True)
class Options:
    """What every launcher is told.

    Attributes:
        n_workers: jobs at a time; None for the launcher's own default.
        entry: ``"module:function"``, called with the argv list, returns the exit code.
        preload: modules a worker imports once, so that jobs start warm.
    """

    n_workers: int | None = None
    entry: str = "roga_domainbed.cli:main"
    preload: tuple[str, ...] = ()


class Launcher(Protocol):
    """Runs jobs and yields one outcome each, as they end; closing the iterator ends those that still run."""

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
    """

    name: str
    target: str
    summary: str
    runs: bool = True


LAUNCHERS: Registry[LauncherInfo] = Registry("launcher")
for _info in (
    LauncherInfo(
        "local", "roga_domainbed.launch.local:launch_local", "--n_workers warm processes on this machine"
    ),
    LauncherInfo(
        "dummy", "roga_domainbed.launch.dummy:launch_dummy", "print the commands, run nothing", runs=False
    ),
    LauncherInfo(
        "multi_gpu", "roga_domainbed.launch.multi_gpu:launch_multi_gpu", "as local, a worker for each GPU"
    ),
):
    LAUNCHERS.add(_info)
