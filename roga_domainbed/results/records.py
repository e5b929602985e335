"""The records file ``results.jsonl``: the only bridge between training and reporting.

One JSON object a line, keys sorted, ASCII, as upstream writes it; either reader reads either file.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from roga_domainbed.files import replacing

try:  # three times faster; the standard library reads whatever it refuses, such as NaN
    import orjson as _orjson
except ImportError:
    _orjson = None

RECORDS = "results.jsonl"
SCORES = "scores.parquet"  # beside it; trainer.scores says what is in it
DONE = "done"
ERRORS = "err.txt"
LONGEST_LINE = 16 * 2**20  # bytes; a record has some thousands
#: What says how the data of a run were split, thinned out and audited.
DATA_OPTIONS = ("split", "reals", "balance", "strict", "allow_leakage")

Record = dict[str, Any]


@dataclass
class Loaded:
    """What reading found.

    Attributes:
        records: in file order; folders in sorted order.
        sources: for every record the path of its run folder.
        problems: one sentence for every line that was skipped, with file and line.
        notes: one sentence for every file that was read whole and still needs a look: empty, or with NaN in it.
        folders: the run folders that had a records file.
    """

    records: list[Record] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
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


def cut_records(folder: str | os.PathLike, n_bytes: int) -> None:
    """Cut ``folder``'s file to its first ``n_bytes``: what a killed run wrote after the point it goes on from.

    Raises:
        ValueError: the file does not have so many, or no record ends there; it is as it was then.
    """
    path = Path(folder) / RECORDS
    content = path.read_bytes() if path.exists() else b""
    kept = content[:n_bytes]
    if len(kept) < n_bytes or (kept and not kept.endswith(b"\n")):
        raise ValueError(f"{path} has {len(content)} bytes, and no record ends after {n_bytes}")
    if len(content) > n_bytes:
        with open(path, "rb+") as file:
            file.truncate(n_bytes)
            os.fsync(file.fileno())


def mark_done(folder: str | os.PathLike) -> None:
    """Write upstream's ``done`` marker (four bytes); call it after the last record is on disk."""
    with replacing(Path(folder) / DONE) as partial:
        partial.write_text("done")


def is_done(folder: str | os.PathLike) -> bool:
    """Whether the run in ``folder`` finished."""
    # A Path for each of a sweep's folders would take longer.
    return os.path.exists(os.path.join(folder, DONE))


def read_file(path: str | os.PathLike, loaded: Loaded) -> None:
    """Read one records file into ``loaded``; a line that is no record is skipped and named.

    Args:
        path: of a ``results.jsonl``.
        loaded: what was found is added to it.
    """
    source = os.path.dirname(path)
    number, with_nan, args = 0, [], None
    with open(path, "rb") as file:
        for number, raw in enumerate(_lines(file), 1):
            try:
                record, has_nan = _parse(raw, args)
            except ValueError as error:
                loaded.problems.append(f"{path}, line {number}: {error}, skipped")
                continue
            if has_nan:
                with_nan.append(number)
            args = record["args"]
            loaded.records.append(record)
            loaded.sources.append(source)
    if not number:
        loaded.notes.append(f"{path}: empty")
    if with_nan:
        lines = f"line{'s' * (len(with_nan) > 1)} {', '.join(map(str, with_nan[:5]))}"
        more = f" and {len(with_nan) - 5} more" if len(with_nan) > 5 else ""
        loaded.notes.append(f"{path}, {lines}{more}: not finite numbers in it; NaN is never chosen")


def data_options(record: Record) -> dict[str, Any]:
    """What of the data a run was trained on, as far as it was said: those of ``DATA_OPTIONS`` that were given.

    Our trainer notes them among the arguments; DomainBed's own train, with the plugin in it, among the
    hyper-parameters.
    """
    args, hparams = record["args"], record.get("hparams")
    noted = hparams if isinstance(hparams, dict) else record
    found = {name: args.get(name) or noted.get(name) for name in DATA_OPTIONS}
    return {name: value for name, value in found.items() if value}


def load(folder: str | os.PathLike) -> Loaded:
    """Read ``<folder>/<run>/results.jsonl`` of every run, in the sorted order of the run folders.

    A run folder without the file is passed over, as upstream does: it has not started. For one metric of a large
    sweep there is ``runs.load_runs``.

    Args:
        folder: the ``output_dir`` of a sweep.
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


def _lines(file: Any) -> Iterator[bytes]:
    """The lines of a binary file, each cut after ``LONGEST_LINE`` + 1 bytes."""
    while raw := file.readline(LONGEST_LINE + 1):
        rest = raw
        while len(rest) > LONGEST_LINE and not rest.endswith(b"\n"):
            rest = file.readline(LONGEST_LINE + 1)
        yield raw


def _parse(raw: bytes, args: dict | None) -> tuple[Record, bool]:
    """The record of a line, and whether it has NaN or Infinity in it; ValueError says what is wrong.

    A record with args equal to ``args``, those of a record that was good, gets that very object.
    """
    if len(raw) > LONGEST_LINE:
        raise ValueError(f"longer than {LONGEST_LINE // 2**20} MiB")
    record, has_nan = None, False
    if _orjson is not None:
        with contextlib.suppress(ValueError):
            record = _orjson.loads(raw)
    if record is None:
        if not raw.strip():
            raise ValueError("blank")
        try:
            record = json.loads(raw)
        except (ValueError, RecursionError):
            raise ValueError("not a JSON record") from None
        has_nan = isinstance(record, dict) and any(
            isinstance(value, float) and not math.isfinite(value) for value in record.values()
        )
    if args is not None and isinstance(record, dict) and record.get("args") == args:
        record["args"] = args
        if isinstance(record.get("step"), int):
            return record, has_nan
    if not is_record(record):
        raise ValueError(f"not a DomainBed record{_lacking(record)}")
    return record, has_nan


def is_record(record: Any) -> bool:
    """Whether ``record`` has what every reader of records relies on: a step, and the arguments that tell runs apart."""
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


def _lacking(record: Any) -> str:
    if not isinstance(record, dict):
        return ""
    args = record.get("args")
    missing = [key for key in ("args", "step") if key not in record]
    if isinstance(args, dict):
        wanted = ("dataset", "algorithm", "test_envs", "trial_seed", "hparams_seed")
        missing += [f"args.{key}" for key in wanted if key not in args]
    return f" (lacks {', '.join(missing)})" if missing else ""
