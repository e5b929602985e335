"""Commands in, outcomes out: the launchers by name. No torch, and nothing of what the commands do.

To add one: a function ``(commands, options) -> iterator of outcomes`` in a file here and a row below; from
another package, ``LAUNCHERS.add(...)``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from roga_domainbed.catalog.registry import Registry
from roga_domainbed.launch.jobfile import STOPPED


@dataclass(frozen=True)
class Command:
    """One job to run.

    Attributes:
        argv: the arguments of the entry, for ``roga_domainbed.cli:main`` ``("train", …)``.
        output_dir: its folder; the launcher makes it when the job starts, and writes job.log and job.json there.
        text: the command for display.
        retry: whether the folder may exist already; otherwise a folder that exists belongs to another launch
            of the same sweep, and the job is left to it.
    """

    argv: tuple[str, ...]
    output_dir: str
    text: str
    retry: bool = False


@dataclass(frozen=True)
class Outcome:
    """How one command ended.

    Attributes:
        command: the command.
        exit_code: 0 for success; negative: ended by that signal, as in ``subprocess``; None if it is unknown
            because the worker died, or if the command was not run.
        seconds: wall time.
        log_path: where stdout and stderr went; empty if there is no log.
        note: what the exit code does not say, else empty.
        skipped: True if another launch has the job.
    """

    command: Command
    exit_code: int | None
    seconds: float = 0.0
    log_path: str = ""
    note: str = ""
    skipped: bool = False

    @property
    def stopped(self) -> bool:
        """Whether it was told to stop, and goes on when it is launched again."""
        return self.exit_code == STOPPED

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
    """Runs commands and yields one outcome each, as they end; closing the iterator ends what still runs."""

    def __call__(self, commands: Sequence[Command], options: Options) -> Iterator[Outcome]:
        """Start."""
        ...


@dataclass(frozen=True)
class LauncherInfo:
    """A launcher: ``target`` is ``"module:function"``, a ``Launcher``."""

    name: str
    target: str
    summary: str


LAUNCHERS: Registry[LauncherInfo] = Registry("launcher")
LAUNCHERS.add(
    LauncherInfo(
        "local", "roga_domainbed.launch.local:launch_local", "--n_workers warm processes on this machine"
    )
)
LAUNCHERS.add(
    LauncherInfo("dummy", "roga_domainbed.launch.dummy:launch_dummy", "print the commands, run nothing")
)
LAUNCHERS.add(
    LauncherInfo(
        "multi_gpu", "roga_domainbed.launch.multi_gpu:launch_multi_gpu", "as local, a worker for each GPU"
    )
)
