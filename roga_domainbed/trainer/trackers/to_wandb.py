"""Weights & Biases: online, or in the run's folder ``wandb`` until ``wandb sync`` uploads it."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # read at the import

import wandb

from roga_domainbed.errors import first_line
from roga_domainbed.trainer.trackers.run_info import RunInfo
from roga_domainbed.trainer.trackers.tracking import NOTICE

PROJECT = "roga-domainbed"


class Tracker:
    """A run of W&B whose id stays the same when the training is resumed.

    Online, the server knows which steps it has. Offline, nobody does: there the resumed run is written whole, and
    takes the place of what was there of it.
    """

    def __init__(self, run: RunInfo, steps: Sequence[int]):
        identity = run.identity()
        if not isinstance(identity.get("id"), str):
            identity = {"id": uuid.uuid4().hex}
            run.remember(identity)
        self._id = identity["id"]
        try:
            self._run = self._begin(run, None)
        except wandb.errors.Error as error:  # no key, no network, no such server
            self._run = self._begin(run, "offline")
            reason = f" ({first_line(error).rstrip('.')})"
        else:
            reason = ""
        self._first = self._run.step
        if self._run.disabled:
            return
        if self._run.offline:
            self._delete_earlier()
            print(f"{NOTICE}--track wandb is offline{reason}: 'wandb sync {self._folder}' uploads the run")
        else:
            print(f"{NOTICE}--track wandb: {self._run.url}")

    def has(self, step: int) -> bool:
        """Whether the server has that record, from before the run was resumed."""
        return step < self._first

    def log(self, step: int, values: dict[str, float]) -> None:
        """Send one record."""
        self._run.log(values, step=step, commit=True)

    def finish(self, done: bool) -> None:
        """Send the rest; a run that is not done shows as failed, until it is resumed."""
        self._run.finish(exit_code=0 if done else 1)

    def _begin(self, run: RunInfo, mode: str | None) -> wandb.Run:
        own = {} if "WANDB_DIR" in os.environ else {"dir": run.folder}
        named = {} if "WANDB_PROJECT" in os.environ else {"project": PROJECT}
        grouped = {} if "WANDB_RUN_GROUP" in os.environ else {"group": run.group}
        settings = wandb.Settings(
            console="off",
            disable_git=True,
            disable_job_creation=True,
            silent=True,
            symlink=False,
            x_stats_pid=run.pid,
        )
        return wandb.init(
            id=self._id,
            name=run.name,
            config=run.config,
            resume="allow",
            mode=mode,
            settings=settings,
            **own,
            **named,
            **grouped,
        )

    @property
    def _folder(self) -> Path:
        return Path(self._run.dir).parent

    def _delete_earlier(self) -> None:
        for folder in self._folder.parent.glob(f"offline-run-*-{self._id}"):
            if folder != self._folder and not folder.is_symlink():
                shutil.rmtree(folder, ignore_errors=True)
