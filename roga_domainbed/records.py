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

try:  # three times faster; the standard library reads whatever it refuses, such as NaN
    import orjson as _orjson
except ImportError:
    _orjson = None

RECORDS = "results.jsonl"
DONE = "done"
ERRORS = "err.txt"
LONGEST_LINE = 16 * 2**20  # bytes; a record has some thousands
CACHE = ".collect-results-cache.jsonl"
_CACHE_HEADER = b'{"roga_domainbed_cache":1}'

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
    partial = Path(folder) / (DONE + ".part")
    partial.write_text("done")
    os.replace(partial, Path(folder) / DONE)


def is_done(folder: str | os.PathLike) -> bool:
    """Whether the run in ``folder`` finished."""
    return (Path(folder) / DONE).exists()


def read_file(path: str | os.PathLike, loaded: Loaded, *, metrics_only: bool = False) -> None:
    """Read one records file into ``loaded``; a line that is no record is skipped and named.

    Args:
        path: of a ``results.jsonl``.
        loaded: what was found is added to it.
        metrics_only: keep args, step and the values of environments, and let records share equal args.
    """
    source = os.path.dirname(path)
    number, with_nan, args = 0, [], None
    before, kept = (), []
    with open(path, "rb") as file:
        for number, raw in enumerate(_lines(file), 1):
            try:
                record, has_nan = _parse(raw, args)
            except ValueError as error:
                loaded.problems.append(f"{path}, line {number}: {error}, skipped")
                continue
            if has_nan:
                with_nan.append(number)
            if metrics_only:
                args = record["args"]
                if (names := tuple(record)) != before:  # the records of a run have the same keys
                    before, kept = names, [key for key in names if _is_for_tables(key)]
                mode = split_mode(record)
                record = {key: record[key] for key in kept}
                if mode is not None and "split" not in args:
                    record["split"] = mode
            loaded.records.append(record)
            loaded.sources.append(source)
    if not number:
        loaded.notes.append(f"{path}: empty")
    if with_nan:
        lines = f"line{'s' * (len(with_nan) > 1)} {', '.join(map(str, with_nan[:5]))}"
        more = f" and {len(with_nan) - 5} more" if len(with_nan) > 5 else ""
        loaded.notes.append(f"{path}, {lines}{more}: not finite numbers in it; NaN is never chosen")


def split_mode(record: Record) -> str | None:
    """How the data were split, where that is known.

    Our trainer notes it among the arguments; DomainBed's own train, with the plugin in it, among the hyper-parameters.
    """
    hparams = record.get("hparams")
    found = hparams.get("split") if isinstance(hparams, dict) else record.get("split")
    return record["args"].get("split") or found


def load(folder: str | os.PathLike, *, metrics_only: bool = False, cache: bool = False) -> Loaded:
    """Read ``<folder>/<run>/results.jsonl`` of every run, in the sorted order of the run folders.

    A run folder without the file is passed over, as upstream does: it has not started.

    Args:
        folder: the ``output_dir`` of a sweep.
        metrics_only: as in ``read_file``.
        cache: keep what was read in the file ``CACHE`` of ``folder`` and take it from there while a run's file has
            the size and the modification time of then. It may be deleted at any time. Needs ``metrics_only``;
            left out where the folder cannot be written or orjson is not installed (there it would not pay).
    """
    loaded = Loaded()
    cache = cache and metrics_only and _orjson is not None
    known = _read_cache(folder) if cache else {}
    fresh: dict[str, bytes] = {}
    for run in sorted(os.listdir(folder)):
        source = os.path.join(folder, run)
        path = os.path.join(source, RECORDS)
        try:
            stamp = _stamp(path)
            if run in known and known[run]["stamp"] == stamp and _restore(known[run], source, loaded):
                loaded.folders.append(run)
                continue
            before = len(loaded.records), len(loaded.problems), len(loaded.notes)
            read_file(path, loaded, metrics_only=metrics_only)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            loaded.problems.append(f"{path}: {error.strerror}, skipped")
            continue
        loaded.folders.append(run)
        if cache and before[1:] == (len(loaded.problems), len(loaded.notes)):
            fresh[run] = _cache_line(run, stamp, loaded.records[before[0] :])
    if fresh:
        kept = {**{run: _orjson.dumps(entry) for run, entry in known.items()}, **fresh}
        _write_cache(folder, [kept[run] for run in loaded.folders if run in kept])
    return loaded


def runs_in_several_folders(loaded: Loaded) -> dict[tuple, list[str]]:
    """(dataset, algorithm, test_envs, trial_seed, hparams_seed) → run folders, where there is more than one."""
    folders: dict[tuple, dict[str, None]] = {}
    before = None, None
    for record, source in zip(loaded.records, loaded.sources, strict=True):
        args = record["args"]
        if before == (id(args), source):
            continue
        before = id(args), source
        envs = tuple(sorted(set(args["test_envs"])))
        run = args["dataset"], args["algorithm"], envs, args["trial_seed"], args["hparams_seed"]
        folders.setdefault(run, {})[source] = None
    return {run: list(found) for run, found in folders.items() if len(found) > 1}


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
    if not _is_record(record):
        raise ValueError(f"not a DomainBed record{_lacking(record)}")
    return record, has_nan


def _is_for_tables(key: str) -> bool:
    return key.startswith(("env", "fd_env")) or key in ("args", "step")


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


def _lacking(record: Any) -> str:
    if not isinstance(record, dict):
        return ""
    args = record.get("args")
    missing = [key for key in ("args", "step") if key not in record]
    if isinstance(args, dict):
        wanted = ("dataset", "algorithm", "test_envs", "trial_seed", "hparams_seed")
        missing += [f"args.{key}" for key in wanted if key not in args]
    return f" (lacks {', '.join(missing)})" if missing else ""


def _stamp(path: str) -> list[int]:
    status = os.stat(path)
    return [status.st_size, status.st_mtime_ns]


def _cache_line(run: str, stamp: list[int], records: list[Record]) -> bytes:
    """One run: its distinct args and key lists once, then a row of values a record."""
    args: list[dict] = []
    keys: list[list[str]] = []
    rows = []
    for record in records:
        if not args or record["args"] is not args[-1]:
            args.append(record["args"])
        names = [key for key in record if key != "args"]
        if not keys or names != keys[-1]:
            keys.append(names)
        rows.append([len(args) - 1, len(keys) - 1, [record[key] for key in names]])
    return _orjson.dumps({"run": run, "stamp": stamp, "args": args, "keys": keys, "rows": rows})


def _restore(entry: dict, source: str, loaded: Loaded) -> bool:
    """Add a cached run to ``loaded``; False, and nothing added, if the entry is damaged."""
    try:
        args, keys = entry["args"], entry["keys"]
        records = [
            {"args": args[which], **dict(zip(keys[names], values, strict=True))}
            for which, names, values in entry["rows"]
        ]
    except (KeyError, TypeError, ValueError, IndexError):
        return False
    if not all(_is_record({"args": own, "step": 0}) for own in args):
        return False
    if not all(isinstance(record.get("step"), int) for record in records):
        return False
    loaded.records += records
    loaded.sources += [source] * len(records)
    return True


def _read_cache(folder: str | os.PathLike) -> dict[str, dict]:
    entries: dict[str, dict] = {}
    try:
        with open(os.path.join(folder, CACHE), "rb") as file:
            if file.readline().rstrip() != _CACHE_HEADER:
                return {}
            for raw in file:
                entry = _orjson.loads(raw)
                entries[entry["run"]] = {"stamp": entry["stamp"], **entry}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return entries


def _write_cache(folder: str | os.PathLike, lines: list[bytes]) -> None:
    path = os.path.join(folder, CACHE)
    partial = f"{path}.{os.getpid()}.part"
    try:
        with open(partial, "wb") as file:
            file.write(b"\n".join([_CACHE_HEADER, *lines, b""]))
        os.replace(partial, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(partial)
