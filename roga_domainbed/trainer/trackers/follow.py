"""The process of one tracker: ``python -m roga_domainbed.trainer.trackers.follow``, started by ``tracking``.

The first line of its stdin is a ``RunInfo`` as JSON. Then it reads the run's ``results.jsonl`` as it grows, until
another line, the end of stdin or the death of the training, and sends what is left. What it prints is its log; a line
that begins with ``Notice:`` is for people.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from roga_domainbed.errors import first_line
from roga_domainbed.files import Busy, locked
from roga_domainbed.foreign import Malformed, parse_json
from roga_domainbed.processes import STOP_SIGNALS
from roga_domainbed.results.records import LONGEST_LINE, RECORDS, is_done
from roga_domainbed.trainer.trackers import MODULES
from roga_domainbed.trainer.trackers.run_info import RunInfo
from roga_domainbed.trainer.trackers.scalars import scalars
from roga_domainbed.trainer.trackers.tracking import NOTICE

_POLL_S = 1.0
#: How long to wait for the tracker of the same run before it was killed, which may still be sending.
_PATIENCE_S = 120.0
#: How long after the end of the training to go on with a server that does not answer.
_LAST_S = 600.0


class Tracker(Protocol):
    """One of the trackers. It is made with a ``RunInfo`` and the steps of the records that the run resumes from."""

    def has(self, step: int) -> bool:
        """Whether it has the record of that step, from the run before it was resumed."""

    def log(self, step: int, values: dict[str, float]) -> None:
        """Take the numbers of one record."""

    def finish(self, done: bool) -> None:
        """The training has ended; ``done``: with its last step, so that nobody resumes it."""


def main() -> None:
    """Follow the run that stdin names."""
    for name in STOP_SIGNALS:  # sent to all processes of a job: the training ends first, and says so
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    stdin = open(os.dup(0), "rb", buffering=0)  # noqa: SIM115 - without a lock that the end would wait for
    told = stdin.readline()
    if not told.endswith(b"\n"):  # the training died while it spoke
        return
    run = RunInfo(**json.loads(told))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # there is nobody to answer a package's question
    training_ended = threading.Event()
    threading.Thread(target=_wait_for_end, args=(stdin, run.pid, training_ended), daemon=True).start()
    try:
        with locked(run.log_path, patience_s=_PATIENCE_S):
            follow(run, training_ended)
        sys.stdout.flush()
    except Busy:
        _end_with(f"--track {run.tracker} is off: an earlier process of it still works on this run")
    except BaseException as error:
        said = first_line(error)
        _end_with(
            f"--track {run.tracker} is off from here on: {type(error).__name__}{': ' * bool(said)}{said.rstrip('.')}"
        )


def follow(run: RunInfo, training_ended: threading.Event) -> None:
    """Send the records that are stored and those that come, until the training has ended."""
    path = Path(run.folder, RECORDS)
    module = importlib.import_module(MODULES[run.tracker])
    records, offset = _records(path, 0, run.kept_bytes)
    tracker: Tracker = module.Tracker(run, [record["step"] for record in records])
    while True:
        for record in records:
            if not tracker.has(record["step"]):
                tracker.log(record["step"], scalars(record, run.environments))
        is_last = training_ended.wait(_POLL_S)
        records, offset = _records(path, offset)
        if is_last and not records:
            break
    tracker.finish(is_done(run.folder))


def _records(path: Path, offset: int, n_bytes: int = -1) -> tuple[list[dict[str, Any]], int]:
    """The whole records in the ``n_bytes`` after ``offset``, -1 for all there are, and where the last of them ends."""
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            content = file.read(n_bytes)
    except FileNotFoundError:
        return [], offset
    end = content.rfind(b"\n") + 1
    return list(_parsed(content[:end].splitlines())), offset + end


def _parsed(lines: Sequence[bytes]) -> Iterator[dict[str, Any]]:
    for line in lines:
        with contextlib.suppress(Malformed):
            record = parse_json(line, dict) if len(line) <= LONGEST_LINE else {}
            if type(record.get("step")) is int:
                yield record


def _wait_for_end(stdin: Any, pid: int, training_ended: threading.Event) -> None:
    # Of a training that was killed, readers of images may live on and hold the pipe: its end alone does not tell.
    threading.Thread(target=lambda: (stdin.readline(), training_ended.set()), daemon=True).start()
    while not training_ended.wait(_POLL_S):
        if os.name != "nt" and os.getppid() != pid:
            training_ended.set()
    time.sleep(_LAST_S)
    os._exit(1)


def _end_with(sentence: str) -> None:
    print(f"{NOTICE}{sentence}", flush=True)
    os._exit(1)  # whatever the package would still wait for


if __name__ == "__main__":
    main()
