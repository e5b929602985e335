"""``scores.parquet``: the trained model's score of every sample, so that any metric can be computed without the model.

One row for each sample of every split, in the order of evaluation. Written at the last step, always of all samples; the
metrics of its rows are those of the run's last record. Importing this loads no torch.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from roga_domainbed.files import replacing
from roga_domainbed.results.records import SCORES

if TYPE_CHECKING:
    from roga_domainbed.trainer.evaluation import EvaluatedSplit

#: Column → what it holds.
COLUMNS = {
    "env": "index of the environment",
    "env_name": "its name",
    "split": "in, out or uda, as in the record keys",
    "index": "index of the sample in the environment",
    "video": "key of its video, equal for the frames of one and for no others; null where videos are not known",
    "path": "its file, relative to the dataset's folder; null where it is none",
    "label": "its class; 1 is fake",
    "predicted": "the class with the largest logit",
    "score": "binary tasks: probability of class 1; null otherwise",
    "probabilities": "other tasks: probability of each class, unless that takes too much room; null otherwise",
}

#: Probabilities of more than two classes are left out where those of a run exceed this: DomainNet's would take 800 MB.
MOST_PROBABILITIES = 2**24

_SCHEMA = pa.schema(
    [
        ("env", pa.int32()),
        ("env_name", pa.string()),
        ("split", pa.string()),
        ("index", pa.int32()),
        ("video", pa.string()),
        ("path", pa.string()),
        ("label", pa.int32()),
        ("predicted", pa.int32()),
        ("score", pa.float64()),
        ("probabilities", pa.list_(pa.float32())),
    ]
)


def write_scores(folder: str | os.PathLike, evaluated: Sequence[EvaluatedSplit]) -> Path:
    """Write ``folder``'s ``scores.parquet``, whole or not at all; see ``write_scores_file``."""
    return write_scores_file(Path(folder) / SCORES, evaluated)


def write_scores_file(path: Path, evaluated: Sequence[EvaluatedSplit]) -> Path:
    """Write a file of scores, whole or not at all.

    Raises:
        OSError: the file cannot be written; an earlier one is intact then.
    """
    roomy = sum(split.scores.probabilities.size for split in evaluated) <= MOST_PROBABILITIES
    # Paths differ in their last letters: stored as differences they take a tenth of the room.
    how = {
        "compression": "zstd",
        "use_dictionary": ["env_name", "split", "video"],
        "column_encoding": {"path": "DELTA_BYTE_ARRAY"},
    }
    with replacing(path) as partial, pq.ParquetWriter(partial, _SCHEMA, **how) as writer:
        for split in evaluated:
            writer.write_table(_table(split, with_probabilities=roomy))
    return path


def _table(split: EvaluatedSplit, *, with_probabilities: bool) -> pa.Table:
    scores = split.scores
    n = len(scores.labels)
    binary = scores.fake is not None
    paths = split.environment.relative_paths
    probabilities = None
    if not binary and with_probabilities:
        flat = np.ascontiguousarray(scores.probabilities).reshape(-1)
        ends = np.arange(n + 1, dtype=np.int32) * scores.probabilities.shape[1]
        probabilities = pa.ListArray.from_arrays(pa.array(ends), pa.array(flat, pa.float32()))
    columns = {
        "env": np.full(n, split.env),
        "env_name": [split.env_name] * n,
        "split": [split.part] * n,
        "index": np.asarray(scores.indices),
        "video": scores.videos,
        "path": None if paths is None else [paths[index] for index in scores.indices],
        "label": scores.labels,
        "predicted": scores.predicted,
        "score": scores.fake,
        "probabilities": probabilities,
    }
    return pa.table([_column(columns[column.name], column.type, n) for column in _SCHEMA], schema=_SCHEMA)


def _column(values: object, kind: pa.DataType, n: int) -> pa.Array:
    if values is None:
        return pa.nulls(n, kind)
    return values if isinstance(values, pa.Array) else pa.array(values, kind)
