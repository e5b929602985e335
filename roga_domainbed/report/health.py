"""The state of every run of a sweep: finished, running, failed or unfinished, and whether it has records."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from roga_domainbed.errors import RogaError
from roga_domainbed.launch.job import State, folder_state
from roga_domainbed.launch.jobfile import JOB_FILE, LOG_FILE, describe_exit, read_job_file
from roga_domainbed.results.packed import PackedRun, packed_runs
from roga_domainbed.results.rows import row_name
from roga_domainbed.results.runs import Run


@dataclass(frozen=True)
class RunHealth:
    """One run folder.

    Attributes:
        folder: its path.
        dataset: from its records, else from the arguments in its job file; ``?`` if neither has it.
        row: likewise; the row of the tables that the run belongs to.
        test_envs: likewise, such as ``0 2``.
        state: what the folder shows.
        last_step: the highest step it has a record of; None where there is no record.
        detail: of a failed run: how it ended and where its log is; else empty.
    """

    folder: str
    dataset: str
    row: str
    test_envs: str
    state: State
    last_step: int | None
    detail: str = ""

    @property
    def has_records(self) -> bool:
        """Whether there is at least one record."""
        return self.last_step is not None


def run_health(folders: Sequence[str | os.PathLike], runs: Sequence[Run]) -> list[RunHealth]:
    """Every run below ``folders`` that has records or a job file, in sorted order."""
    args_of = {run.source: run.args for run in runs}
    last_steps: dict[str, int] = {}
    for run in runs:
        last_steps[run.source] = max([*run.steps, last_steps.get(run.source, 0)])
    found = []
    for folder in folders:
        packed = _packed_in(folder)
        for name in sorted({*_names_in(folder), *packed}):
            source, run = f"{os.fspath(folder)}/{name}", packed.get(name)
            has_job = run.argv if run is not None else os.path.exists(os.path.join(source, JOB_FILE))
            if has_job or source in args_of:
                found.append(_of_folder(source, args_of.get(source), last_steps.get(source), run))
    return found


def _names_in(folder: str | os.PathLike) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:  # has been said when its records were read
        return []


def _packed_in(folder: str | os.PathLike) -> dict[str, PackedRun]:
    try:
        return packed_runs(folder)
    except RogaError:  # likewise
        return {}


def _of_folder(source: str, args: dict | None, last_step: int | None, packed: PackedRun | None) -> RunHealth:
    if packed is not None:
        state, argv, exit_code = State(packed.state), packed.argv, packed.exit_code
    else:
        state, job = folder_state(source), read_job_file(source)
        argv, exit_code = ((), None) if job is None else (job.argv, job.exit_code)
    names = ["?", "?", "?"]
    if args is not None:
        names = [args["dataset"], row_name(args), " ".join(map(str, args["test_envs"]))]
    elif argv:
        row = "--row" if "--row" in argv else "--algorithm"
        names = [_option(argv, option) for option in ("--dataset", row, "--test_envs")]
    detail = ""
    if state is State.FAILED:
        log = os.path.join(source, LOG_FILE)
        detail = describe_exit(exit_code) + (f"; log: {log}" if os.path.exists(log) else "")
    return RunHealth(source, *names, state, last_step, detail)


def _option(argv: Sequence[str], option: str) -> str:
    """The values that follow an option, joined; ``?`` if it is not there."""
    if option not in argv:
        return "?"
    values = []
    for word in argv[argv.index(option) + 1 :]:
        if str(word).startswith("--"):
            break
        values.append(str(word))
    return " ".join(values) or "?"
