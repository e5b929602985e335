"""Read ``scores.parquet``: the scores of samples by the model of each evaluated step of a run."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from roga_domainbed.errors import RogaError
from roga_domainbed.foreign import check_regular
from roga_domainbed.results.packed import PACKED_RECORDS, RUN
from roga_domainbed.results.records import SCORES
from roga_domainbed.results.selected import JudgedRun

COLUMNS = ("env", "split", "index", "video", "path", "label", "score")
MOST_ROWS = 2**26  # of a file; a few kilobytes of Parquet can claim billions

#: (run folder, test environment, step) → its scores.
StoredScores = Mapping[tuple[str, int, int], "Scores"]


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


def read_stored(runs: Iterable[JudgedRun]) -> tuple[dict[tuple[str, int, int], Scores], list[str]]:
    """The in-split scores of ``runs`` at the steps that were chosen, and a sentence for every file that is unusable.

    A run without them, or with those of another step alone, has no entry.
    """
    stored, problems = {}, {}
    for run in runs:
        key = (run.source, run.env, run.step)
        if key in stored:
            continue
        try:
            scores = read_scores(run.source, run.env, run.step, is_last=run.step == run.last_step)
        except RogaError as error:
            problems[str(error)] = None
            continue
        if scores is not None:
            stored[key] = scores
    return stored, list(problems)


def read_scores(
    folder: str | os.PathLike, env: int, step: int, split: str = "in", *, is_last: bool
) -> Scores | None:
    """The scores of one environment's split at one step; None if there are none or the task is not binary.

    Args:
        folder: of the run; where there is none, the packed sweep beside it is looked into.
        env: index of the environment.
        step: of the run.
        split: ``in``, ``out`` or ``uda``.
        is_last: whether it is the run's last step, the only one that version 0.1.0 stored, without a number.

    Raises:
        RogaError: the file cannot be read, lacks a column, or has a score or label that is invalid.
    """
    path, filters = os.path.join(folder, SCORES), [("env", "==", env), ("split", "==", split)]
    if not os.path.lexists(path):
        sweep, name = os.path.split(folder)
        path = os.path.join(sweep, SCORES)
        if os.path.isdir(folder) or not all(
            os.path.exists(os.path.join(sweep, file)) for file in (PACKED_RECORDS, SCORES)
        ):
            return None
        filters.append((RUN, "==", name))
    import pyarrow as pa

    try:
        return _read(path, filters, step, is_last=is_last)
    except RogaError as error:
        raise RogaError(f"{path}: {error}") from None
    except (pa.ArrowException, OSError, ValueError, TypeError, OverflowError) as error:
        said = (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]
        raise RogaError(f"{path}: {said}") from None


def _read(path: str, filters: list[tuple], step: int, *, is_last: bool) -> Scores | None:
    from pyarrow import parquet

    check_regular(path)
    content = parquet.read_metadata(path)
    names = content.schema.names
    lacking = [
        name for name in dict.fromkeys((*(name for name, *_ in filters), *COLUMNS)) if name not in names
    ]
    if lacking:
        raise RogaError(f"lacks the column{'s' * (len(lacking) > 1)} {', '.join(lacking)}")
    if content.num_rows > MOST_ROWS:
        raise RogaError(f"has {content.num_rows:,} rows, more than the {MOST_ROWS:,} that are read")
    if "step" in names:
        filters = [*filters, ("step", "==", step)]
    elif not is_last:
        return None
    table = parquet.read_table(path, columns=list(COLUMNS), filters=filters, partitioning=None).to_pandas()
    if table["score"].isna().all():
        return None
    table = table.sort_values("index", kind="stable")
    scores, labels = table["score"].to_numpy(np.float64), table["label"].to_numpy()
    if not np.isfinite(scores).all() or not np.isin(labels, (0, 1)).all():
        raise RogaError("has scores that are not finite, or labels other than 0 and 1")
    samples = table["index"].to_numpy()
    if samples.dtype.kind not in "iu" or len(np.unique(samples)) < len(samples):
        raise RogaError("has samples without an index, or one twice")
    has_videos = bool(table["video"].notna().all())
    keys = table["video"].astype(str) if has_videos else table["index"].astype(str)
    clusters = (table["label"].astype(str) + "/" + keys).to_numpy(dtype=object)
    return Scores(scores, labels.astype(int), clusters, has_videos, samples)
