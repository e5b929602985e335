"""Reads files of scores, of any detector: CSV or Parquet, a row a sample.

Columns, in any order and spelled with any capitals: ``path`` or ``id``; ``label``; ``score``, higher for fake; and, if
known, ``env`` (or ``environment``, ``env_name``) and ``video``. What ``evaluate --save_scores``, a run's
``scores.parquet`` and ``predict --format csv`` have beside these is understood: ``split`` and ``step``, and ``level``,
``kind``, ``frame`` and boxes. The first line of a CSV file names the columns; commas, semicolons or tabs separate.
"""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from roga_domainbed.errors import Problems, RogaError, is_out_of_memory
from roga_domainbed.foreign import Malformed, check_unpacked, one_line, open_regular, quoted, read_text
from roga_domainbed.input.classes import FAKE, REAL, said_or_meant

ONE_ENVIRONMENT = "all"  # the name of the environment, where a file names none
MOST_ROWS = 2**23
_LARGEST_CSV = 2**28  # bytes: some million rows
_BATCH, _MOST_TEXT = 1024, 2**30  # rows at once; bytes of a column
_NAMED = 3  # rows with the same fault

_SAMPLE = ("path", "id", "index")
_SCORE = ("score", "probability")
_ENV = ("env_name", "environment", "env")
_WITHIN_FILE = ("frame", "face", "x", "y", "index")  # faces and frames that share a path
_NUMBERS = {"0": REAL, "1": FAKE}

#: Column → its values, as they are in the file.
_Columns = Mapping[str, Sequence[Any]]


@dataclass
class ScoredPart:
    """The samples of one environment.

    Attributes:
        keys: N names, different from each other.
        labels: (N,) int, 0 real and 1 fake.
        scores: (N,) float64, higher for fake.
        videos: N names, None for a sample of no known video; None if no video is known.
    """

    keys: Sequence[str]
    labels: np.ndarray
    scores: np.ndarray
    videos: list[str | None] | None


@dataclass
class ScoreFile:
    """The scores of one detector.

    Attributes:
        name: what it is called.
        path: of the file.
        parts: environment → its samples, in the order of the file; where the file has several splits, their names
            stand behind those of the environments.
        has_splits: whether it has several.
        notes: a sentence for each thing worth knowing about the choice of rows.
    """

    name: str
    path: str
    parts: dict[str, ScoredPart]
    has_splits: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def outside(self) -> str:
        """Why the scores are no probabilities; empty if they may be."""
        scores = np.concatenate([part.scores for part in self.parts.values()])
        n = int(((scores < 0) | (scores > 1)).sum())
        return f"{n} of {len(scores)} scores of the file are outside [0, 1]: not probabilities" if n else ""


def read_score_files(
    paths: Sequence[str],
    names: Sequence[str] = (),
    real: Collection[str] = (),
    fake: Collection[str] = (),
) -> list[ScoreFile]:
    """The files, in order; their faults are reported all at once.

    Args:
        paths: of CSV or Parquet files.
        names: what to call them; else by their names without suffix, or by their paths where two would be alike.
        real: labels that the user says are real; with ``fake``, only what is said counts.
        fake: those that are fake.

    Raises:
        RogaError: with everything that is wrong with any of them.
    """
    problems, found, labels = Problems(), [], _Labels(real, fake)
    for path, name in zip(paths, names or _stems(paths), strict=True):
        try:
            found.append(_read(path, name, labels))
        except _Wrong as error:
            for message in error.messages:
                problems.add(f"{one_line(path)}: {message}")
    if len(found) == len(paths):
        for message in labels.useless():
            problems.add(message)
    problems.check()
    return found


def _stems(paths: Sequence[str]) -> list[str]:
    stems = [os.path.splitext(os.path.basename(path))[0] for path in paths]
    return stems if len(set(stems)) == len(stems) else list(paths)


def _read(path: str, name: str, labels: _Labels) -> ScoreFile:
    try:
        with open_regular(path) as file:
            is_parquet = file.read(4) == b"PAR1"
        columns, places = _parquet(path) if is_parquet else _csv(path)
    except OSError as error:
        raise _Wrong([error.strerror or str(error)]) from None
    except Malformed as error:
        raise _Wrong([str(error)]) from None
    return _Rows(columns, places, labels).file(name, path)


def _csv(path: str) -> tuple[_Columns, Sequence[str]]:
    """The columns, and what to call each row."""
    text = read_text(path, _LARGEST_CSV)
    head = text.partition("\n")[0]
    if not head.strip():
        raise Malformed(
            "is empty" if not text.strip() else "its first line, which must name the columns, is empty"
        )
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=head.count))
    faults, rows, lines = _Faults(), [], []
    try:
        names = [name.strip().lower() for name in next(reader)]
        for row in reader:
            if not any(row):
                continue
            if len(row) != len(names):
                faults.add(
                    f"not {len(names)} fields, as the first line has",
                    f"line {reader.line_num}",
                    len(row),
                )
                continue
            if len(rows) == MOST_ROWS:
                raise Malformed(f"has more than {MOST_ROWS:,} rows, the most that are read")
            rows.append(row)
            lines.append(f"line {reader.line_num}")
    except csv.Error as error:
        raise Malformed(f"cannot be read from line {reader.line_num} on: {error}") from None
    faults.check()
    _require_different(names)
    stripped = [[cell.strip() for cell in column] for column in zip(*rows, strict=True)] or [
        [] for _ in names
    ]
    return dict(zip(names, stripped, strict=True)), lines


def _require_different(columns: Sequence[str]) -> None:
    again = {name for name in columns if columns.count(name) > 1 and name}
    if again:
        raise Malformed(f"names the column {quoted(sorted(again))} twice")


def _parquet(path: str) -> tuple[_Columns, Sequence[str]]:
    import pyarrow as pa
    from pyarrow import parquet

    wanted = {
        *_SAMPLE,
        *_SCORE,
        *_ENV,
        *_WITHIN_FILE,
        "label",
        "video",
        "split",
        "step",
        "level",
        "kind",
        "error",
    }
    try:
        with open_regular(path) as source:
            file = parquet.ParquetFile(source)
            schema = file.schema_arrow
            chosen = [name for name in schema.names if name.lower() in wanted]
            nested = [name for name in chosen if pa.types.is_nested(schema.field(name).type)]
            if nested:
                raise Malformed(f"the column {quoted(nested)} holds lists, not a value a row")
            _require_different([name.lower() for name in chosen])
            check_unpacked(file.metadata, source.seek(0, os.SEEK_END), chosen)
            if file.metadata.num_rows > MOST_ROWS:
                raise Malformed(
                    f"has {file.metadata.num_rows:,} rows, more than the {MOST_ROWS:,} that are read"
                )
            texts = [name for name in chosen if pa.types.is_string(schema.field(name).type)]
            differences = [name for name in texts if _is_of_differences(file.metadata, name)]
            # Repeated text stays stored once, so a few bytes cannot unpack to gigabytes.
            once = [name for name in texts if name not in differences]
            again = parquet.ParquetFile(source, metadata=file.metadata, read_dictionary=once)
            table = again.read(
                columns=[name for name in chosen if name not in differences], use_threads=False
            )
            columns = {name.lower(): _values(table.column(name)) for name in table.column_names}
            for name in differences:
                columns[name.lower()] = _values_in_batches(file, name)
    except (Malformed, OSError):
        raise
    except Exception as error:  # pyarrow raises its own kinds for damaged files
        if is_out_of_memory(error):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise Malformed(f"cannot be read as Parquet: {reason[:200]}") from None
    return columns, [f"row {number}" for number in range(1, file.metadata.num_rows + 1)]


def _is_of_differences(metadata: Any, name: str) -> bool:
    """Whether texts are stored as what they differ by from the one before, as ``trainer.scores`` stores paths."""
    groups = map(metadata.row_group, range(metadata.num_row_groups))
    chunks = (group.column(index) for group in groups for index in range(metadata.num_columns))
    return any(chunk.path_in_schema == name and "DELTA_BYTE_ARRAY" in chunk.encodings for chunk in chunks)


def _values_in_batches(file: Any, name: str) -> list[Any]:
    """The texts of a column whose size only reading tells."""
    found, n_bytes = [], 0
    for batch in file.iter_batches(_BATCH, columns=[name], use_threads=False):
        n_bytes += batch.nbytes
        if n_bytes > _MOST_TEXT:
            raise Malformed(f"the column {name!r} unpacks to more than {_MOST_TEXT:,} bytes")
        found += batch.column(0).to_pylist()
    return found


def _values(column: Any) -> list[Any]:
    """The values of a column; equal texts are one object."""
    import pyarrow as pa

    found: list[Any] = []
    for chunk in column.chunks:
        if pa.types.is_dictionary(chunk.type):
            texts = chunk.dictionary.to_pylist()
            found += [None if at is None else texts[at] for at in chunk.indices.to_pylist()]
        else:
            found += chunk.to_pylist()
    return found


class _Wrong(RogaError):
    """A file cannot be used, for one or more reasons."""

    def __init__(self, messages: Sequence[str]):
        super().__init__("; ".join(messages))
        self.messages = messages


class _Faults:
    """Counts faults of rows by their kind."""

    def __init__(self):
        self._found: dict[str, list[str]] = {}

    def add(self, what: str, place: str, value: object) -> None:
        """Note that the row ``place`` has the fault ``what``."""
        shown = f"{value:,}" if isinstance(value, int) else repr(one_line(str(value))[:60])
        self._found.setdefault(what, []).append(f"{place} {shown}")

    def check(self) -> None:
        """Raise ``_Wrong`` with all kinds, each with its number of rows and the first few."""
        messages = []
        for what, places in self._found.items():
            more = f" and {len(places) - _NAMED:,} more" * (len(places) > _NAMED)
            count = f"{len(places):,} rows" if len(places) > 1 else "1 row"
            messages.append(f"{what}, in {count}: {', '.join(places[:_NAMED])}{more}")
        if messages:
            raise _Wrong(messages)


class _Rows:
    """The rows of a file, and what is wrong with them."""

    def __init__(self, columns: _Columns, places: Sequence[str], labels: _Labels):
        self._columns, self._places, self._labels = columns, places, labels
        self._sample, self._score, self._env = map(self._first, (_SAMPLE, _SCORE, _ENV))
        self._faults = _Faults()
        said = {"path (or id)": self._sample, "label": self._first(("label",)), "score": self._score}
        lacking = [name for name, column in said.items() if column is None]
        if lacking:
            there = f"; it has {quoted(columns, 12)}" if columns else ""
            raise _Wrong([f"lacks the column{'s' * (len(lacking) > 1)} {', '.join(lacking)}{there}"])
        if not places:
            raise _Wrong(["has no rows"])

    def file(self, name: str, path: str) -> ScoreFile:
        """The scores.

        Raises:
            _Wrong: something is wrong with rows; all of it is said.
        """
        result = ScoreFile(name, path, {})
        rows = self._chosen(result.notes)
        result.has_splits = len({self._value("split", row) for row in rows}) > 1
        of_env: dict[str, list[int]] = {}
        for row in rows:
            value = self._value(self._env, row)
            env = ONE_ENVIRONMENT if value is None else str(value)
            of_env.setdefault(f"{env} {self._value('split', row)}" if result.has_splits else env, []).append(
                row
            )
        result.parts = {env: self._part(own) for env, own in of_env.items()}
        self._faults.check()
        return result

    def _first(self, names: Sequence[str]) -> str | None:
        """The first of ``names`` that is a column with a value; else the first that is a column."""
        there = [name for name in names if name in self._columns]
        full = (name for name in there if any(value not in (None, "") for value in self._columns[name]))
        return next(full, there[0] if there else None)

    def _value(self, column: str | None, row: int) -> Any:
        """None for an empty cell, and if there is no such column."""
        value = self._columns[column][row] if column in self._columns else None
        return None if value == "" else value

    def _chosen(self, notes: list[str]) -> list[int]:
        """The rows that are samples of the last step; ``notes`` gets what else there was."""
        rows = range(len(self._places))
        steps = {step for step in self._columns.get("step", ()) if step not in (None, "")}
        if len(steps) > 1:
            last = max(steps, key=_number)
            rows = [row for row in rows if self._value("step", row) == last]
            notes.append(f"of {len(steps)} steps the last, {one_line(str(last))}")
        if "level" in self._columns:  # of 'predict', whose rows of videos are means of the faces
            rows = [row for row in rows if self._value("level", row) != "video"]
            unread = {
                row for row in rows if self._value("error", row) and self._value(self._score, row) is None
            }
            if unread:
                notes.append(
                    f"{len(unread)} files have no score, but a reason in the column 'error', and are left out"
                )
            rows = [row for row in rows if row not in unread]
        if not rows:
            raise _Wrong(["has no rows of samples"])
        return list(rows)

    def _part(self, rows: Sequence[int]) -> ScoredPart:
        labels, scores = np.zeros(len(rows), int), np.zeros(len(rows))
        for position, row in enumerate(rows):
            labels[position] = self._label(row)
            scores[position] = self._finite_score(row)
        return ScoredPart(self._keys(rows), labels, scores, self._videos(rows, labels))

    def _label(self, row: int) -> int:
        value = self._columns["label"][row]
        label = self._labels.of(value)
        if label is None:
            self._faults.add(self._labels.fault, self._places[row], value)
        return label or 0

    def _finite_score(self, row: int) -> float:
        value = self._columns[self._score][row]
        number = _number(value)
        if not math.isfinite(number):
            self._faults.add("a score that is no finite number", self._places[row], value)
        return number

    def _keys(self, rows: Sequence[int]) -> list[str]:
        """What the samples are called; where frames or faces share a file, with what tells them apart."""
        names = [self._value(self._sample, row) for row in rows]
        keys = list(map(str, names))
        if len(set(keys)) < len(keys):
            more = [column for column in _WITHIN_FILE if column in self._columns]
            if "split" not in self._columns:  # in a file that is not ours, an index may be any number
                more = [column for column in more if column != "index"]
            keys = [
                " ".join([key, *(str(self._value(c, row)) for c in more)])
                for key, row in zip(keys, rows, strict=True)
            ]
        seen: set[str] = set()
        for row, name, key in zip(rows, names, keys, strict=True):
            if name is None:
                self._faults.add(f"no {self._sample}", self._places[row], "")
            elif key in seen:
                self._faults.add(
                    f"a {self._sample} that is there before in the same environment", self._places[row], name
                )
            seen.add(key)
        return keys

    def _videos(self, rows: Sequence[int], labels: np.ndarray) -> list[str | None] | None:
        videos = [self._value("video", row) for row in rows]
        if "video" not in self._columns and "kind" in self._columns:  # of 'predict'
            videos = [
                self._value("path", row) if self._value("kind", row) == "video" else None for row in rows
            ]
        videos = [None if video is None else str(video) for video in videos]
        label_of: dict[str, int] = {}
        for row, video, label in zip(rows, videos, labels.tolist(), strict=True):
            if video is not None and label_of.setdefault(video, label) != label:
                self._faults.add("a video that has the other label before", self._places[row], video)
        return videos if label_of else None


class _Labels:
    """What a label means: 0 and 1, names of real and fake, or what the user says.

    Args:
        real: labels that the user says are real; with ``fake``, only what is said counts.
        fake: those that are fake.
    """

    def __init__(self, real: Collection[str], fake: Collection[str]):
        self._real, self._fake = real, fake
        self._known: dict[Any, int | None] = {}
        self.fault = (
            "a label that neither --real nor --fake names"
            if real or fake
            else "a label that is not 0 or 1 and does not mean real or fake (--real and --fake say what it means)"
        )

    def of(self, value: Any) -> int | None:
        """``REAL`` or ``FAKE``; None if that is not known."""
        kind = type(value), value  # True is no 1
        if kind not in self._known:
            text = _label_text(value)
            said = self._real or self._fake
            number = None if said else _NUMBERS.get(text)
            self._known[kind] = said_or_meant(text, self._real, self._fake) if number is None else number
        return self._known[kind]

    def useless(self) -> Iterator[str]:
        """A sentence for each name that was said and is no label."""
        there = {_label_text(value) for _, value in self._known}
        for option, names in (("--real", self._real), ("--fake", self._fake)):
            for name in names:
                if name not in there:
                    yield f"{option} {name!r} is no label; the labels are {quoted(sorted(there), 10)}"


def _label_text(value: Any) -> str:
    """A label as text: pandas makes 0.0 and 1.0 of numbers in a column that lacks some."""
    return re.sub(r"\A([0-9]+)\.0+\Z", r"\1", str(value).strip())


def _number(value: Any) -> float:
    """NaN for what is no number."""
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
