"""The records file ``results.jsonl``, which training writes and model selection, tables and reports read.

Each line is a JSON object with sorted keys in ASCII, as in DomainBed: it reads our files, and we read its files.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from roga_domainbed.errors import shortened
from roga_domainbed.files import replacing

try:  # several times as fast as json, which reads what orjson refuses, such as NaN
    import orjson as _orjson
except ImportError:
    _orjson = None

RECORDS = "results.jsonl"
SCORES = "scores.parquet"  # in the same folder; trainer.scores documents its columns
DONE = "done"
ERRORS = "err.txt"
LONGEST_LINE = 16 * 2**20  # bytes; a record has some thousands
#: Options of a run that decide how its data were split, balanced and audited.
DATA_OPTIONS = ("split", "reals", "balance", "strict", "allow_leakage")
_OF_A_RUN = {"dataset": str, "algorithm": str, "test_envs": list, "trial_seed": int, "hparams_seed": int}

Record = dict[str, Any]


def append_record(folder: str | os.PathLike, record: Record) -> None:
    """Append one record to the file in ``folder`` and flush it to disk; on failure the file stays as it was."""
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
    """Cut the file in ``folder`` to its first ``n_bytes``: a killed run may have written more after its checkpoint.

    Raises:
        ValueError: if the file is shorter or no record ends there; the file stays as it was.
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
    """Write DomainBed's marker ``done``. Call it once the last record is on disk."""
    with replacing(Path(folder) / DONE) as partial:
        partial.write_text("done")


def is_done(folder: str | os.PathLike) -> bool:
    """Whether the run in ``folder`` has finished."""
    # Without Path, which is slow for the thousands of folders of a sweep.
    return os.path.exists(os.path.join(folder, DONE))


def data_options(args: Mapping[str, Any], hparams: Mapping[str, Any]) -> dict[str, Any]:
    """The ``DATA_OPTIONS`` that a run was given.

    Our trainer records them among the arguments. DomainBed's own ``train``, with the plugin loaded, records them among
    the hparams.
    """
    found = {name: args.get(name) or hparams.get(name) for name in DATA_OPTIONS}
    return {name: value for name, value in found.items() if value}


@dataclass
class RecordsFile:
    """The content of a records file.

    Attributes:
        records: in the order of the lines; consecutive records with equal ``args`` share one object.
        problems: one sentence for every skipped line, with file and line number.
        notes: one sentence each if the file is empty, or has NaN or infinity in it.
    """

    records: list[Record] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_records(path: str | os.PathLike) -> RecordsFile:
    """Read one ``results.jsonl``; a line that is not a record is skipped and named."""
    found = RecordsFile()
    number, args, with_nan = 0, None, []
    with open(path, "rb", buffering=2**16) as file:
        lines = list(_lines(file))
    for number, line in enumerate(_decoded(lines) or lines, 1):
        try:
            record, has_nan = (line, False) if isinstance(line, dict) else _decode(line)
            if record.get("args") == args and type(record.get("step")) is int:
                record["args"] = args
            else:
                _check(record)
                args = record["args"]
        except ValueError as error:
            found.problems.append(f"{path}, line {number}: {error}, skipped")
            continue
        found.records.append(record)
        if has_nan:
            with_nan.append(number)
    if not number:
        found.notes.append(f"{path}: empty")
    if with_nan:
        lines = f"line{'s' * (len(with_nan) > 1)} {shortened(with_nan, 5)}"
        found.notes.append(f"{path}, {lines}: NaN or infinity; NaN is never selected")
    return found


def _decoded(lines: Sequence[bytes]) -> list[dict] | None:
    """The JSON objects of all lines, decoded at once; None if a line needs a closer look, or without orjson."""
    if _orjson is None:
        return None
    try:
        records = _orjson.loads(b"[" + b",".join(lines) + b"]")
    except ValueError:
        return None
    is_sound = len(records) == len(lines) and all(isinstance(record, dict) for record in records)
    return records if is_sound else None


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file, each cut after ``LONGEST_LINE`` + 1 bytes."""
    while line := file.readline(LONGEST_LINE + 1):
        rest = line
        while len(rest) > LONGEST_LINE and not rest.endswith(b"\n"):
            rest = file.readline(LONGEST_LINE + 1)
        yield line


def _decode(line: bytes) -> tuple[dict, bool]:
    """The JSON object of a line, and whether it has NaN or infinity in it; ValueError if there is none."""
    if len(line) > LONGEST_LINE:
        raise ValueError(f"longer than {LONGEST_LINE // 2**20} MiB")
    if not line.strip():
        raise ValueError("blank")
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError("not a JSON record") from None
    if not isinstance(record, dict):
        raise ValueError("not a DomainBed record")
    return record, any(isinstance(value, float) and not math.isfinite(value) for value in record.values())


def _check(record: dict) -> None:
    """Raise ValueError unless ``record`` has a step and the arguments that identify a run."""
    args = record.get("args")
    missing = [key for key in ("args", "step") if key not in record]
    if isinstance(args, dict):
        missing += [f"args.{name}" for name in _OF_A_RUN if name not in args]
    if missing:
        raise ValueError(f"not a DomainBed record (lacks {', '.join(missing)})")
    if not (
        isinstance(record["step"], int)
        and isinstance(args, dict)
        and all(isinstance(args[name], kind) for name, kind in _OF_A_RUN.items())
        and all(isinstance(env, int) for env in args["test_envs"])
    ):
        raise ValueError("not a DomainBed record")
