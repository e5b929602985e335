"""The records file ``results.jsonl``, which training writes and model selection, tables and reports read.

Each line is a JSON object with sorted keys in ASCII, as in DomainBed: it reads our files, and we read its files.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from roga_domainbed.errors import shortened
from roga_domainbed.files import replacing
from roga_domainbed.foreign import Malformed, parse_json, read_bytes
from roga_domainbed.foreign.malformed import require_plain

try:  # several times as fast as json, which reads what orjson refuses, such as NaN
    import orjson as _orjson
except ImportError:
    _orjson = None

RECORDS = "results.jsonl"
SCORES = "scores.parquet"  # in the same folder; trainer.scores documents its columns
DONE = "done"
DROPPED = "dropped.json"  # why successive halving stopped the run; ``sweep.halving`` writes it
ERRORS = "err.txt"
LARGEST_FILE = 2**29  # bytes; a run of a thousand records has some millions
LONGEST_LINE = 16 * 2**20  # bytes; a record has some thousands
MOST_KEYS = 20_000  # of a record; ours have some hundreds
MOST_ENVIRONMENTS = 1000
LONGEST_NAME = 1000  # characters
MOST_NAMED = 100  # skipped lines of a file
#: Options of a run that decide how its data were split, labelled, chosen and audited.
DATA_OPTIONS = ("split", "reals", "balance", "strict", "label_noise", "train_fraction", "allow_leakage")
_OF_A_RUN = {"dataset": str, "algorithm": str, "test_envs": list, "trial_seed": int, "hparams_seed": int}

_SCALARS = {str, int, float, bool, type(None)}

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


def is_dropped(folder: str | os.PathLike) -> bool:
    """Whether successive halving has stopped the run in ``folder``, which has not finished."""
    return os.path.exists(os.path.join(folder, DROPPED)) and not is_done(folder)


def data_options(args: Mapping[str, Any], hparams: Mapping[str, Any]) -> dict[str, Any]:
    """The ``DATA_OPTIONS`` that a run was given.

    Our trainer records them among the arguments. DomainBed's own ``train``, with the plugin loaded, records them among
    the hparams.
    """
    return {name: value for name in DATA_OPTIONS if (value := args.get(name) or hparams.get(name))}


@dataclass
class RecordsFile:
    """The content of a records file.

    Attributes:
        records: in the order of the lines; consecutive records with equal ``args`` share one object.
        problems: one sentence for every skipped line, with file and line number; the first ``MOST_NAMED`` of many.
        notes: one sentence each if the file is empty, or has NaN or infinity in it.
    """

    records: list[Record] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_records(path: str | os.PathLike) -> RecordsFile:
    """Read one ``results.jsonl``; a line that is not a record is skipped and named.

    Raises:
        OSError: it cannot be read, is not a regular file, or is larger than ``LARGEST_FILE``.
    """
    return parse_records(read_bytes(path, LARGEST_FILE), path)


def parse_records(content: bytes, path: str | os.PathLike) -> RecordsFile:
    """The records in the ``content`` of a ``results.jsonl``; ``path`` is what the sentences call it."""
    found = RecordsFile()
    number, n_skipped, args, hparams, with_nan = 0, 0, None, None, []
    decoded = _decoded(content)
    for number, record in enumerate(_lines(content) if decoded is None else decoded, 1):
        try:
            if decoded is None:
                record, has_nan = _decode(record)
                with_nan += [number] * has_nan
            if args is None or record.get("args") != args or type(record.get("step")) is not int:
                _check(record)
                args = record["args"]
            record["args"] = args
            own = record.get("hparams")
            if own != hparams:
                _require_plain(own)
                hparams = own
            elif own is not None:
                record["hparams"] = hparams  # one object for all records of a run, as for args
            if "provenance" in record or "why_null" in record:
                _require_plain(record.get("provenance"))
                _require_plain(record.get("why_null"))
            found.records.append(record)
        except ValueError as error:
            n_skipped += 1
            if n_skipped <= MOST_NAMED:
                found.problems.append(f"{path}, line {number}: {error}, skipped")
    if n_skipped > MOST_NAMED:
        found.problems.append(f"{path}: {n_skipped - MOST_NAMED:,} more lines, skipped")
    if not number:
        found.notes.append(f"{path}: empty")
    if with_nan:
        lines = f"line{'s' * (len(with_nan) > 1)} {shortened(with_nan, 5)}"
        found.notes.append(f"{path}, {lines}: NaN or infinity; NaN is never selected")
    return found


def _decoded(content: bytes) -> list[dict] | None:
    """The JSON objects of all lines, decoded at once; None if a line needs a closer look, or without orjson."""
    if _orjson is None:
        return None
    content = content.removesuffix(b"\n")
    separated = content.replace(b"\n", b",\n")
    try:
        records = _orjson.loads(b"[%b]" % separated)
    except ValueError:
        return None
    n_lines = len(separated) - len(content) + 1
    is_sound = len(records) == n_lines and {dict}.issuperset(map(type, records))
    return records if is_sound else None


def _lines(content: bytes) -> list[bytes]:
    return content.removesuffix(b"\n").split(b"\n") if content else []


def _decode(line: bytes) -> tuple[dict, bool]:
    """The JSON object of a line, and whether it has NaN or infinity in it; ValueError if there is none."""
    if len(line) > LONGEST_LINE:
        raise ValueError(f"longer than {LONGEST_LINE // 2**20} MiB")
    if not line.strip():
        raise ValueError("blank")
    try:
        record = parse_json(line)
    except Malformed as error:
        said = "" if str(error).startswith(("not valid JSON", "not UTF-8")) else f" ({error})"
        raise ValueError(f"not a JSON record{said}") from None
    if not isinstance(record, dict):
        raise ValueError("not a DomainBed record")
    return record, any(isinstance(value, float) and not math.isfinite(value) for value in record.values())


def _check(record: dict) -> None:
    """Raise ValueError unless ``record`` has a step and the arguments that identify a run.

    It is called where the arguments change: looking at every record as closely would take as long as reading it.
    """
    if len(record) > MOST_KEYS:
        raise ValueError(f"more than {MOST_KEYS:,} keys")
    args = record.get("args")
    missing = [key for key in ("args", "step") if key not in record]
    if isinstance(args, dict):
        missing += [f"args.{name}" for name in _OF_A_RUN if name not in args]
    if missing:
        raise ValueError(f"not a DomainBed record (lacks {', '.join(missing)})")
    if not isinstance(args, dict):
        raise ValueError("not a DomainBed record")
    wrong = [f"args.{name}" for name, kind in _OF_A_RUN.items() if type(args[name]) is not kind]
    if type(record["step"]) is not int or not -(2**63) <= record["step"] < 2**63:
        wrong.append("step")
    for name in ("dataset", "algorithm", "row"):
        if type(args.get(name)) is str and len(args[name]) > LONGEST_NAME:
            wrong.append(f"args.{name}")
    envs = args["test_envs"]
    if type(envs) is list and not (
        len(envs) <= MOST_ENVIRONMENTS
        and all(type(env) is int and 0 <= env < MOST_ENVIRONMENTS for env in envs)
    ):
        wrong.append("args.test_envs")
    if wrong:
        raise ValueError(f"not a DomainBed record ({', '.join(wrong)})")
    _require_plain({name: value for name, value in args.items() if name != "test_envs"})


def _require_plain(value: Any) -> None:
    """``foreign``'s check; in an instant for what does not nest, which ``orjson`` has checked."""
    if value is not None and not (type(value) is dict and _SCALARS.issuperset(map(type, value.values()))):
        require_plain(value)
