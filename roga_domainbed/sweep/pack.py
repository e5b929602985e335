"""Pack the run folders of a sweep into two Parquet files and its plan, and unpack them again.

What a run leaves for others to read is kept: records, scores, and whether it is done, or how it ended. Models,
checkpoints and logs are not. ``results.packed`` says what the files hold and reads them.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from roga_domainbed.errors import RogaError, first_line
from roga_domainbed.files import replacement_problem, replacing
from roga_domainbed.foreign import check_regular, is_unicode, read_bytes
from roga_domainbed.launch.job import State, folder_state
from roga_domainbed.launch.jobfile import JOB_FILE, read_job_file
from roga_domainbed.results.packed import PACKED_RECORDS, RUN, packed_runs, schema
from roga_domainbed.results.records import LARGEST_FILE, RECORDS, SCORES, mark_done
from roga_domainbed.sweep.folder import PLAN_FILE, store_plan, stored_plans

_PARQUET = b"PAR1"
_ONE_PAGE = 2**26  # bytes: what repeats is found within a page alone
_LEVEL = 19  # of zstd: records take 60 % of the room of level 3, near what the digits of their numbers need
_GROUP_BYTES = 2**26  # of records in a group of rows, which is held in memory
_GROUP_ROWS = 2**18  # of scores, likewise
_MOST_ROWS = 2**26  # of scores that are read, as in ``report.scores``


@dataclass
class Packed:
    """What was packed.

    Attributes:
        runs: how many.
        done: how many of them are done.
        files: paths of the files that were written.
        problems: one sentence for everything that was left out.
    """

    runs: int
    done: int
    files: list[Path]
    problems: list[str]


def pack(sweep: str | os.PathLike, folder: str | os.PathLike) -> Packed:
    """Write the runs of ``sweep`` into ``folder``, in place of what was packed there before.

    Each file is written whole or not at all, ``records.parquet`` last.

    Raises:
        RogaError: there is nothing to pack, or something in ``folder`` would be lost.
        OSError: a file cannot be read or written.
    """
    sweep, folder = Path(sweep), Path(folder)
    names = [
        name
        for name in sorted(os.listdir(sweep))
        if any(os.path.isfile(sweep / name / file) for file in (RECORDS, JOB_FILE))
    ]
    if not names:
        raise RogaError(
            f"no run folders in {os.fspath(sweep)!r}: give the output_dir of a sweep that was launched"
        )
    problems = [f"{name!a}: not Unicode, left out" for name in names if not is_unicode(name)]
    # before the records are read, which are whole if it is done
    runs = {name: folder_state(sweep / name) for name in names if is_unicode(name)}
    done = {name for name, state in runs.items() if state is State.DONE}
    plans = stored_plans(sweep)
    _check_target(folder, done)
    folder.mkdir(parents=True, exist_ok=True)
    written = _write_scores(sweep, runs, folder / SCORES, problems)
    if plans:
        with replacing(folder / PLAN_FILE) as partial:
            partial.write_bytes(read_bytes(sweep / PLAN_FILE))
        written.append(folder / PLAN_FILE)
    rows = (row for name, state in runs.items() for row in _rows(sweep / name, state))
    with (
        replacing(folder / PACKED_RECORDS) as partial,
        pq.ParquetWriter(
            partial,
            schema(),
            compression="zstd",
            compression_level=_LEVEL,
            data_page_size=_ONE_PAGE,
            use_dictionary=[RUN, "state"],
            write_statistics=False,  # of a record: the whole line, twice
        ) as writer,
    ):
        for group in _groups(rows):
            writer.write_table(pa.Table.from_pylist(group, schema()))
    return Packed(len(runs), len(done), [folder / PACKED_RECORDS, *written], problems)


def unpack(folder: str | os.PathLike, sweep: str | os.PathLike) -> tuple[int, int, int]:
    """Make the folders of the runs that are done, and the plan, so that a launch in ``sweep`` goes on with the others.

    A run's folder is there whole or not at all; one that is there already stays as it is.

    Returns:
        How many were made, how many were there, how many packed runs are not done.

    Raises:
        RogaError: nothing is packed in ``folder``, or it cannot be read.
        OSError: a file cannot be written.
    """
    runs = packed_runs(folder)
    if not runs:
        raise RogaError(
            f"no {PACKED_RECORDS} in {os.fspath(folder)!r}: give a folder that 'sweep pack' wrote"
        )
    os.makedirs(sweep, exist_ok=True)
    for plan in stored_plans(folder):
        store_plan(sweep, plan)
    done = {name: run for name, run in runs.items() if run.is_done}
    new = {name: run for name, run in done.items() if not os.path.lexists(os.path.join(sweep, name))}
    # A killed process leaves this folder, in which no run is looked for.
    with tempfile.TemporaryDirectory(dir=sweep, prefix=".unpacking-") as staging:
        for name, run in new.items():
            made = Path(staging, name)
            made.mkdir()
            if run.content is not None:
                (made / RECORDS).write_bytes(run.content)
            scores = _scores_of(folder, name)
            if scores is not None and scores.num_rows:
                pq.write_table(scores, made / SCORES, compression="zstd")
            mark_done(made)
            made.rename(Path(sweep, name))
    return len(new), len(done) - len(new), len(runs) - len(done)


def _check_target(folder: Path, done: set[str]) -> None:
    """Refuse to replace what is somebody else's, or finished runs that would be nowhere then."""
    for file in (PACKED_RECORDS, SCORES):
        if (problem := replacement_problem(folder / file, _PARQUET)) is not None:
            raise RogaError(f"{os.fspath(folder / file)!r} {problem}")
    if (folder / PLAN_FILE).exists() and not (folder / PACKED_RECORDS).exists():
        raise RogaError(f"{os.fspath(folder)!r} is the folder of a sweep: choose another to pack into")
    lost = [name for name, run in packed_runs(folder).items() if run.is_done and name not in done]
    if lost:
        raise RogaError(
            f"{os.fspath(folder)!r} has {len(lost)} finished runs that the sweep has not: 'sweep unpack' gives them to "
            "the sweep; or choose another folder"
        )


def _rows(folder: Path, state: State) -> Iterator[dict[str, object]]:
    """The rows of one run: one for each line of its records, or one without."""
    state = State.INTERRUPTED if state is State.RUNNING else state
    job = None if state is State.DONE else read_job_file(folder)
    row = {RUN: folder.name, "state": state.value}
    if job is not None:
        row |= {"exit_code": job.exit_code, "argv": list(job.argv)}
    try:
        content = read_bytes(folder / RECORDS, LARGEST_FILE)
    except FileNotFoundError:
        yield row
        return
    for line in io.BytesIO(content).readlines() or [b""]:  # ends at \n alone, as ``read_records`` does
        yield {**row, "record": line}


def _groups(rows: Iterable[dict]) -> Iterator[list[dict]]:
    group, size = [], 0
    for row in rows:
        group.append(row)
        size += len(row.get("record", b""))
        if size >= _GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _write_scores(sweep: Path, names: Iterable[str], path: Path, problems: list[str]) -> list[Path]:
    """Write the scores of all runs as one table; the files that were written."""
    schemas: dict[str, pa.Schema] = {}
    whole = pa.schema([(RUN, pa.string())])
    for name in names:
        file = sweep / name / SCORES
        with _leaving_out(file, problems):
            if os.path.lexists(file):
                check_regular(file)
                own = pq.read_schema(file).remove_metadata()
                if "step" not in own.names or RUN in own.names:
                    raise RogaError("not the columns of this version")
                whole = pa.unify_schemas([whole, own], promote_options="permissive")
                schemas[name] = own
    if not schemas:
        path.unlink(missing_ok=True)  # of an earlier pack
        return []
    repeating = [column.name for column in whole if not pa.types.is_nested(column.type)]
    repeating = [name for name in repeating if name not in ("index", "score")]
    with (
        replacing(path) as partial,
        pq.ParquetWriter(
            partial,
            whole,
            compression="zstd",
            compression_level=_LEVEL,
            data_page_size=_ONE_PAGE,
            dictionary_pagesize_limit=_ONE_PAGE,
            use_dictionary=repeating,
        ) as writer,
    ):
        for group in _score_groups(sweep, schemas, whole, problems):
            writer.write_table(group)
    return [path]


def _score_groups(
    sweep: Path, schemas: Mapping[str, pa.Schema], whole: pa.Schema, problems: list[str]
) -> Iterator[pa.Table]:
    """The scores of all runs, in groups of about ``_GROUP_ROWS``."""
    group, n_rows = [whole.empty_table()], 0
    for name in schemas:
        with _leaving_out(sweep / name / SCORES, problems):
            with pq.ParquetFile(sweep / name / SCORES) as file:
                table = file.read().replace_schema_metadata()
            table = table.add_column(0, RUN, pa.array([name] * len(table), pa.string()))
            group.append(table)
            n_rows += len(table)
        if n_rows >= _GROUP_ROWS or name == list(schemas)[-1]:
            yield pa.concat_tables(group, promote_options="permissive").select(whole.names).combine_chunks()
            group, n_rows = [whole.empty_table()], 0


@contextlib.contextmanager
def _leaving_out(file: Path, problems: list[str]) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, RogaError) as error:
        said = getattr(error, "strerror", None) or first_line(error) or type(error).__name__
        problems.append(f"{file}: {said}, left out")


def _scores_of(folder: str | os.PathLike, name: str) -> pa.Table | None:
    """The scores of a packed run; None if none were packed."""
    path = os.path.join(folder, SCORES)
    if not os.path.lexists(path):
        return None
    try:
        check_regular(path)
        if pq.read_metadata(path).num_rows > _MOST_ROWS:
            raise RogaError(f"it has more than {_MOST_ROWS:,} rows")
        return pq.read_table(path, filters=[(RUN, "==", name)], partitioning=None).drop_columns(RUN)
    except (pa.ArrowException, OSError, RogaError, ValueError, KeyError) as error:
        said = getattr(error, "strerror", None) or first_line(error) or type(error).__name__
        raise RogaError(f"{path} cannot be read as the scores of a packed sweep: {said}") from None
