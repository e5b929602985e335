"""``scores.parquet``: the trained model's score of every sample, so that any metric can be computed without the model.

One row for each sample of every split, in the order of evaluation. Written at the last step, always of all samples; the
metrics of its rows are those of the run's last record. Importing this loads no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from roga_domainbed.files import replacing

if TYPE_CHECKING:
    from roga_domainbed.trainer.evaluation import EvaluatedSplit

#: Probabilities of more than two classes are left out where those of a run exceed this: DomainNet's would take 800 MB.
MOST_PROBABILITIES = 2**24

SCHEMA = pa.schema(
    [
        ("env", pa.int32()),  # index of the environment
        ("env_name", pa.string()),
        ("split", pa.string()),  # in, out or uda, as in the record keys
        ("index", pa.int32()),  # of the sample in the environment
        # key of its video, equal for the frames of one and for no others; null if not known
        ("video", pa.string()),
        ("path", pa.string()),  # its file, relative to the dataset's folder; null if it is none
        ("label", pa.int32()),  # 1 is fake
        ("predicted", pa.int32()),  # the class with the largest logit
        ("score", pa.float64()),  # binary tasks: probability of class 1; null otherwise
        # other tasks: probability of each class, if there is room for them; null otherwise
        ("probabilities", pa.list_(pa.float32())),
    ]
)


def write_scores(path: Path, evaluated: Sequence[EvaluatedSplit]) -> None:
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
    with replacing(path) as partial, pq.ParquetWriter(partial, SCHEMA, **how) as writer:
        for split in evaluated:
            writer.write_table(_table(split, with_probabilities=roomy))


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
    return pa.table([_column(columns[column.name], column.type, n) for column in SCHEMA], schema=SCHEMA)


def _column(values: object, kind: pa.DataType, n: int) -> pa.Array:
    if values is None:
        return pa.nulls(n, kind)
    return values if isinstance(values, pa.Array) else pa.array(values, kind)
