"""A run in memory: its arguments and hparams once, the values of its records as an array.

A sweep can have hundreds of thousands of records. As dicts they would take gigabytes, and a table shows one metric.
"""

from __future__ import annotations

import functools
import math
import os
import re
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from roga_domainbed.catalog.datasets import add_tree
from roga_domainbed.errors import RogaError
from roga_domainbed.foreign import Malformed, read_json
from roga_domainbed.results.packed import DROPPED as PACKED_DROPPED
from roga_domainbed.results.packed import PackedRun, packed_runs, read_run
from roga_domainbed.results.records import DROPPED, RECORDS, Record, data_options, is_done, is_dropped
from roga_domainbed.results.rows import row_name

#: (environment, split, metric) of a record key
METRIC_KEY = re.compile(r"env(0|[1-9][0-9]{0,2})_(in|out)_(\w{1,100})")  # below records.MOST_ENVIRONMENTS

#: Numbers of samples and videos; no metrics.
COUNTS = ("n", "video_n")

#: A metric is a share, a loss or a count; a larger number, or infinity, is taken for none: sums of it overflow.
LARGEST_VALUE = 1e12


@dataclass(eq=False)
class Run:
    """Consecutive records of one file with the same args, hparams and keys.

    Attributes:
        args: the arguments of the training.
        hparams: its hyper-parameters; empty if the records have none.
        steps: (n,) the step of every record.
        columns: the record keys whose values were kept, such as ``env0_in_acc``, and ``env0_in_n`` of what was tested
            on.
        values: (n, len(columns)) float64; NaN where a record has null, no number, or one beyond ``LARGEST_VALUE``.
        metrics: the (metric, split) pairs in the records, kept or not.
        source: the path of the run folder.
        provenance: what its records say of how it was made; empty if they do not.
        why_null: record key → why its value is null, from the first record.
        dropped: what successive halving noted when it stopped the run, empty where that cannot be read; None for any
            other run. No selection looks at a run that was dropped.
    """

    args: dict[str, Any]
    hparams: dict[str, Any]
    steps: tuple[int, ...]
    columns: tuple[str, ...]
    values: np.ndarray
    metrics: frozenset[tuple[str, str]]
    source: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    why_null: Mapping[str, Any] = field(default_factory=dict)
    dropped: Mapping[str, Any] | None = None

    def __len__(self) -> int:
        return len(self.steps)

    @functools.cached_property
    def data(self) -> dict[str, Any]:
        """The options that decided how the data were split and balanced, from ``records.data_options``."""
        return data_options(self.args, self.hparams)

    @functools.cached_property
    def held_out(self) -> tuple[int, ...]:
        """The test environments, in ascending order."""
        return tuple(sorted(set(self.args["test_envs"])))

    def column(self, key: str) -> np.ndarray:
        """(n,) the values of ``key``; NaN if the records do not have it."""
        position = _positions(self.columns).get(key)
        return np.full(len(self), np.nan) if position is None else self.values[:, position]

    def take(self, rows: Sequence[int]) -> Run:
        """The records at ``rows``, as a run."""
        return replace(self, steps=tuple(self.steps[i] for i in rows), values=self.values[list(rows)])


@dataclass
class LoadedRuns:
    """What reading a sweep found.

    Attributes:
        runs: in the order of the folders, then of the file.
        problems: one sentence for every line or file that was skipped.
        notes: one sentence for every file that is empty or has NaN in it.
        folders: the names of the run folders with a records file.
        unfinished: the paths of those that have neither the marker ``done`` nor were dropped.
    """

    runs: list[Run] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)

    def add(self, other: LoadedRuns) -> None:
        """Append the runs of another sweep."""
        for name, found in vars(other).items():
            getattr(self, name).extend(found)


class RunKey(NamedTuple):
    """The arguments that identify a run of a sweep, in whichever folder it is."""

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


@np.errstate(over="ignore")  # of numbers that are none, see LARGEST_VALUE
def load_runs(folder: str | os.PathLike, metric: str) -> LoadedRuns:
    """Read one metric of ``<folder>/<run>/results.jsonl`` of every run, in the sorted order of the run folders.

    A folder without that file is skipped, as in DomainBed: its run has not recorded anything yet.

    Args:
        folder: the ``output_dir`` of a sweep, or where it was packed.
        metric: its name, as in ``env0_in_<metric>``.
    """
    folder = os.fspath(folder)
    loaded = LoadedRuns()
    try:
        packed = packed_runs(folder)
    except RogaError as error:
        packed = {}
        loaded.problems.append(f"{error}, skipped")
    for name in sorted({*os.listdir(folder), *packed}):
        source = f"{folder}/{name}"
        path = f"{source}/{RECORDS}"
        # before its records: a finished run has all of them
        finished = packed[name].is_done if name in packed else is_done(source)
        try:
            file = read_run(source)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            loaded.problems.append(f"{path}: {error.strerror or error}, skipped")
            continue
        runs = as_runs(file.records, metric, source)
        dropped = None if finished else _dropped(source, packed.get(name))
        for run in runs if dropped is not None else ():
            run.dropped = dropped
        loaded.runs += runs
        loaded.problems += file.problems
        loaded.notes += file.notes
        loaded.folders.append(name)
        if not finished and dropped is None:
            loaded.unfinished.append(source)
    return loaded


def _dropped(source: str, packed: PackedRun | None) -> Mapping[str, Any] | None:
    """What successive halving noted of a run that has not finished; None if it did not stop it."""
    if packed is not None:
        return {} if packed.state == PACKED_DROPPED else None
    if not is_dropped(source):
        return None
    try:
        return read_json(f"{source}/{DROPPED}", dict)
    except (OSError, Malformed):
        return {}


def load_sweeps(folders: Iterable[str | os.PathLike], metric: str) -> LoadedRuns:
    """The runs of several sweeps as one; a folder that is named twice is read once.

    Raises:
        RogaError: there is no record in any of them.
    """
    folders = list({os.path.realpath(folder): os.fspath(folder) for folder in folders}.values())
    found = LoadedRuns()
    for folder in folders:
        try:
            found.add(load_runs(folder, metric))
        except OSError as error:
            found.problems.append(f"{folder}: {error.strerror or error}, skipped")
    _name_environments(found.runs)
    if not found.runs:
        lines = found.problems + found.notes
        unreadable = f" Unreadable: {'; '.join(lines[:3])}{'; …' * (len(lines) > 3)}." if lines else ""
        raise RogaError(
            f"no records under {', '.join(map(repr, folders))}: expected <job>/results.jsonl in it.{unreadable} Give "
            "the output_dir of a sweep whose jobs have written their first record"
        )
    return found


def _name_environments(runs: Iterable[Run]) -> None:
    """Give the prepared trees among the datasets of ``runs`` their rows in the catalog.

    Raises:
        RogaError: runs on trees of one name had other environments, so that their numbers cannot stand in one table.
    """
    found: dict[str, dict[tuple[str, ...], str]] = {}
    for run in runs:
        names = run.provenance.get("environments")
        if run.provenance.get("prepared_tree") is True and isinstance(names, list):
            found.setdefault(run.args["dataset"], {}).setdefault(tuple(map(str, names)), run.source)
    for dataset, places in found.items():
        if len(places) > 1:
            each = "; ".join(f"{', '.join(names)} in {source}" for names, source in places.items())
            raise RogaError(f"{dataset} was prepared anew between these runs: {each}. Read them apart")
        add_tree(dataset, next(iter(places)))


def as_runs(records: Iterable[Record], metric: str | None = None, source: str = "") -> list[Run]:
    """Group consecutive ``records`` with the same args, hparams and keys.

    Args:
        records: from one file or several.
        metric: the metric whose columns are kept; all by default.
        source: the path of the run folder.
    """
    runs: list[Run] = []
    provenance: Mapping[str, Any] = {}
    for alike in _alike(records):
        made_by = alike[-1].get("provenance")  # of the first record, and of those after a change of machine
        provenance = made_by if isinstance(made_by, dict) else provenance
        runs.append(_run(alike, metric, source, provenance))
    return runs


def _alike(records: Iterable[Record]) -> Iterator[list[Record]]:
    """Consecutive records with the same args, hparams and keys."""
    alike: list[Record] = []
    keys, args, hparams = None, None, None
    for record in records:
        own = tuple(record), record["args"], record.get("hparams")
        if own[0] == keys and (own[1] is args or own[1] == args) and (own[2] is hparams or own[2] == hparams):
            alike.append(record)
        else:
            if alike:
                yield alike
            alike = [record]
            keys, args, hparams = own
    if alike:
        yield alike


def runs_in_several_folders(runs: Iterable[Run]) -> dict[RunKey, list[str]]:
    """The folders of every run that has more than one."""
    folders: dict[RunKey, dict[str, None]] = {}
    for run in runs:
        args = run.args
        key = RunKey(args["dataset"], row_name(args), run.held_out, args["trial_seed"], args["hparams_seed"])
        folders.setdefault(key, {})[run.source] = None
    return {key: list(found) for key, found in folders.items() if len(found) > 1}


def is_number(value: object) -> bool:
    """Whether ``value`` is an int or a float, but not a bool."""
    return type(value) is float or (isinstance(value, (int, float)) and not isinstance(value, bool))


def as_number(value: object) -> float:
    """``value`` as a float; NaN if it is no number, or one beyond ``LARGEST_VALUE``, which no figure can show."""
    return float(value) if is_number(value) and abs(value) < LARGEST_VALUE else math.nan


def _run(records: Sequence[Record], metric: str | None, source: str, provenance: Mapping[str, Any]) -> Run:
    """The run of records with the same args, hparams and keys."""
    first = records[0]
    tested = tuple(first["args"]["test_envs"])
    columns, metrics = _layout(tuple(first), tuple(map(type, first.values())), metric, tested)
    numbers = [record[key] for record in records for key in columns]
    try:
        values = np.frombuffer(array("d", numbers))  # much faster than np.array, and refuses text and null
    except TypeError:
        values = np.array([value if is_number(value) else math.nan for value in numbers], dtype=np.float64)
    if not values.dot(values) < LARGEST_VALUE**2:  # the fastest question that is yes only if all are smaller
        values = np.where(np.abs(values) < LARGEST_VALUE, values, np.nan)
    hparams, why_null = first.get("hparams"), first.get("why_null")
    return Run(
        args=first["args"],
        hparams=hparams if isinstance(hparams, dict) else {},
        steps=_shared(tuple(record["step"] for record in records)),
        columns=columns,
        values=values.reshape(len(records), len(columns)),
        metrics=metrics,
        source=source,
        provenance=provenance,
        why_null=why_null if isinstance(why_null, dict) else {},
    )


@functools.lru_cache(maxsize=1024)
def _layout(
    keys: tuple[str, ...], kinds: tuple[type, ...], metric: str | None, test_envs: tuple[int, ...]
) -> tuple[tuple[str, ...], frozenset[tuple[str, str]]]:
    """The keys whose values are kept, and the (metric, split) pairs that have a number or null.

    With the metric, the numbers of samples and videos that it was tested on are kept.
    """
    found = {key: match for key in keys if (match := METRIC_KEY.fullmatch(key.removeprefix("fd_")))}
    counts = {f"env{env}_in_{name}" for env in test_envs for name in COUNTS}
    columns = tuple(key for key, match in found.items() if metric in (None, match[3]) or key in counts)
    numeric = {key for key, kind in zip(keys, kinds, strict=True) if kind in (float, int, type(None))}
    return columns, frozenset(
        (match[3], match[2]) for key, match in found.items() if key in numeric and not key.startswith("fd_")
    )


@functools.lru_cache(maxsize=1024)
def _shared(steps: tuple[int, ...]) -> tuple[int, ...]:
    """``steps``; one object for all runs that have the same, which saves memory and time."""
    return steps


@functools.lru_cache(maxsize=1024)
def _positions(columns: tuple[str, ...]) -> dict[str, int]:
    return {key: position for position, key in enumerate(columns)}
