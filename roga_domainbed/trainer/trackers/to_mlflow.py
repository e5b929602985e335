"""MLflow: the server that MLFLOW_TRACKING_URI names, or ``mlflow.db`` in the folder that one is in."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read at the import

import mlflow
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException

from roga_domainbed.trainer.trackers.run_info import RunInfo

EXPERIMENT = "roga-domainbed"
_URI, _EXPERIMENT = "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"
_STEP = "epoch"  # which every record has
_MOST_METRICS, _MOST_PARAMS = 1000, 100  # of one request
_LONGEST = 6000  # characters of a parameter
_NOT_ALLOWED = re.compile(r"[^\w\-. :/]", re.ASCII)


class Tracker:
    """A run of MLflow whose id stays the same when the training is resumed."""

    def __init__(self, run: RunInfo, steps: Sequence[int]):
        identity = run.identity()
        default = None if os.environ.get(_URI) else identity.get("default") or _default_store()
        self._client = mlflow.MlflowClient(tracking_uri=default or os.environ[_URI])
        self._id = self._resumed(identity.get("run_id"))
        self._steps: set[int] = set()
        if self._id is None:
            self._id = self._begun(run)
            run.remember({"run_id": self._id, "default": default})
        else:
            self._client.update_run(self._id, status="RUNNING")
            self._steps = {metric.step for metric in self._client.get_metric_history(self._id, _STEP)}

    def has(self, step: int) -> bool:
        """Whether the store has that record, from before the run was resumed."""
        return step in self._steps

    def log(self, step: int, values: dict[str, float]) -> None:
        """Send one record."""
        now = int(time.time() * 1000)
        # by the last request it is known that the others were answered
        ordered = sorted(values.items(), key=lambda item: item[0] == _STEP)
        metrics = [Metric(_allowed(name), value, now, step) for name, value in ordered]
        for place in range(0, len(metrics), _MOST_METRICS):
            self._client.log_batch(self._id, metrics=metrics[place : place + _MOST_METRICS])

    def finish(self, done: bool) -> None:
        """Say how the training ended."""
        self._client.set_terminated(self._id, status="FINISHED" if done else "KILLED")

    def _resumed(self, run_id: Any) -> str | None:
        """``run_id`` if this store has the run."""
        if not isinstance(run_id, str):
            return None
        try:
            found = self._client.get_run(run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        return run_id if found.info.lifecycle_stage == "active" else None

    def _begun(self, run: RunInfo) -> str:
        name = os.environ.get(_EXPERIMENT) or run.group or EXPERIMENT
        run_id = self._client.create_run(
            self._experiment(name), run_name=run.name, tags={"folder": run.folder}
        ).info.run_id
        params = _params(run.flat_config())
        for place in range(0, len(params), _MOST_PARAMS):
            self._client.log_batch(run_id, params=params[place : place + _MOST_PARAMS])
        return run_id

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return self._client.create_experiment(name)
            except MlflowException:  # another job of the sweep was first
                found = self._client.get_experiment_by_name(name)
                if found is None:
                    raise
        return found.experiment_id


def _default_store() -> str:
    uri = mlflow.get_tracking_uri()
    # MLflow's own default, but where it finds ./mlruns, a store of files, which it refuses to write.
    return uri if uri.startswith("sqlite:") else f"sqlite:///{Path('mlflow.db').absolute()}"


def _params(config: Mapping[str, Any]) -> list[Param]:
    return [Param(_allowed(name), str(value)[:_LONGEST]) for name, value in config.items()]


def _allowed(name: str) -> str:
    """``name`` without the characters that MLflow refuses."""
    return _NOT_ALLOWED.sub("_", name)
