"""Runs as columns, for model selection and tables.

A sweep has hundreds of thousands of records, of which a table shows one metric. As dicts they would take gigabytes;
here a run keeps its arguments and hparams once and the values of the metric as an array.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from roga_domainbed.errors import RogaError
from roga_domainbed.results.records import RECORDS, Record, data_options, is_done, read_records
from roga_domainbed.results.rows import row_name

#: (environment, split, metric) of a record key
METRIC_KEY = re.compile(r"env(\d+)_(in|out)_(\w+)")


@dataclass(eq=False)
class Run:
    """Consecutive records of one file with the same args, hparams and keys.

    Attributes:
        args: the arguments.
        hparams: the hyper-parameters; empty where the records have none.
        steps: (n,) step of every record.
        columns: the record keys that were kept, such as ``env0_in_acc``.
        values: (n, len(columns)) float64; NaN where a record has null or no number.
        metrics: (metric, split) pairs that the records have numbers for, kept or not.
        source: path of the run folder.
    """

    args: dict[str, Any]
    hparams: dict[str, Any]
    steps: list[int]
    columns: tuple[str, ...]
    values: np.ndarray
    metrics: frozenset[tuple[str, str]]
    source: str = ""

    def __len__(self) -> int:
        return len(self.steps)

    @functools.cached_property
    def data(self) -> dict[str, Any]:
        """The options that decided how the data were made up, as ``records.data_options`` has them."""
        return data_options(self.args, self.hparams)

    @functools.cached_property
    def held_out(self) -> tuple[int, ...]:
        """The test environments, in ascending order."""
        return tuple(sorted(set(self.args["test_envs"])))

    def column(self, key: str) -> np.ndarray:
        """(n,) values of ``key``; NaN where the records do not have it."""
        position = _positions(self.columns).get(key)
        return np.full(len(self), np.nan) if position is None else self.values[:, position]

    def take(self, rows: Sequence[int]) -> Run:
        """The records at ``rows``, as a run."""
        return replace(self, steps=[self.steps[i] for i in rows], values=self.values[list(rows)])


@dataclass
class LoadedRuns:
    """What reading a sweep found.

    Attributes:
        runs: in the order of the folders, then of the file.
        problems: one sentence for every line or file that was skipped.
        notes: one sentence for every file that was read and still needs a look: empty, or with NaN in it.
        folders: names of the run folders that have a records file.
        unfinished: paths of those of the folders that have no marker ``done``.
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


def load_runs(folder: str | os.PathLike, metric: str) -> LoadedRuns:
    """Read one metric of ``<folder>/<run>/results.jsonl`` of every run, in the sorted order of the run folders.

    A folder without the file is passed over, as in DomainBed: its run has not recorded anything yet.

    Args:
        folder: the ``output_dir`` of a sweep.
        metric: its name, as in ``env0_in_<metric>``.
    """
    folder = os.fspath(folder)
    loaded = LoadedRuns()
    for name in sorted(os.listdir(folder)):
        source = f"{folder}/{name}"
        path = f"{source}/{RECORDS}"
        finished = is_done(source)  # before its records: a finished run has all of them
        try:
            file = read_records(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            loaded.problems.append(f"{path}: {error.strerror}, skipped")
            continue
        loaded.runs += as_runs(file.records, metric, source)
        loaded.problems += file.problems
        loaded.notes += file.notes
        loaded.folders.append(name)
        if not finished:
            loaded.unfinished.append(source)
    return loaded


def load_sweeps(folders: Iterable[str | os.PathLike], metric: str) -> LoadedRuns:
    """The runs of several sweeps as one; a folder that is named twice is read once.

    Raises:
        RogaError: there is no record in any of them.
    """
    folders = list({os.path.realpath(folder): os.fspath(folder) for folder in folders}.values())
    found = LoadedRuns()
    for folder in folders:
        found.add(load_runs(folder, metric))
    if not found.runs:
        lines = found.problems + found.notes
        unreadable = f" Unreadable: {'; '.join(lines[:3])}{'; …' * (len(lines) > 3)}." if lines else ""
        raise RogaError(
            f"no records under {', '.join(map(repr, folders))}: expected <job>/results.jsonl in it.{unreadable} Give "
            "the output_dir of a sweep whose jobs have written their first record"
        )
    return found


def as_runs(records: Iterable[Record], metric: str | None = None, source: str = "") -> list[Run]:
    """``records`` in their order, as runs.

    Args:
        records: of one file, or of several.
        metric: keep the columns of this metric alone; all of them by default.
        source: path of the run folder.
    """
    runs: list[Run] = []
    together: list[Record] = []
    for record in records:
        if together and not _alike(together[-1], record):
            runs.append(_run(together, metric, source))
            together = []
        together.append(record)
    if together:
        runs.append(_run(together, metric, source))
    return runs


def runs_in_several_folders(runs: Iterable[Run]) -> dict[RunKey, list[str]]:
    """The folders of each run that is in more than one."""
    folders: dict[RunKey, dict[str, None]] = {}
    for run in runs:
        args = run.args
        key = RunKey(args["dataset"], row_name(args), run.held_out, args["trial_seed"], args["hparams_seed"])
        folders.setdefault(key, {})[run.source] = None
    return {key: list(found) for key, found in folders.items() if len(found) > 1}


def is_number(value: object) -> bool:
    """Whether ``value`` is an int or a float, and no bool."""
    return type(value) is float or (isinstance(value, (int, float)) and not isinstance(value, bool))


def _alike(one: Record, other: Record) -> bool:
    return (
        one["args"] == other["args"]
        and one.keys() == other.keys()
        and one.get("hparams") == other.get("hparams")
    )


def _run(records: Sequence[Record], metric: str | None, source: str) -> Run:
    """The run of records with the same args, hparams and keys."""
    first = records[0]
    columns, pairs = _layout(tuple(first), metric)
    rows = [[record[key] for key in columns] for record in records]
    try:
        values = np.array(rows)
        if values.dtype != np.float64:
            raise ValueError
    except (ValueError, OverflowError):
        values = np.array(
            [[float(value) if is_number(value) else np.nan for value in row] for row in rows],
            dtype=np.float64,
        )
    hparams = first.get("hparams")
    return Run(
        args=first["args"],
        hparams=hparams if isinstance(hparams, dict) else {},
        steps=[record["step"] for record in records],
        columns=columns,
        values=values.reshape(len(records), len(columns)),
        metrics=frozenset(pair for key, pair in pairs if first[key] is None or is_number(first[key])),
        source=source,
    )


@functools.lru_cache(maxsize=1024)
def _layout(
    keys: tuple[str, ...], metric: str | None
) -> tuple[tuple[str, ...], tuple[tuple[str, tuple[str, str]], ...]]:
    """The columns to keep of records with ``keys``; every metric's key with its (metric, split)."""
    found = {key: match for key in keys if (match := METRIC_KEY.fullmatch(key.removeprefix("fd_")))}
    columns = tuple(key for key, match in found.items() if metric in (None, match[3]))
    pairs = tuple((key, (match[3], match[2])) for key, match in found.items() if not key.startswith("fd_"))
    return columns, pairs


@functools.lru_cache(maxsize=1024)
def _positions(columns: tuple[str, ...]) -> dict[str, int]:
    return {key: position for position, key in enumerate(columns)}
