"""What a tracker is told about a run, beside its records."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from roga_domainbed.files import replacing
from roga_domainbed.foreign import Malformed, read_json
from roga_domainbed.results.records import RECORDS
from roga_domainbed.results.rows import row_name

if TYPE_CHECKING:
    from roga_domainbed.trainer.experiment import Experiment

_JOB_FOLDER = re.compile(r"[0-9a-f]{32}")  # of a sweep: the hash of the job's arguments
_LARGEST = 2**16  # bytes of a file of identity


@dataclass(frozen=True)
class RunInfo:
    """One run.

    Attributes:
        tracker: whom this is for.
        folder: the run's, absolute.
        name: for people: row, dataset, held-out environments, trial or seed.
        group: the name of the sweep's folder; None for a run of no sweep.
        environments: names of all environments, in index order.
        config: the arguments, and under ``hparams`` the hyper-parameters.
        pid: of the process that trains.
        kept_bytes: length of ``results.jsonl`` as the training begins or resumes; what was there after it is gone.
    """

    tracker: str
    folder: str
    name: str
    group: str | None
    environments: list[str]
    config: dict[str, Any]
    pid: int
    kept_bytes: int

    @classmethod
    def of(cls, experiment: Experiment, folder: Path, tracker: str) -> RunInfo:
        """What to tell ``tracker`` about the run of ``experiment`` in ``folder``."""
        folder = folder.absolute()
        group = folder.parent.name if _JOB_FOLDER.fullmatch(folder.name) else None
        args = experiment.config.record_args()
        held_out = [experiment.names[env] for env in args["test_envs"]]
        config = {**args, "row": row_name(args), "test_env_names": held_out, "hparams": experiment.hparams}
        name = _name(config, is_job=group is not None)
        records = folder / RECORDS
        kept = records.stat().st_size if records.exists() else 0
        return cls(tracker, str(folder), name, group, list(experiment.names), config, os.getpid(), kept)

    def flat_config(self) -> dict[str, Any]:
        """Name → value of all that is not None: ``dataset``, ``hparams.lr`` and so on."""
        flat = {name: value for name, value in self.config.items() if name != "hparams"}
        flat |= {f"hparams.{name}": value for name, value in self.config["hparams"].items()}
        return {name: value for name, value in flat.items() if value is not None}

    @property
    def log_path(self) -> Path:
        """Where the tracker's process writes what it and its package have to say."""
        return Path(self.folder, f"track_{self.tracker}.log")

    def identity(self) -> dict[str, Any]:
        """What ``remember`` kept when the run was begun; empty if it kept nothing that can be read."""
        try:
            return read_json(self._identity_path, dict, at_most=_LARGEST)
        except (OSError, Malformed):
            return {}

    def remember(self, identity: dict[str, Any]) -> None:
        """Keep by what name the tracker knows the run, so that a resumed run goes on with it.

        Raises:
            OSError: it cannot be written.
        """
        with replacing(self._identity_path) as partial:
            partial.write_text(json.dumps(identity) + "\n", encoding="utf-8")

    @property
    def _identity_path(self) -> Path:
        return Path(self.folder, f"track_{self.tracker}.json")


def _name(config: dict[str, Any], *, is_job: bool) -> str:
    """``RoGA, SynthFake, NT, trial 0`` of a sweep's job, whose seed is a hash; else ``…, seed 0``."""
    parts = [config["row"], config["dataset"], "+".join(config["test_env_names"])]
    if is_job or config["trial_seed"]:
        parts.append(f"trial {config['trial_seed']}")
    if config["hparams_seed"]:
        parts.append(f"hparams {config['hparams_seed']}")
    if not is_job:
        parts.append(f"seed {config['seed']}")
    return ", ".join(parts)
