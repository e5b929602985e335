"""A packed sweep: its run folders as ``records.parquet`` and ``scores.parquet``, which are read like the folders.

Two files can be committed and sent where hundreds of folders cannot. ``records.parquet`` has a row for each line of
every ``results.jsonl``, in order, and one for a run that has none. ``scores.parquet`` has the rows of the files of that
name, with the run's. Importing this loads no pyarrow.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from roga_domainbed.errors import RogaError, first_line, is_out_of_memory
from roga_domainbed.foreign import Malformed, check_regular, check_unpacked
from roga_domainbed.results.records import LARGEST_FILE, RECORDS, RecordsFile, parse_records, read_records

if TYPE_CHECKING:
    import pyarrow as pa

PACKED_RECORDS = "records.parquet"
RUN = "run"  # the column of both files that names the run's folder
DROPPED = "Dropped"
#: As ``launch.State`` calls them; none runs, there is no process.
STATES = ("Done", "Failed", "Interrupted", DROPPED)
_FORMERLY = {"Incomplete": "Interrupted"}
_LONGEST_NAME = 255  # of a folder, in most file systems


@dataclass(frozen=True)
class PackedRun:
    """What is kept of a run's folder beside its scores.

    Attributes:
        state: one of ``STATES``.
        exit_code: how a run that is not done ended, from its ``job.json``; None if that does not say.
        argv: its command, likewise; empty if there is none.
        lines: those of its ``results.jsonl``; None for a run without that file.
    """

    state: str
    exit_code: int | None = None
    argv: tuple[str, ...] = ()
    lines: pa.ChunkedArray | None = field(default=None, repr=False)

    @property
    def is_done(self) -> bool:
        """Whether it has finished."""
        return self.state == STATES[0]

    @property
    def content(self) -> bytes | None:
        """Its ``results.jsonl``, byte for byte; None if it has none."""
        return None if self.lines is None else b"".join(self.lines.to_pylist())


def schema() -> pa.Schema:
    """The columns of ``records.parquet``; all but ``record`` are the same in every row of a run."""
    import pyarrow as pa

    return pa.schema(
        [
            (RUN, pa.string()),  # name of its folder
            ("state", pa.string()),
            ("exit_code", pa.int64()),
            ("argv", pa.list_(pa.string())),
            ("record", pa.binary()),  # a line with its end; binary, because a damaged line may be no text
        ]
    )


def packed_runs(folder: str | os.PathLike) -> dict[str, PackedRun]:
    """Name → run of the packed runs in ``folder``; empty if it holds no packed sweep.

    A folder of that name beside the file counts before the packed run.

    Raises:
        RogaError: the file is there and cannot be read as one.
    """
    return {
        name: run
        for name, run in _packed(os.fspath(folder)).items()
        if not os.path.isdir(os.path.join(folder, name))
    }


def read_run(folder: str | os.PathLike) -> RecordsFile:
    """The records of the run whose folder is, or was before it was packed, ``folder``.

    Raises:
        OSError: as ``read_records``.
        RogaError: as ``packed_runs``.
    """
    path = f"{os.fspath(folder)}/{RECORDS}"
    try:
        return read_records(path)
    except (FileNotFoundError, NotADirectoryError):
        parent, name = os.path.split(folder)
        run = _packed(parent).get(name)
        if run is None or run.lines is None:
            raise
        return parse_records(run.content, path)


def _packed(folder: str) -> dict[str, PackedRun]:
    path = os.path.join(folder, PACKED_RECORDS)
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise RogaError(f"{path}: {error.strerror or error}") from None
    return _read(path, found.st_mtime_ns, found.st_size)


@functools.lru_cache(maxsize=16)
def _read(path: str, changed: int, size: int) -> dict[str, PackedRun]:
    """The runs in a file; ``changed`` and ``size`` say whether it is still the one that was read before."""
    from pyarrow import parquet

    try:
        check_regular(path)
        with parquet.ParquetFile(path) as file:
            wanted = schema()
            if not wanted.equals(file.schema_arrow):
                raise Malformed(f"its columns are not {', '.join(wanted.names)}, with their types")
            columns = [file.schema.column(index).path for index in range(len(file.schema.names))]
            check_unpacked(file.metadata, size, columns)
            return dict(_runs(file.read()))
    except Exception as error:  # pyarrow raises its own kinds for damaged files
        if is_out_of_memory(error):
            raise
        said = getattr(error, "strerror", None) or first_line(error) or type(error).__name__
        raise RogaError(f"{path} cannot be read as a packed sweep: {said[:200]}") from None


def _runs(table: pa.Table) -> Iterator[tuple[str, PackedRun]]:
    import pyarrow.compute as pc

    table.validate(full=True)
    names = table[RUN].to_pylist()
    starts = [place for place, name in enumerate(names) if not place or name != names[place - 1]]
    if len({names[start] for start in starts}) < len(starts):
        raise Malformed("rows of a run stand apart")
    about = table.select([column for column in table.column_names if column != "record"])
    for start, end in zip(starts, [*starts[1:], len(names)], strict=True):
        name, lines = names[start], table["record"].slice(start, end - start)
        row: dict[str, Any] = about.slice(start, 1).to_pylist()[0]
        row["state"] = _FORMERLY.get(row["state"], row["state"])
        if not _is_a_folders(name):
            raise Malformed(f"a run is called {name!r:.80}, which is no name of a folder")
        if row["state"] not in STATES:
            raise Malformed(f"the run {name} is {row['state']!r:.80}; expected {', '.join(STATES)}")
        has_none = lines.null_count == len(lines) == 1
        if lines.null_count and not has_none:
            raise Malformed(f"the run {name} has rows without a record")
        if (pc.sum(pc.binary_length(lines)).as_py() or 0) > LARGEST_FILE:
            raise Malformed(f"the run {name} has more than {LARGEST_FILE // 2**20} MiB of records")
        argv = tuple(map(str, row["argv"] or ()))
        yield name, PackedRun(row["state"], row["exit_code"], argv, None if has_none else lines)


def _is_a_folders(name: object) -> bool:
    """Whether a folder of this name would be in the sweep's folder, wherever it is unpacked."""
    return (
        isinstance(name, str)
        and 0 < len(name) <= _LONGEST_NAME
        and name not in (".", "..")
        and name == os.path.basename(os.path.splitdrive(name)[1])
        and "\0" not in name
    )
