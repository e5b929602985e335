"""The records of a run as columns: what tables are made of.

A full sweep has hundreds of thousands of records, and a table wants one metric of them. As dicts they would take
gigabytes; here a run keeps its arguments once and the metric's values as an array. Files are read whole and parsed
in one call; whatever is not as a trainer wrote it goes line by line through ``records.read_file``, which names it.
"""

from __future__ import annotations

import contextlib
import functools
import mmap
import operator
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from roga_domainbed.errors import RogaError
from roga_domainbed.results import records as records_file
from roga_domainbed.results.records import LONGEST_LINE, RECORDS, Record, data_options
from roga_domainbed.results.rows import row_name

try:
    import orjson as _orjson
except ImportError:  # everything goes line by line, and there is no cache
    _orjson = None

#: (environment, split, metric) of a record key
METRIC_KEY = re.compile(r"env(\d+)_(in|out)_(\w+)")
CACHE = ".collect-results-cache-{}.jsonl"
_CACHE_VERSION = 3
_LARGEST_AT_ONCE = 64 * 2**20  # bytes of a file that is parsed in one call


@dataclass(eq=False)
class Run:
    """Consecutive records with the same arguments and the same keys.

    ``run["args"]`` and, say, ``run["split"]`` read as in a record, so what looks at arguments alone takes either.

    Attributes:
        args: the arguments.
        data: what of the data it was trained on, as ``records.data_options`` has it.
        steps: (n,) step of every record.
        columns: the record keys that were kept, such as ``env0_in_acc``.
        values: (n, len(columns)) float64; NaN where a record has null or no number.
        metrics: (metric, split) pairs that the records have numbers of, kept or not.
        source: path of the run folder.
        originals: the records themselves, where the run was made of records.
    """

    args: dict[str, Any]
    data: dict[str, Any]
    steps: list[int]
    columns: tuple[str, ...]
    values: np.ndarray
    metrics: frozenset[tuple[str, str]]
    source: str = ""
    originals: tuple[Record, ...] | None = None

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, name: str) -> Any:
        if name == "args":
            return self.args
        return self.data[name]

    def get(self, name: str, default: Any = None) -> Any:
        """As a record's."""
        with contextlib.suppress(KeyError):
            return self[name]
        return default

    def column(self, key: str) -> np.ndarray:
        """(n,) values of ``key``; NaN where the records do not have it."""
        position = _positions(self.columns).get(key)
        return np.full(len(self), np.nan) if position is None else self.values[:, position]

    def take(self, rows: Sequence[int]) -> Run:
        """The records at ``rows``, as a run."""
        originals = None if self.originals is None else tuple(self.originals[i] for i in rows)
        steps = [self.steps[i] for i in rows]
        return Run(
            self.args, self.data, steps, self.columns, self.values[list(rows)], self.metrics, self.source, originals
        )  # fmt: skip

    def records(self) -> Iterator[Record]:
        """The original records; where there are none, records of what was kept."""
        if self.originals is not None:
            yield from self.originals
            return
        shared = {**self.data, "args": self.args}
        for step, row in zip(self.steps, self.values.tolist(), strict=True):
            yield {**shared, "step": step, **dict(zip(self.columns, row, strict=True))}


@dataclass
class LoadedRuns:
    """What reading a sweep found; ``problems``, ``notes`` and ``folders`` as in ``records.Loaded``.

    Attributes:
        unfinished: paths of those of the folders that had no marker ``done``.
    """

    runs: list[Run] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)

    def add(self, other: LoadedRuns) -> None:
        """Append what was found elsewhere."""
        for name, found in vars(other).items():
            getattr(self, name).extend(found)


class RunKey(NamedTuple):
    """What tells one run of a sweep from another, wherever its folder is."""

    dataset: str
    row: str
    test_envs: tuple[int, ...]
    trial_seed: int
    hparams_seed: int

    def __str__(self) -> str:
        return (
            f"{self.row} on {self.dataset}, test_envs {list(self.test_envs)}, trial {self.trial_seed}, "
            f"hparams_seed {self.hparams_seed}"
        )


def as_runs(records: Iterable[Record | Run], metric: str | None = None) -> list[Run]:
    """``records`` in their order, as runs; what is a run already stays one.

    Args:
        records: dicts, runs, or both.
        metric: keep the columns of this metric alone; all of them by default.
    """
    runs: list[Run] = []
    together: list[Record] = []
    for record in records:
        if isinstance(record, Run):
            _close(together, runs, metric)
            runs.append(record)
            continue
        if together and not _alike(together[-1], record):
            _close(together, runs, metric)
        together.append(record)
    _close(together, runs, metric)
    return runs


def load_runs(folder: str | os.PathLike, metric: str, *, cache: bool = False) -> LoadedRuns:
    """Read one metric of ``<folder>/<run>/results.jsonl`` of every run, in the sorted order of the run folders.

    Args:
        folder: the ``output_dir`` of a sweep.
        metric: its name, as in ``env0_in_<metric>``.
        cache: keep what was read in the file ``CACHE`` of ``folder`` and take it from there while a run's file has
            the size and the modification time of then. It may be deleted at any time. Left out where the folder
            cannot be written, orjson is not installed (there it would not pay), or the metric is no file's name.
    """
    folder = os.fspath(folder)
    loaded = LoadedRuns()
    cached = _Cache(folder, metric) if cache and _orjson and re.fullmatch(r"\w{1,64}", metric) else None
    for name in sorted(os.listdir(folder)):
        source = f"{folder}/{name}"
        path = f"{source}/{RECORDS}"
        # Asked at every reading, for no record tells it, and before the records: what is done then has them all.
        finished = records_file.is_done(source)
        try:
            runs = cached.get(name, path) if cached else None
            if runs is None:
                runs = _read(path, metric, loaded, cached)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            loaded.problems.append(f"{path}: {error.strerror}, skipped")
            continue
        loaded.folders.append(name)
        if not finished:
            loaded.unfinished.append(source)
        loaded.runs += runs
    if cached:
        cached.close()
    return loaded


def runs_in_several_folders(runs: Iterable[Run]) -> dict[RunKey, list[str]]:
    """The folders of each run that is in more than one."""
    folders: dict[RunKey, dict[str, None]] = {}
    for run in runs:
        args = run.args
        envs = tuple(sorted(set(args["test_envs"])))
        key = RunKey(args["dataset"], row_name(args), envs, args["trial_seed"], args["hparams_seed"])
        folders.setdefault(key, {})[run.source] = None
    return {key: list(found) for key, found in folders.items() if len(found) > 1}


def number(value: object) -> float:
    """``value`` as a float; NaN for what is no number."""
    return float(value) if is_number(value) else np.nan


def is_number(value: object) -> bool:
    """Whether ``value`` is an int or a float, and no bool."""
    return type(value) is float or (isinstance(value, (int, float)) and not isinstance(value, bool))


def _read(path: str, metric: str, loaded: LoadedRuns, cached: _Cache | None) -> list[Run]:
    source = os.path.dirname(path)
    stamp = _stamp(path) if cached else []
    runs = _read_at_once(path, metric, source) if _orjson else None
    if runs is None:
        found = records_file.Loaded()
        records_file.read_file(path, found)
        runs = as_runs(found.records, metric)
        for run in runs:
            run.source, run.originals = source, None
        loaded.problems += found.problems
        loaded.notes += found.notes
        if found.problems or found.notes:
            return runs  # a cache would not name them again
    if cached:
        cached.put(os.path.basename(source), stamp, runs)
    return runs


def _read_at_once(path: str, metric: str, source: str) -> list[Run] | None:
    """The runs of a file that is as a trainer writes it; None for any other, which must be looked at line by line."""
    with open(path, "rb", buffering=0) as file:
        if os.fstat(file.fileno()).st_size > _LARGEST_AT_ONCE:
            return None
        lines = file.read().split(b"\n")
    if not lines[-1]:
        lines.pop()
    if (
        not all(line[:1] == b"{" and line[-1:] == b"}" for line in lines)
        or max(map(len, lines), default=0) >= LONGEST_LINE
    ):
        return None
    try:
        records = _orjson.loads(b"[" + b",".join(lines) + b"]")
    except ValueError:
        return None
    if not records or len(records) != len(lines) or not all(map(records_file.is_record, records[:1])):
        return None
    first = records[0]
    args, keys = first["args"], first.keys()
    if not all(record.get("args") == args and record.keys() == keys for record in records[1:]):
        return None
    run = _run(records, metric)
    if not all(type(step) is int for step in run.steps):
        return None
    run.source, run.originals = source, None
    return [run]


def _alike(one: Record, other: Record) -> bool:
    same_args = one["args"] is other["args"] or one["args"] == other["args"]
    return same_args and one.keys() == other.keys() and data_options(one) == data_options(other)


def _close(together: list[Record], runs: list[Run], metric: str | None) -> None:
    """Move the records that belong together into ``runs``."""
    if together:
        runs.append(_run(together, metric))
        together.clear()


def _run(records: Sequence[Record], metric: str | None) -> Run:
    """The run of records with the same arguments and keys."""
    first = records[0]
    columns, getter, metrics = _layout(tuple(first), metric)
    rows = [getter(record) for record in records]
    try:
        values = np.array(rows)
        if values.dtype != np.float64:
            raise ValueError
    except (ValueError, OverflowError):
        values = np.array([[number(value) for value in row] for row in rows], dtype=np.float64)
    if any(not (first[key] is None or is_number(first[key])) for key in metrics):
        metrics = {key: pair for key, pair in metrics.items() if first[key] is None or is_number(first[key])}
    steps = [record["step"] for record in records]
    pairs = frozenset(metrics.values())
    shape = (len(records), len(columns))
    return Run(
        first["args"], data_options(first), steps, columns, values.reshape(shape), pairs, "", tuple(records)
    )


@functools.lru_cache(maxsize=1024)
def _layout(
    keys: tuple[str, ...], metric: str | None
) -> tuple[tuple[str, ...], Any, dict[str, tuple[str, str]]]:
    """The columns to keep of records with ``keys``, what gets them, and (metric, split) of every metric key."""
    found = {key: match for key in keys if (match := METRIC_KEY.fullmatch(key.removeprefix("fd_")))}
    columns = tuple(key for key, match in found.items() if metric in (None, match[3]))
    metrics = {key: (match[3], match[2]) for key, match in found.items() if not key.startswith("fd_")}
    if len(columns) > 1:
        return columns, operator.itemgetter(*columns), metrics
    return columns, lambda record: tuple(record[key] for key in columns), metrics


@functools.lru_cache(maxsize=1024)
def _positions(columns: tuple[str, ...]) -> dict[str, int]:
    return {key: position for position, key in enumerate(columns)}


def _stamp(path: str) -> list[int]:
    status = os.stat(path)
    return [status.st_size, status.st_mtime_ns]


class _Cache:
    """What was read of a sweep for one metric, in a file beside the run folders.

    A line a run folder, in their order: its name, then its stamp and of each of its runs the fields of ``Run``. The
    old file is read where a folder asks for its line, and a new one is begun at the first folder that has changed:
    neither is ever in memory as a whole.
    """

    def __init__(self, folder: str, metric: str):
        self.path = Path(folder, CACHE.format(metric))
        self.partial = Path(f"{self.path}.{os.getpid()}.part")
        self._header = _orjson.dumps({"roga_domainbed_cache": _CACHE_VERSION, "metric": metric})
        self._old: mmap.mmap | bytes = b""
        self._lines: dict[bytes, tuple[int, int]] = {}
        self._used: list[bytes] = []
        self._new: BinaryIO | None = None
        with contextlib.suppress(OSError, ValueError), open(self.path, "rb") as file:
            self._old = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            if self._old.readline().rstrip() == self._header:
                start = self._old.tell()
                while line := self._old.readline():
                    end = start + len(line)
                    if line.endswith(b"\n"):  # or its writer was interrupted
                        self._lines[line.partition(b"\t")[0]] = start, end
                    start = end

    def get(self, name: str, path: str) -> list[Run] | None:
        """The runs of the folder ``name``; None where they must be read from ``path``."""
        key = _orjson.dumps(name)
        if key not in self._lines:
            return None
        stamp = _stamp(path)
        with contextlib.suppress(ValueError, KeyError, TypeError, IndexError):
            entry = _orjson.loads(self._line(key).partition(b"\t")[2])
            if entry["stamp"] == stamp:
                runs = [_restored(fields, os.path.dirname(path)) for fields in entry["runs"]]
                self._keep(key)
                return runs
        return None

    def put(self, name: str, stamp: list[int], runs: Sequence[Run]) -> None:
        """Remember the runs of a folder; folders come in their order."""
        fields = [
            [run.args, run.data, run.steps, run.columns, run.values.tolist(), sorted(run.metrics)]
            for run in runs
        ]
        entry = _orjson.dumps({"stamp": stamp, "runs": fields})
        with contextlib.suppress(OSError):
            if self._new is None:
                self._new = open(self.partial, "wb")  # noqa: SIM115 - open until close()
                self._new.write(self._header + b"\n")
                for key in self._used:
                    self._new.write(self._line(key))
            self._new.write(_orjson.dumps(name) + b"\t" + entry + b"\n")

    def close(self) -> None:
        """Put the new file, if there is one, in place of the old."""
        if self._new is not None:
            try:
                self._new.close()
                self.partial.replace(self.path)
            except OSError:
                self.partial.unlink(missing_ok=True)

    def _line(self, key: bytes) -> bytes:
        start, end = self._lines[key]
        return self._old[start:end]

    def _keep(self, key: bytes) -> None:
        self._used.append(key)
        if self._new is not None:
            with contextlib.suppress(OSError):
                self._new.write(self._line(key))


def _restored(fields: list, source: str) -> Run:
    """The run of a cache's entry; ValueError, TypeError or KeyError if the entry is damaged."""
    args, data, steps, columns, values, metrics = fields
    if not records_file.is_record({"args": args, "step": steps[0]}) or not isinstance(data, dict):
        raise ValueError
    columns = _shared(tuple(columns))
    array = np.array(values, dtype=np.float64).reshape(len(steps), len(columns))
    return Run(args, data, steps, columns, array, _shared(frozenset(map(tuple, metrics))), source)


@functools.lru_cache(maxsize=1024)
def _shared(value: Any) -> Any:
    """The first of equal values, so that a hundred thousand runs do not each keep their own."""
    return value


def load_sweeps(folders: Iterable[str | os.PathLike], metric: str) -> LoadedRuns:
    """The runs of several sweeps as one; a folder that is named twice is read once.

    Raises:
        RogaError: there is no record in any of them.
    """
    folders = list({os.path.realpath(folder): os.fspath(folder) for folder in folders}.values())
    found = LoadedRuns()
    for folder in folders:
        found.add(load_runs(folder, metric, cache=True))
    if not found.runs:
        lines = found.problems + found.notes
        unreadable = f" Unreadable: {'; '.join(lines[:3])}{'; …' * (len(lines) > 3)}." if lines else ""
        raise RogaError(
            f"no records under {', '.join(map(repr, folders))}: expected <job>/results.jsonl in it.{unreadable} Give "
            "the output_dir of a sweep whose jobs have written their first record"
        )
    return found
