"""A job: a command with a folder of its own, and what that folder shows."""

from __future__ import annotations

import enum
import itertools
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from roga_domainbed.foreign import open_regular, printable
from roga_domainbed.launch.jobfile import (
    INTERRUPTED,
    LOCK_FILE,
    LOG_FILE,
    STOPPED,
    attempts,
    describe_exit,
    is_running,
    newest_attempt,
    read_job_file,
)
from roga_domainbed.results.records import ERRORS, is_done, is_dropped
from roga_domainbed.results.rows import row_name


class State(enum.Enum):
    """What a job's folder shows; ``WAITING`` is what a cluster's queue says of a job that does not run.

    ``DROPPED``: successive halving ended the search of its hyper-parameters early.
    """

    DONE = "Done"
    RUNNING = "Running"
    WAITING = "Waiting"
    FAILED = "Failed"
    INTERRUPTED = "Interrupted"
    DROPPED = "Dropped"
    NOT_LAUNCHED = "Not launched"


#: States that upstream calls Incomplete: a folder without the ``done`` marker.
UNFINISHED = (State.RUNNING, State.FAILED, State.INTERRUPTED)


_END = 2**16  # bytes at the end of a log that are looked through
#: What a command of ours says, or the last line of Python's traceback.
_ERROR = re.compile(r"(?:roga-domainbed [\w-]+: )?error: (.+)|([\w.]*(?:Error|Exception)(?:: .+)?)")


@dataclass(frozen=True)
class Job:
    """A command with a folder of its own.

    Attributes:
        argv: the arguments of ``roga-domainbed``: ``("train", ...)``.
        output_dir: its folder. The launcher makes it when the job starts, and writes job.log and job.json there.
        text: the command for display.
        train_args: the arguments of ``train`` by name; empty where they are not known.
        retry: whether the folder may exist already. Otherwise a folder that exists belongs to another launch of
            the same sweep, and the job is left to it.
    """

    argv: tuple[str, ...]
    output_dir: str
    text: str = ""
    train_args: Mapping[str, Any] = field(default_factory=dict, compare=False)
    retry: bool = False

    @property
    def id(self) -> str:
        """The name of its folder."""
        return os.path.basename(self.output_dir)

    @property
    def state(self) -> State:
        """What the folder shows now."""
        return folder_state(self.output_dir)

    @property
    def is_ours(self) -> bool:
        """Whether our trainer or launcher has worked in the folder; one of upstream's may be at work unseen."""
        return bool(attempts(self.output_dir)) or os.path.exists(os.path.join(self.output_dir, LOCK_FILE))

    @property
    def is_empty(self) -> bool:
        """Whether the folder is there and has nothing in it: whoever made it was killed in that instant."""
        try:
            return not os.listdir(self.output_dir)
        except OSError:
            return False

    @property
    def attempts(self) -> int:
        """How many attempts a launcher of ours has made."""
        return attempts(self.output_dir)

    @property
    def exit_code(self) -> int | None:
        """How the last attempt ended; None if it did not, or was made by upstream."""
        file = read_job_file(self.output_dir)
        return None if file is None else file.exit_code

    @property
    def reason(self) -> str:
        """Why the last attempt failed: the last error in its log, else in err.txt; empty if neither has one."""
        for name in (LOG_FILE, ERRORS):
            found = _last_error(os.path.join(self.output_dir, name))
            if found:
                return found
        return ""

    @property
    def log_path(self) -> str:
        """Where the job's output goes."""
        return os.path.join(self.output_dir, LOG_FILE)

    @property
    def where_to_read(self) -> str:
        """The end of a sentence about the job: where its log is; empty if there is none."""
        return f"; log: {self.log_path}" if os.path.exists(self.log_path) else ""

    @property
    def row(self) -> str:
        """The row of result tables that it belongs to: that of the plan, else its algorithm."""
        return row_name(self.train_args)

    def describe(self, state: State) -> str:
        """Upstream's line: state, folder, and (dataset, algorithm or row, test_envs, hparams_seed)."""
        args = self.train_args
        what = (args["dataset"], self.row, args["test_envs"], args["hparams_seed"])
        return f"{state.value}: {self.output_dir} {what}"

    @property
    def label(self) -> str:
        """A short name for messages: ``1f3a9c (SynthFake, RoGA, test envs [2])``."""
        if not self.train_args:
            return self.output_dir
        return f"{self.id[:6]} ({self.train_args['dataset']}, {self.row}, test envs {self.train_args['test_envs']})"


def _last_error(path: str) -> str:
    try:
        with open_regular(path) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _END))
            lines = file.read(_END).decode("utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    found = [(number, match) for number, line in enumerate(lines) if (match := _ERROR.fullmatch(line))]
    if not found:
        return ""
    number, match = found[-1]
    text = match[1] or match[2]
    if text.endswith(":"):  # the list of several follows, indented
        more = itertools.takewhile(lambda line: line.startswith("  "), lines[number + 1 :])
        text = " ".join([text, *map(str.strip, more)])
    return printable(text)


def folder_state(folder: str | os.PathLike) -> State:
    """What a job's folder shows now."""
    if is_done(folder):
        return State.DONE
    if not os.path.isdir(folder):
        return State.NOT_LAUNCHED
    newest = newest_attempt(folder)
    if is_running(folder, newest):
        return State.RUNNING
    if is_dropped(folder):
        return State.DROPPED
    _, job = newest
    # Killed by a signal is not failed: the next launch goes on with it.
    failed = job is not None and (job.exit_code or 0) > 0 and job.exit_code not in (STOPPED, INTERRUPTED)
    return State.FAILED if failed else State.INTERRUPTED


def failure_line(job: Job, exit_code: int | None, note: str = "") -> str:
    """One line for a job that failed: which, how, and where to read why."""
    note = note or (job.reason if exit_code and exit_code > 0 else "")
    note = f" ({note})" if note else ""
    return f"Job {job.label} {describe_exit(exit_code)}{note}{job.where_to_read}"
