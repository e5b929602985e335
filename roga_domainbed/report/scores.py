"""Read ``scores.parquet``: the scores of every sample by the model of a run's last step."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from roga_domainbed.errors import RogaError
from roga_domainbed.results.records import SCORES

COLUMNS = ("env", "split", "index", "video", "path", "label", "score")


@dataclass(frozen=True)
class Scores:
    """The scores of one split.

    Attributes:
        scores: (N,) float64, probability of fake.
        labels: (N,) int, 0 real and 1 fake.
        clusters: (N,) keys of label and video, or of the sample where videos are not known.
        has_videos: whether ``clusters`` are videos.
        samples: (N,) index of the sample in its environment, ascending.
    """

    scores: np.ndarray
    labels: np.ndarray
    clusters: np.ndarray
    has_videos: bool
    samples: np.ndarray


#: (run folder, test environment) → its scores.
StoredScores = Mapping[tuple[str, int], Scores]


def read_stored(wanted: Iterable[tuple[str, int]]) -> tuple[dict[tuple[str, int], Scores], list[str]]:
    """The in-split scores of those that have stored any, and a sentence for every file that cannot be used.

    Args:
        wanted: (run folder, index of the environment).
    """
    stored, problems = {}, {}
    for folder, env in wanted:
        try:
            scores = read_scores(folder, env)
        except RogaError as error:
            problems[str(error)] = None
            continue
        if scores is not None:
            stored[folder, env] = scores
    return stored, list(problems)


def read_scores(folder: str | os.PathLike, env: int, split: str = "in") -> Scores | None:
    """The scores of one environment's split; None if the run stored none or its task is not binary.

    Args:
        folder: of the run.
        env: index of the environment.
        split: ``in``, ``out`` or ``uda``.

    Raises:
        RogaError: the file cannot be read, lacks a column, or has a score or label that is invalid.
    """
    path = os.path.join(folder, SCORES)
    if not os.path.exists(path):
        return None
    import pyarrow as pa
    from pyarrow import parquet

    try:
        lacking = [name for name in COLUMNS if name not in parquet.read_schema(path).names]
        if lacking:
            raise RogaError(f"{path}: lacks the column{'s' * (len(lacking) > 1)} {', '.join(lacking)}")
        filters = [("env", "==", env), ("split", "==", split)]
        table = parquet.read_table(path, columns=list(COLUMNS), filters=filters).to_pandas()
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        raise RogaError(f"{path}: {str(error).splitlines()[0]}") from None
    if table["score"].isna().all():
        return None
    table = table.sort_values("index", kind="stable")
    scores, labels = table["score"].to_numpy(np.float64), table["label"].to_numpy()
    if not np.isfinite(scores).all() or not np.isin(labels, (0, 1)).all():
        raise RogaError(f"{path}: has scores that are not finite, or labels other than 0 and 1")
    has_videos = bool(table["video"].notna().all())
    keys = table["video"].astype(str) if has_videos else table["index"].astype(str)
    clusters = (table["label"].astype(str) + "/" + keys).to_numpy(dtype=object)
    return Scores(scores, labels.astype(int), clusters, has_videos, table["index"].to_numpy())
