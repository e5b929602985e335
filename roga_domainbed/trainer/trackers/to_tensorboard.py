"""TensorBoard: event files in the run's folder ``tensorboard``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import summary_v2 as hparams
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from roga_domainbed.launch.folders import TENSORBOARD
from roga_domainbed.trainer.trackers.run_info import RunInfo


class Tracker:
    """Writes one event a record: a reader sees all of its numbers or none."""

    def __init__(self, run: RunInfo, steps: Sequence[int]):
        folder = Path(run.folder, TENSORBOARD)
        there = _steps_in(folder)
        self._kept = -1
        for step in steps:
            if step not in there:
                break
            self._kept = step
        self._writer = EventFileWriter(str(folder), flush_secs=1)
        if there:
            # What a killed run wrote after the checkpoint that this one begins with comes anew; readers drop it.
            start = SessionLog(status=SessionLog.START)
            self._writer.add_event(Event(step=self._kept + 1, wall_time=time.time(), session_log=start))
        else:
            # the page HPARAMS takes text, numbers and truth values
            config = {
                name: value if isinstance(value, (bool, int, float, str)) else str(value)
                for name, value in run.flat_config().items()
            }
            about = hparams.hparams_pb({"run": run.name, **config}, trial_id=run.folder)
            self._writer.add_event(Event(step=0, wall_time=time.time(), summary=about))

    def has(self, step: int) -> bool:
        """Whether an earlier event file has that record."""
        return step <= self._kept

    def log(self, step: int, values: dict[str, float]) -> None:
        """Write the event of one record."""
        summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])
        self._writer.add_event(Event(step=step, wall_time=time.time(), summary=summary))
        self._writer.flush()

    def finish(self, done: bool) -> None:
        """Close the file."""
        self._writer.close()


def _steps_in(folder: Path) -> set[int]:
    """The steps of the records in the folder's event files, up to where one is damaged."""
    if not folder.is_dir():
        return set()
    # a second to import; a new run does without
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    reader.Reload()
    return {event.step for tag in reader.Tags()["scalars"] for event in reader.Scalars(tag)}
