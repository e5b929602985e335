"""Upstream's launchers and ours, for upstream's sweep: its jobs re-enter through the plugin.

Upstream's sweep makes shell commands that start ``python -m domainbed.scripts.train``, which does not know the plugin.
So each command is rewritten to ``roga_domainbed upstream train`` of the same interpreter before it is launched. Job
folders are named before that and do not change.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence

from roga_domainbed.catalog.registry import load
from roga_domainbed.errors import Failed, RogaError
from roga_domainbed.launch import LAUNCHERS, Job, LauncherInfo, Options
from roga_domainbed.launch.job import State, failure_line

#: What upstream knows as a launcher: takes shell commands, returns nothing.
UpstreamLauncher = Callable[[list[str]], None]

_SCRIPTS = "python -m domainbed.scripts."
#: What a job of upstream's train imports, so that our workers run it warm.
_PRELOAD = ("torch", "torchvision", "timm", "roga_domainbed.trainer.warm")


def upstream_launchers(present: Mapping[str, UpstreamLauncher]) -> dict[str, UpstreamLauncher]:
    """Those of ``present`` with their commands rewritten, and ours: ``roga_<name>`` where a name is taken."""
    rewritten = {name: _rewriting(launcher) for name, launcher in present.items()}
    ours = {
        (f"roga_{info.name}" if info.name in present else info.name): _adapted(info)
        for info in LAUNCHERS
        if not info.is_queue
    }
    return {**rewritten, **ours}


def reenter(command: str) -> str:
    """The shell command of a job of upstream's, with the plugin; any other command as it is."""
    if not command.startswith(_SCRIPTS):
        return command
    return f"{shlex.quote(sys.executable)} -m roga_domainbed upstream {command.removeprefix(_SCRIPTS)}"


def _rewriting(launcher: UpstreamLauncher) -> UpstreamLauncher:
    def launch(commands: list[str]) -> None:
        launcher([reenter(command) for command in commands])

    return launch


def _adapted(info: LauncherInfo) -> UpstreamLauncher:
    def launch(commands: Sequence[str]) -> None:
        jobs = [_as_job(command) for command in commands]
        outcomes = load(info.target)(jobs, Options(preload=_PRELOAD))
        failed = [outcome for outcome in outcomes if outcome.failed]
        for outcome in failed:
            print(failure_line(outcome.job, outcome.exit_code, outcome.note), file=sys.stderr)
        undone = [state for job in jobs if (state := job.state) is not State.DONE] if info.runs else failed
        if undone:
            raise Failed(
                f"{len(undone)} of {len(jobs)} jobs are not done; {len(failed)} failed, their messages are above"
            )

    return launch


def _as_job(command: str) -> Job:
    if not command.startswith(_SCRIPTS):
        raise RogaError(
            f"this launcher runs the jobs of DomainBed's sweep alone; got the command {command!r}"
        )
    argv = ("upstream", *shlex.split(command.removeprefix(_SCRIPTS)))
    try:
        output_dir = argv[argv.index("--output_dir") + 1]
    except (ValueError, IndexError):
        raise RogaError(f"this job has no --output_dir: {command!r}") from None
    # Upstream's sweep has made the folder already; a job that runs or is done is left alone nevertheless.
    return Job(argv, output_dir, reenter(command), retry=True)
