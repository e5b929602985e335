"""``manifest.parquet``: one row a frame, with its video, recording, identities and split.

Video identity is a column here and never parsed from a path at run time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from roga_domainbed.errors import Problems, RogaError, is_out_of_memory, shortened
from roga_domainbed.files import replacing
from roga_domainbed.foreign import Malformed, check_unpacked, open_regular

FILE = "manifest.parquet"

REAL, FAKE = 0, 1
CLASS_FOLDERS = ("0_real", "1_fake")
SPLITS = ("train", "val", "test")

#: Column → meaning. ``path`` is relative to the dataset's folder, with forward slashes.
COLUMNS = {
    "path": "frame file, relative to the dataset's folder: <env>/<class folder>/<video>/<frame>.png",
    "dataset": "registered name, for example FFPP",
    "env": "environment name, for example DF",
    "method": "manipulation that made the fake; 'real' for reals",
    "compression": "raw, c23, c40; empty where there is none",
    "label": "0 real, 1 fake",
    "video": "video stem; unique within (env, label)",
    "recording": "key of the recorded background: equal for a fake and the real it was made from",
    "identities": "the people in it, sorted, joined by '+'",
    "split": "official part: train, val, test; empty where there is no official split",
    "frame": "frame index in the source video, from 0",
}
_NUMBERS = ("label", "frame")
_TEXTS = tuple(column for column in COLUMNS if column not in _NUMBERS)
_OF_A_VIDEO = ("env", "label", "video")  # they identify it
_ONE_A_VIDEO = ("recording", "identities", "split", "method")

_LONGEST = 4096  # bytes of a cell
# Absolute, or with a part that is empty, "." or "..": it would leave the folder, or name a file in a second way.
_ODD_PATH = r"^/|^$|//|/$|(^|/)\.\.?(/|$)|\x00" + (r"|[\\:]" if os.name == "nt" else "")


def video_keys(env: str, rows: pd.DataFrame) -> list[str]:
    """``env/label/video`` of each row, equal for the frames of one video and for no others."""
    return [f"{env}/{label}/{video}" for label, video in zip(rows["label"], rows["video"], strict=True)]


def write(folder: str | os.PathLike, rows: pd.DataFrame) -> Path:
    """Write ``rows`` (columns of ``COLUMNS``) as the manifest of the dataset in ``folder``, atomically."""
    missing = [column for column in COLUMNS if column not in rows]
    if missing:
        raise ValueError(f"manifest rows lack the columns {missing}")
    path = Path(folder) / FILE
    ordered = rows[list(COLUMNS)].sort_values("path", kind="stable").reset_index(drop=True)
    ordered = ordered.astype({"label": "int8", "frame": "int32"})
    # As an open file: pyarrow takes no path that is not UTF-8.
    with replacing(path) as partial, open(partial, "wb") as file:
        ordered.to_parquet(file, index=False, write_page_checksum=True)
    return path


def read(folder: str | os.PathLike) -> pd.DataFrame:
    """The manifest of the dataset in ``folder``: its columns of ``COLUMNS``, of their kinds.

    What the cells say is not checked here: ``problems``.

    Raises:
        RogaError: it is missing, damaged, much larger than its file, or lacks columns or has others in their place.
    """
    path = Path(folder) / FILE
    try:
        source = open_regular(path)
    except (FileNotFoundError, NotADirectoryError):
        raise RogaError(
            f"no {FILE} in {str(folder)!r}: make the dataset with 'roga-domainbed prepare', "
            "or point --data_dir at the folder that contains it"
        ) from None
    except OSError as error:
        raise RogaError(f"{path} cannot be read as a manifest: {error.strerror}") from None
    try:
        with source, pq.ParquetFile(source) as file:
            metadata, problems = file.metadata, Problems()
            for message in _structure_problems(path, file):
                problems.add(message)
            problems.check()
            # Repeated text stays stored once, so a few bytes cannot unpack to gigabytes.
            again = pq.ParquetFile(
                source, metadata=metadata, read_dictionary=list(_TEXTS), page_checksum_verification=True
            )
            table = again.read(columns=list(COLUMNS), use_threads=False)
        _require_sound_cells(path, table)
        return _with_plain_text(table).to_pandas(use_threads=False)
    except RogaError:
        raise
    except Exception as error:  # pyarrow raises its own kinds for damaged files
        if is_out_of_memory(error):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise RogaError(f"{path} cannot be read as a manifest: {reason[:200]}") from None


def _structure_problems(path: Path, file: pq.ParquetFile) -> Iterator[str]:
    schema = file.schema_arrow
    missing = [column for column in COLUMNS if column not in schema.names]
    if missing:
        yield f"{path} lacks the columns {', '.join(missing)}; make it again with 'prepare'"
    for column in COLUMNS:
        if schema.names.count(column) > 1:
            yield f"{path} has the column {column!r} more than once"
        elif column in schema.names:
            kind = schema.field(column).type
            if column in _NUMBERS and not pa.types.is_integer(kind):
                yield f"{path}: the manifest's column {column!r} must hold whole numbers; it holds {kind}"
            if column in _TEXTS and not _is_text(kind):
                yield f"{path}: the manifest's column {column!r} must hold text; it holds {kind}"
    try:
        check_unpacked(file.metadata, path.stat().st_size, COLUMNS)
    except Malformed as error:
        yield f"{path} is refused: {error}, which no manifest does"


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)


def _require_sound_cells(path: Path, table: pa.Table) -> None:
    for column in _TEXTS:
        try:
            table[column].validate(full=True)
        except pa.ArrowInvalid:
            raise RogaError(f"{path}: the column {column!r} has text that is not UTF-8") from None
        for chunk in table[column].chunks:
            texts = chunk.dictionary if isinstance(chunk, pa.DictionaryArray) else chunk
            if not pa.types.is_null(texts.type) and (pc.max(pc.binary_length(texts)).as_py() or 0) > _LONGEST:
                raise RogaError(f"{path}: a cell of the column {column!r} has more than {_LONGEST} bytes")
    for column in _NUMBERS:
        if table[column].null_count:
            raise RogaError(f"{path}: the column {column!r} has {table[column].null_count} empty cells")


def _with_plain_text(table: pa.Table) -> pa.Table:
    for column in _TEXTS:
        values = table[column]
        if pa.types.is_dictionary(values.type) and pa.types.is_null(values.type.value_type):
            values = pa.nulls(len(values), pa.large_string())
        table = table.set_column(table.schema.get_field_index(column), column, values.cast(pa.large_string()))
    return table.replace_schema_metadata(None)  # which says how another program would show it


def problems(rows: pd.DataFrame, name: str | None, environments: Sequence[str] = ()) -> Iterator[str]:
    """Everything that is wrong with rows and can be seen without a file, a sentence each.

    Args:
        rows: from ``read``.
        name: of their dataset; None if it may have any.
        environments: those that must be there, with both classes.
    """
    shown = "manifest" if name is None else name
    yield from value_problems(rows, name, environments)
    for fault, names in contradictions(rows).items():
        yield f"{shown}: {fault}: {len(names)}, {shortened(map(repr, names))}"


def value_problems(rows: pd.DataFrame, name: str | None, environments: Sequence[str] = ()) -> Iterator[str]:
    """The faults of single cells, and environments and classes that are not there; as ``problems``."""
    shown = "manifest" if name is None else name
    if rows.empty:
        yield f"{shown}: the manifest has no rows"
    for column in _TEXTS:
        n_empty = int(rows[column].isna().sum())
        if n_empty:
            yield f"{shown}: the manifest's column {column!r} must hold text; it has {n_empty} empty cells"
    for column, allowed in (
        ("dataset", {name} if name is not None else None),
        ("label", {REAL, FAKE}),
        ("split", {*SPLITS, ""}),
    ):
        strange = set(rows[column].dropna().unique().tolist()) - allowed if allowed is not None else ()
        if strange:
            known = ", ".join(sorted(map(repr, allowed)))
            found = shortened(sorted(map(repr, strange)), 10)
            yield f"{shown}: the manifest's column {column!r} may hold {known}; it has {found}"
    outside = odd_paths(rows)
    if outside:
        yield (
            f"{shown}: {len(outside)} paths of the manifest are not files within the dataset's folder: "
            f"{shortened(map(repr, outside))}"
        )
    present = rows["env"].dropna().unique().tolist()
    strange = [env for env in present if not is_folder_name(env)]
    if strange:
        yield f"{shown}: {len(strange)} environments are no names of folders: {shortened(map(repr, strange))}"
    listed = shortened(sorted(present), 20) or "none"
    for env in environments:
        labels = rows["label"][rows["env"] == env]
        if labels.empty:
            yield f"{shown}: environment {env!r} is not in the manifest, which has {listed}"
            continue
        for label, folder in enumerate(CLASS_FOLDERS):
            if not (labels == label).any():
                yield f"{shown}: environment {env!r} has no frames of the class {folder!r}"


def odd_paths(rows: pd.DataFrame) -> list[str]:
    """The paths that leave the dataset's folder or are written in an unusual way."""
    paths = _arrow(rows["path"])
    return paths.filter(pc.match_substring_regex(paths, _ODD_PATH)).to_pylist()


def is_folder_name(name: str) -> bool:
    """Whether ``name`` is a folder's, within the folder that it is looked up in."""
    return name not in ("", ".", "..") and "/" not in name and "\0" not in name


def contradictions(rows: pd.DataFrame) -> Mapping[str, list[str]]:
    """Rows that say two things: kind of fault → the paths or videos that have it, sorted.

    A second for a million rows. Rows with empty cells are left out.
    """
    rows = rows.dropna(subset=list(_TEXTS))
    paths = _arrow(rows["path"])
    parts = pc.extract_regex(paths, r"^(?P<env>[^/]*)/(?P<label>[^/]*)/")
    folders = pa.array(CLASS_FOLDERS).take(pa.array(rows["label"].clip(0, 1)))
    found = {"listed more than once": sorted(rows["path"][rows["path"].duplicated()].unique().tolist())}
    for fault, part, wanted in (
        ("in the folder of another class than its label", "label", folders),
        ("in the folder of another environment", "env", _arrow(rows["env"])),
    ):
        same = pc.fill_null(pc.equal(pc.struct_field(parts, part), wanted), False)
        found[fault] = sorted(set(paths.filter(pc.invert(same)).to_pylist()))
    video = np.zeros(len(rows), dtype=np.int64)
    for column in _OF_A_VIDEO:
        codes, values = pd.factorize(rows[column])
        video, _ = pd.factorize(video * len(values) + codes)
    for column in _ONE_A_VIDEO:
        codes, values = pd.factorize(rows[column])
        pairs = np.unique(video * len(values) + codes)
        differing = np.flatnonzero(np.bincount(pairs // max(1, len(values))) > 1)
        which = rows.iloc[np.flatnonzero(np.isin(video, differing))] if len(differing) else rows[:0]
        names = which[list(_OF_A_VIDEO)].drop_duplicates().itertuples(index=False)
        found[f"a video with more than one {column}"] = sorted("/".join(map(str, name)) for name in names)
    return {fault: names for fault, names in found.items() if names}


def _arrow(texts: pd.Series) -> pa.Array:
    found = pa.array(texts, pa.large_string(), from_pandas=True)
    return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found
