"""``manifest.parquet``: one row a frame, with its video, recording, identities and split.

Video identity is a column here and never parsed from a path at run time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from roga_domainbed.errors import RogaError
from roga_domainbed.files import replacing

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
    with replacing(path) as partial:
        ordered.to_parquet(partial, index=False)
    return path


def read(folder: str | os.PathLike) -> pd.DataFrame:
    """The manifest of the dataset in ``folder``; ``RogaError`` if it is missing or damaged."""
    path = Path(folder) / FILE
    if not path.is_file():
        raise RogaError(
            f"no {FILE} in {str(folder)!r}: make the dataset with 'roga-domainbed prepare', "
            "or point --data_dir at the folder that contains it"
        )
    try:
        rows = pd.read_parquet(path)
    except Exception as error:  # pyarrow raises its own kinds for damaged files
        raise RogaError(f"{path} cannot be read as a manifest: {error}") from None
    missing = [column for column in COLUMNS if column not in rows]
    if missing:
        raise RogaError(f"{path} lacks the columns {', '.join(missing)}; make it again with 'prepare'")
    return rows


def text_problems(rows: pd.DataFrame, name: str) -> Iterator[str]:
    """A sentence for each text column of the dataset ``name`` that holds other values."""
    for column in sorted(set(COLUMNS) - {"label", "frame"}):
        odd = sum(not isinstance(value, str) for value in rows[column].unique())
        if odd:
            yield f"{name}: the manifest's column {column!r} must hold text; it has {odd} other values, or empty cells"


def problems(rows: pd.DataFrame, name: str, environments: Sequence[str]) -> Iterator[str]:
    """What is wrong with the rows of the dataset ``name``; a sentence each."""
    yield from text_problems(rows, name)
    for column, allowed in (
        ("dataset", {name}),
        ("label", {REAL, FAKE}),
        ("split", {*SPLITS, ""}),
    ):
        strange = set(rows[column].unique().tolist()) - allowed
        if strange:
            known, found = (", ".join(sorted(map(repr, values))) for values in (allowed, strange))
            yield f"{name}: the manifest's column {column!r} may hold {known}; it has {found}"
    present = ", ".join(sorted(map(str, rows["env"].unique()))) or "none"
    for env in environments:
        labels = rows["label"][rows["env"] == env]
        if labels.empty:
            yield f"{name}: environment {env!r} is not in the manifest, which has {present}"
            continue
        for label, folder in enumerate(CLASS_FOLDERS):
            if not (labels == label).any():
                yield f"{name}: environment {env!r} has no frames of the class {folder!r}"
