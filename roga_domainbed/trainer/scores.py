"""``scores.parquet``: scores of samples, so that any metric can be computed without the model.

One row for each sample and step, in the order of evaluation. Every evaluated step has the samples of the held-out
environments, because a selection rule may choose any step; the last step has all samples. The metrics of a step's rows
are those of the run's record of that step. Importing this loads no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from roga_domainbed.errors import RogaError
from roga_domainbed.files import replacing
from roga_domainbed.foreign import check_regular

if TYPE_CHECKING:
    from roga_domainbed.trainer.evaluation import EvaluatedSplit

#: Probabilities of more than two classes are left out where those of a run exceed this: DomainNet's would take 800 MB.
MOST_PROBABILITIES = 2**24
GROUP_ROWS = 2**16  # at least, of a group of rows, which is compressed by itself

SCHEMA = pa.schema(
    [
        # of the record that has the metrics of the row; null if the scores are of no step of a run
        ("step", pa.int64()),
        ("env", pa.int32()),  # index of the environment
        ("env_name", pa.string()),
        ("split", pa.string()),  # in, out or uda, as in the record keys
        ("index", pa.int32()),  # of the sample in the environment
        # key of its video, equal for the frames of one and for no others; null if not known
        ("video", pa.string()),
        ("path", pa.string()),  # its file, relative to the dataset's folder; null if it is none
        ("label", pa.int32()),  # 1 is fake; in training environments as --label_noise left it
        ("predicted", pa.int32()),  # the class with the largest logit
        ("score", pa.float64()),  # binary tasks: probability of class 1; null otherwise
        # other tasks: probability of each class, if there is room for them; null otherwise
        ("probabilities", pa.list_(pa.float32())),
    ]
)


# Paths differ in their last letters: stored as differences they take a tenth of the room.
_HOW = {
    "compression": "zstd",
    "use_dictionary": ["env_name", "split", "video"],
    "column_encoding": {"path": "DELTA_BYTE_ARRAY"},
}


def write_scores(path: Path, evaluated: Sequence[EvaluatedSplit]) -> None:
    """Write scores that are of no step, whole or not at all.

    Raises:
        OSError: the file cannot be written; an earlier one is intact then.
    """
    with replacing(path) as partial, pq.ParquetWriter(partial, SCHEMA, **_HOW) as writer:
        for table in _tables(evaluated, None):
            writer.write_table(table)


def add_scores(path: Path, evaluated: Sequence[EvaluatedSplit], step: int) -> None:
    """Add the scores of a step to the file, in one step: a process that is killed leaves the file as it was.

    Rows of this step and of later ones are left out: a run that resumes comes to them again. So the file of a resumed
    run equals that of an unbroken one.

    Raises:
        RogaError: the earlier steps cannot be read; the file stays as it is.
        OSError: the file cannot be written; it stays as it was.
    """
    with replacing(path, durable=True) as partial, pq.ParquetWriter(partial, SCHEMA, **_HOW) as writer:
        for table in _grouped(chain(_earlier(path, step), _tables(evaluated, step))):
            writer.write_table(table)


def _earlier(path: Path, step: int) -> Iterator[pa.Table]:
    """The rows of the steps before ``step``."""
    if not path.exists():
        return
    try:
        check_regular(path)
        with pq.ParquetFile(path) as file:
            if "step" not in file.schema_arrow.names:
                return  # of version 0.1.0: the last step, to which the run comes again
            if not file.schema_arrow.equals(SCHEMA):
                raise RogaError(
                    f"{path} has other columns than this version writes; rename it to go on without it"
                )
            for group in range(file.num_row_groups):
                table = file.read_row_group(group)
                # a mask: the expression would import pyarrow.dataset, which takes as long as ten steps of Meso-4
                yield table.filter(pc.less(table["step"], step))
    except (pa.ArrowException, OSError) as error:
        raise RogaError(
            f"{path} cannot be read: {str(error).splitlines()[0]}; rename it to go on without the scores in it"
        ) from None


def _grouped(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """``tables`` in groups of about ``GROUP_ROWS``: a file of many small groups is slow to read and to write."""
    group: list[pa.Table] = []
    for table in tables:
        group.append(table)
        if sum(part.num_rows for part in group) >= GROUP_ROWS:
            yield pa.concat_tables(group).combine_chunks()
            group = []
    if group:
        yield pa.concat_tables(group).combine_chunks()


def _tables(evaluated: Sequence[EvaluatedSplit], step: int | None) -> Iterator[pa.Table]:
    roomy = sum(split.scores.probabilities.size for split in evaluated) <= MOST_PROBABILITIES
    for split in evaluated:
        yield _table(split, step, with_probabilities=roomy)


def _table(split: EvaluatedSplit, step: int | None, *, with_probabilities: bool) -> pa.Table:
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
        "step": None if step is None else np.full(n, step),
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
