"""The records file ``results.jsonl``: the only bridge between training and reporting.

One JSON object a line, keys sorted, ASCII, as upstream writes it; either reader reads either file.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RECORDS = "results.jsonl"
DONE = "done"

Record = dict[str, Any]


@dataclass
class Loaded:
    """What reading found.

    Attributes:
        records: in file order; folders in sorted order.
        problems: one sentence for every line that was skipped, with file and line.
        folders: the run folders that had a records file.
    """

    records: list[Record] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)


def append_record(folder: str | os.PathLike, record: Record) -> None:
    """Append one record to ``folder``'s file, flushed to disk; where that fails the file stays as it was."""
    line = json.dumps(record, sort_keys=True) + "\n"
    path = Path(folder) / RECORDS
    before = path.stat().st_size if path.exists() else 0
    try:
        with open(path, "a", encoding="ascii") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        with contextlib.suppress(OSError):
            os.truncate(path, before)
        raise


def mark_done(folder: str | os.PathLike) -> None:
    """Write upstream's ``done`` marker (four bytes); call it after the last record is on disk."""
    partial = Path(folder) / (DONE + ".part")
    partial.write_text("done")
    os.replace(partial, Path(folder) / DONE)


def is_done(folder: str | os.PathLike) -> bool:
    """Whether the run in ``folder`` finished."""
    return (Path(folder) / DONE).exists()


def read_file(path: str | os.PathLike, loaded: Loaded) -> None:
    """Read one records file into ``loaded``; a line that is no record is skipped and named."""
    with open(path, "rb") as file:
        for number, raw in enumerate(file, 1):
            try:
                record = json.loads(raw)
            except ValueError:
                loaded.problems.append(f"{path}, line {number}: not a JSON record, skipped")
                continue
            if not _is_record(record):
                loaded.problems.append(f"{path}, line {number}: not a DomainBed record, skipped")
                continue
            loaded.records.append(record)


def load(folder: str | os.PathLike) -> Loaded:
    """Read ``<folder>/<run>/results.jsonl`` of every run, in the sorted order of the run folders.

    A run folder without the file is passed over, as upstream does: it has not started.
    """
    loaded = Loaded()
    for run in sorted(os.listdir(folder)):
        path = os.path.join(folder, run, RECORDS)
        try:
            read_file(path, loaded)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            loaded.problems.append(f"{path}: {error.strerror}, skipped")
            continue
        loaded.folders.append(run)
    return loaded


def _is_record(record: Any) -> bool:
    if not isinstance(record, dict) or not isinstance(record.get("args"), dict):
        return False
    args = record["args"]
    numbers = [record.get("step"), args.get("trial_seed"), args.get("hparams_seed")]
    names = [args.get("dataset"), args.get("algorithm")]
    test_envs = args.get("test_envs")
    return (
        isinstance(test_envs, list)
        and all(isinstance(number, int) for number in numbers + test_envs)
        and all(isinstance(name, str) for name in names)
    )
