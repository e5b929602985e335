"""Contamination: what a saved model has seen of the data that it is evaluated on.

Whoever cannot tell says so: data that is gone, that is other data than the run's, or that nothing can be compared with
is ``unknown``, which is not the same as unseen.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from datasets_ext.audit import Audit, audit
from datasets_ext.combined import with_family
from roga_domainbed.errors import RogaError, shortened
from roga_domainbed.foreign import check_unpacked, open_regular
from roga_domainbed.inference.evaluation_sets import Evaluated, EvaluationSet, own_sets
from roga_domainbed.inference.saved_run import SavedRun
from roga_domainbed.results.records import SCORES

_SEEN = ("training", "selection", "adaptation")
_TAIL = 4096  # bytes; two compressed images of equal length that end alike are compared as a whole


@dataclass
class Contamination:
    """What a model has seen of some data.

    Attributes:
        leaks: a sentence for each thing that the data have in common with what it was trained on or selected by.
        unknown: why that cannot be told; empty if it can.
        notes: a sentence for each thing that was not compared.
    """

    leaks: list[str] = field(default_factory=list)
    unknown: str = ""
    notes: list[str] = field(default_factory=list)


def own_contamination(run: SavedRun, own: Evaluated, data_dir: str | None) -> Contamination:
    """What the test environments of the run have in common with what it was trained on and selected by.

    Args:
        run: the saved run.
        own: its splits.
        data_dir: where they were read; None for where they were.
    """
    found = _as_in_training(run, own, data_dir)
    found.leaks = _leaks(_seen(own.sets), [entry for entry in own.sets if entry.role == "test"])
    return found


def contamination(run: SavedRun, evaluated: Evaluated, data_dir: str | None) -> Contamination:
    """Which of ``evaluated`` the model was trained on or selected by.

    Files are compared by what is in them, and as links. If both datasets have a manifest, videos, recordings and people
    are compared too.

    Args:
        run: the saved run.
        evaluated: data other than its own splits.
        data_dir: where the training data may be now, if it is not where it was.
    """
    try:
        own, found = _training_data(run, data_dir)
        seen = _seen(own.sets)
        n_common = _count_common(_files(seen), _files(evaluated.sets))
    except (RogaError, OSError) as error:
        return Contamination(unknown=str(error))
    if n_common:
        found.leaks.append(f"the model was trained on or selected by {n_common} of these files")
    named_alike = _clips_named_alike(seen, evaluated.sets)
    if named_alike:
        found.unknown = found.unknown or (
            f"{len(named_alike)} video files have names of videos that it was trained on: {shortened(named_alike)}"
        )
    elif any(entry.clips for entry in evaluated.sets):
        found.notes.append("video files were compared with the training data by their names alone")
    with_rows = [entry for entry in evaluated.sets if entry.rows is not None]
    found.leaks += _leaks(seen, with_rows)
    if not _have_files(seen) or not _have_files(evaluated.sets):
        name = evaluated.name if _have_files(seen) else run.config.dataset
        found.unknown = found.unknown or f"the samples of {name} are no files, so there is nothing to compare"
    elif any(entry.rows is None for entry in seen):
        found.notes.append(
            f"{run.config.dataset}, the training data, has no manifest: only files were compared"
        )
    elif len(with_rows) < len(evaluated.sets):
        found.notes.append(
            f"{evaluated.name} has no manifest: only files were compared with the training data"
        )
    return found


def _training_data(run: SavedRun, data_dir: str | None) -> tuple[Evaluated, Contamination]:
    """The run's own splits, from where they were, or else from ``data_dir`` if they are shown to be there.

    Raises:
        RogaError: they are not where they were, nor shown to be in ``data_dir``.
    """
    try:
        own = own_sets(run, None)
        found, why = _as_in_training(run, own, None), None
    except RogaError as error:
        own, found, why = None, Contamination(), error
    if data_dir is not None and (why is not None or found.unknown):
        with contextlib.suppress(RogaError):
            moved = own_sets(run, data_dir)
            if not _as_in_training(run, moved, data_dir).unknown:
                return moved, Contamination()
    if why is not None:
        raise why
    return own, found


def _seen(sets: Sequence[EvaluationSet]) -> list[EvaluationSet]:
    return [entry for entry in sets if entry.role in _SEEN]


def _leaks(seen: Sequence[EvaluationSet], tested: Sequence[EvaluationSet]) -> list[str]:
    if any(entry.rows is None for entry in (*seen, *tested)):
        return []
    found: Audit = audit(
        [
            *(([], entry.indices) if entry.role == "selection" else (entry.indices, []) for entry in seen),
            *((entry.indices, []) for entry in tested),
        ],
        [with_family(entry.rows) for entry in (*seen, *tested)],
        range(len(seen), len(seen) + len(tested)),
    )
    return [str(overlap) for overlap in found.leaks if overlap.second == "test"]


# --- whether the data of the run is still what it was trained on ----------------------------------------------------


def _as_in_training(run: SavedRun, own: Evaluated, data_dir: str | None) -> Contamination:
    """Whether ``own`` is what the model was trained on: unknown unless the run's scores or records show that it is.

    Args:
        run: the saved run.
        own: its own splits as they are now.
        data_dir: where; None for where they were.
    """
    place = run.config.data_dir if data_dir is None else data_dir
    there = f"the data in {place!r} is not what the model was trained on"
    samples = _samples_of_run(run.path.parent / SCORES)
    if samples is not None and all((entry.env, entry.part) in samples for entry in own.sets):
        for entry in own.sets:
            paths, labels = entry.environment.relative_paths, entry.environment.labels_of(entry.indices)
            here = zip(
                (None if paths is None else paths[i] for i in entry.indices), labels.tolist(), strict=True
            )
            other = samples[entry.env, entry.part] - set(here)
            if other:
                names = shortened(sorted(str(path) for path, _ in other))
                why = f"{len(other)} of its samples are not there, or have another class: {names}"
                return Contamination(unknown=f"{there}: {why}")
        return Contamination()
    counts = run.provenance.get("audit", {}).get("counts")
    if isinstance(counts, dict):
        for role, name in (("train", "training"), ("select", "selection"), ("test", "test")):
            n_now = sum(len(entry.indices) for entry in own.sets if entry.role == name)
            n_then = counts.get(role, {}).get("frames") if isinstance(counts.get(role), dict) else None
            if n_now != n_then:
                why = f"{n_now} samples for {name}, and {n_then} when it was trained"
                return Contamination(unknown=f"{there}: {why}")
        return Contamination()
    if place is None:
        return Contamination()
    if data_dir is not None:
        return Contamination(
            unknown=f"no records beside it tell whether it was trained on the data in {place!r}"
        )
    if not Path(place).is_absolute():
        return Contamination(
            unknown=f"the model was trained on data in {place!r}, which is relative to a folder "
            "that is not known, and no records beside it tell what was there"
        )
    note = "no records beside the model tell whether the data in {!r} is still what it was trained on"
    return Contamination(notes=[note.format(place)])


def _samples_of_run(path: Path) -> dict[tuple[int, str], set[tuple[str | None, int]]] | None:
    """(environment, part) → its (file, class)es, from the scores of a run's last step; None if there are none."""
    try:
        with open_regular(path) as source, pq.ParquetFile(source) as file:
            names = ["env", "split", "path", "label"]
            has_steps = "step" in file.schema_arrow.names
            check_unpacked(file.metadata, path.stat().st_size, names)
            table = file.read(columns=[*names, "step"] if has_steps else names)
        if has_steps:
            table = table.filter(pc.equal(table["step"], pc.max(table["step"])))
        found: dict[tuple[int, str], set[tuple[str | None, int]]] = {}
        for env, part, file, label in zip(*(table[name].to_pylist() for name in names), strict=True):
            found.setdefault((env, part), set()).add((file, label))
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):  # damaged: the records may tell
        return None
    return found


def _clips_named_alike(seen: Sequence[EvaluationSet], tested: Sequence[EvaluationSet]) -> list[str]:
    """The video files that have the name of a video of ``seen``, whose frames no file can be compared with."""
    names: set[str] = set()
    for entry in seen:
        if entry.rows is not None:
            videos = entry.rows.iloc[list(entry.indices)][["video", "method"]].drop_duplicates()
            # Datasets that are combined have the method before the video.
            names.update(video.removeprefix(f"{method}-") for video, method in videos.itertuples(index=False))
    return [clip.path for entry in tested for clip in entry.clips if Path(clip.path).stem in names]


# --- files ----------------------------------------------------------------------------------------------------------


def _have_files(sets: Sequence[EvaluationSet]) -> bool:
    return all(entry.environment.relative_paths is not None for entry in sets)


def _files(sets: Sequence[EvaluationSet]) -> list[str]:
    return list(
        dict.fromkeys(
            entry.environment.file(index)
            for entry in sets
            if entry.environment.relative_paths is not None
            for index in entry.indices
        )
    )


def _count_common(seen: Iterable[str], tested: Iterable[str]) -> int:
    """How many of the files ``tested`` are among ``seen``: the same file, a link to it, or a copy.

    Raises:
        OSError: one cannot be read.
    """
    seen_at = {path: os.stat(path) for path in seen}
    tested_at = {path: os.stat(path) for path in tested}
    places = {(status.st_dev, status.st_ino) for status in seen_at.values()}
    same = {path for path, status in tested_at.items() if (status.st_dev, status.st_ino) in places}
    left = {path: status.st_size for path, status in tested_at.items() if path not in same}
    likely = {path: status.st_size for path, status in seen_at.items()}
    sizes = set(left.values()) & set(likely.values())
    left, likely = ({path: size for path, size in of.items() if size in sizes} for of in (left, likely))
    for key in (_ending, _content):  # few files of equal length also end alike
        left, likely = _with_common(left, likely, key)
    return len(same) + len(left)


def _with_common(
    first: dict[str, int], second: dict[str, int], key: Callable[[str], bytes]
) -> tuple[dict[str, int], dict[str, int]]:
    """Of two dicts of path → size, those paths whose size and ``key`` are in the other too."""
    keys = [{path: (size, key(path)) for path, size in files.items() if size} for files in (first, second)]
    common = set(keys[0].values()) & set(keys[1].values())
    kept = [{path: both[0] for path, both in of_path.items() if both in common} for of_path in keys]
    return kept[0], kept[1]


def _ending(path: str) -> bytes:
    with open_regular(path) as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
        return file.read(_TAIL)


def _content(path: str) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    with open_regular(path) as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.digest()
