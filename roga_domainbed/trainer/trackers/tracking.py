"""The side of the training: it starts the processes of the trackers, and prints what they have to say."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from roga_domainbed.launch.jobfile import describe_exit
from roga_domainbed.trainer.trackers.run_info import RunInfo

if TYPE_CHECKING:
    from roga_domainbed.trainer.experiment import Experiment

#: How long the end of a run waits for its trackers, all together. One that takes longer goes on without us.
PATIENCE_S = 30.0
NOTICE = "Notice: "


class Tracking:
    """The trackers of a run, from the start of the block to its end; none of them can make the training fail.

    Args:
        experiment: with ``config.track``, the names of the trackers.
        folder: of the run. Its ``results.jsonl`` holds the records that the run goes on from, and no others.
    """

    def __init__(self, experiment: Experiment, folder: Path):
        names = dict.fromkeys(experiment.config.track or ())
        self._followers = [_Follower(RunInfo.of(experiment, folder, name)) for name in names]

    def __enter__(self) -> Tracking:
        for follower in self._followers:
            follower.start()
        return self

    def __exit__(self, *exception: object) -> None:
        for follower in self._followers:
            follower.tell_end()
        deadline = time.monotonic() + PATIENCE_S
        for follower in self._followers:
            follower.wait(deadline)
        for sentence in self.notices():
            print(f"{NOTICE}{sentence}.")

    def notices(self) -> list[str]:
        """What the trackers have said since the last call, without waiting for them; sentences without full stop."""
        return [sentence for follower in self._followers for sentence in follower.notices()]


class _Follower:
    """The process of one tracker."""

    def __init__(self, run: RunInfo):
        self._run = run
        self._process: subprocess.Popen | None = None
        self._read_bytes = 0  # of its log
        self._pending: list[str] = []
        self._has_spoken = self._is_told = False

    def start(self) -> None:
        command = [sys.executable, "-m", "roga_domainbed.trainer.trackers.follow"]
        try:
            with open(self._run.log_path, "ab") as log:
                self._read_bytes = log.tell()
                # A session of its own: Ctrl-C is for the training, which then tells the tracker that it ends.
                self._process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
                )
            self._tell(json.dumps(dataclasses.asdict(self._run)))
        except OSError as error:
            self._pending.append(f"--track {self._run.tracker} cannot start: {error.strerror}")

    def tell_end(self) -> None:
        self._is_told = True
        if self._process is not None:
            with contextlib.suppress(OSError):
                self._tell("end")
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def wait(self, deadline: float) -> None:
        if self._process is None:
            return
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._pending.append(
                f"--track {self._run.tracker} is not done after {PATIENCE_S:g} s and goes on by itself; "
                f"{self._run.log_path} has what it says"
            )
            self._process.returncode = 0  # nobody will ask: Python warns of children that are left running

    def notices(self) -> list[str]:
        found, self._pending = self._pending, []
        if self._process is None:
            return found
        code = self._process.poll()  # before its last words are read
        said = self._said()
        self._has_spoken |= bool(said)
        if code and not self._has_spoken:
            self._has_spoken = True
            said.append(
                f"--track {self._run.tracker} is off from here on: its process {describe_exit(code)}; "
                f"{self._run.log_path} may say why"
            )
        return said + found

    def _tell(self, line: str) -> None:
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def _said(self) -> list[str]:
        """The whole lines of its log that are for people; its package's own are not."""
        try:
            with open(self._run.log_path, "rb") as log:
                log.seek(self._read_bytes)
                lines = log.read().rpartition(b"\n")[0]
        except OSError:
            return []
        self._read_bytes += len(lines) + bool(lines)
        texts = [line.decode("utf-8", errors="replace") for line in lines.splitlines()]
        return [text.removeprefix(NOTICE) for text in texts if text.startswith(NOTICE)]
