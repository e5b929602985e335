"""A job is a value: train arguments, their hash, and the folder of that name.

The hash and the command string are upstream's, so that either tool finds the other's folders.
"""

from __future__ import annotations

import enum
import hashlib
import json
import os
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from roga_domainbed.launch import Command
from roga_domainbed.launch.jobfile import (
    JOB_FILE,
    LOCK_FILE,
    LOG_FILE,
    STOPPED,
    describe_exit,
    is_running,
    read_job_file,
)
from roga_domainbed.results.records import ERRORS, is_done


class State(enum.Enum):
    """What a job's folder shows."""

    DONE = "Done"
    RUNNING = "Running"
    FAILED = "Failed"
    INCOMPLETE = "Incomplete"
    NOT_LAUNCHED = "Not launched"


#: States that upstream calls Incomplete: a folder without the ``done`` marker.
UNFINISHED = (State.RUNNING, State.FAILED, State.INCOMPLETE)


@dataclass(frozen=True)
class Job:
    """One training of a sweep.

    Attributes:
        train_args: the arguments of ``train``, without ``output_dir``.
        sweep_output_dir: the folder of the sweep.
    """

    train_args: Mapping[str, Any]
    sweep_output_dir: str

    @cached_property
    def id(self) -> str:
        """MD5 of the arguments as JSON with sorted keys: 32 hexadecimal digits, the folder's name."""
        text = json.dumps(dict(self.train_args), sort_keys=True)
        return hashlib.md5(text.encode("utf-8")).hexdigest()

    @cached_property
    def output_dir(self) -> str:
        """The job's folder."""
        return os.path.join(self.sweep_output_dir, self.id)

    @property
    def command_str(self) -> str:
        """Upstream's shell command."""
        words = ["python", "-m", "domainbed.scripts.train"]
        for name, value in self._flags():
            words.append(f"--{name}")
            if isinstance(value, list):
                words += map(str, value)
            elif value is not True:
                words.append(shlex.quote(value) if isinstance(value, str) else str(value))
        return " ".join(words)

    @property
    def argv(self) -> tuple[str, ...]:
        """The arguments of ``roga-domainbed`` that run this job."""
        words = ["train"]
        for name, value in self._flags():
            words.append(f"--{name}")
            if isinstance(value, list):
                words += map(str, value)
            elif value is not True:
                words.append(str(value))
        return tuple(words)

    @property
    def state(self) -> State:
        """What the folder shows now."""
        return folder_state(self.output_dir)

    @property
    def is_ours(self) -> bool:
        """Whether our trainer or launcher has worked in the folder; one of upstream's may be at work unseen."""
        return any(os.path.exists(os.path.join(self.output_dir, name)) for name in (JOB_FILE, LOCK_FILE))

    @property
    def exit_code(self) -> int | None:
        """How the last attempt ended; None if it did not, or was made by upstream."""
        file = read_job_file(self.output_dir)
        return None if file is None else file.exit_code

    @property
    def reason(self) -> str:
        """Why the last attempt failed, as our trainer wrote it; empty where it could not."""
        try:
            text = (Path(self.output_dir) / ERRORS).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        found = [line for line in text.splitlines() if line.startswith("error: ")]
        return found[-1].removeprefix("error: ") if found else ""

    @property
    def log_path(self) -> str:
        """Where the job's output goes."""
        return os.path.join(self.output_dir, LOG_FILE)

    def __str__(self) -> str:
        return self.describe(self.state)

    def describe(self, state: State) -> str:
        """Upstream's line: state, folder, and (dataset, algorithm, test_envs, hparams_seed)."""
        args = self.train_args
        what = (args["dataset"], args["algorithm"], args["test_envs"], args["hparams_seed"])
        return f"{state.value}: {self.output_dir} {what}"

    @property
    def label(self) -> str:
        """A short name for messages: ``1f3a9c (SynthFake, RoGA, test envs [2])``."""
        args = self.train_args
        return f"{self.id[:6]} ({args['dataset']}, {args['algorithm']}, test envs {args['test_envs']})"

    def command(self, *, retry: bool = False) -> Command:
        """The job for a launcher; with ``retry`` it goes on from what an earlier attempt left."""
        return Command(self.argv, self.output_dir, self.command_str, retry)

    def _flags(self) -> Iterable[tuple[str, Any]]:
        flags = {**self.train_args, "output_dir": self.output_dir}
        # "is", because 0 equals False and hparams_seed 0 is a value.
        return ((k, flags[k]) for k in sorted(flags) if flags[k] is not None and flags[k] is not False)


def folder_state(folder: str | os.PathLike) -> State:
    """What a job's folder shows now."""
    if is_done(folder):
        return State.DONE
    if not os.path.isdir(folder):
        return State.NOT_LAUNCHED
    if is_running(folder):
        return State.RUNNING
    job = read_job_file(folder)
    failed = job is not None and job.exit_code not in (None, 0, STOPPED)
    return State.FAILED if failed else State.INCOMPLETE


def failure_line(job: Job, exit_code: int | None, note: str = "") -> str:
    """One line for a job that failed: which, how, and where to read why."""
    note = note or (job.reason if exit_code and exit_code > 0 else "")
    note = f" ({note})" if note else ""
    log = f"; log: {job.log_path}" if os.path.exists(job.log_path) else ""
    return f"Job {job.label} {describe_exit(exit_code)}{note}{log}"
