"""Contamination: what a saved model has seen of the data that it is evaluated on."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence

from datasets_ext.audit import Audit, audit
from datasets_ext.combined import with_family
from roga_domainbed.errors import RogaError
from roga_domainbed.inference.evaluation_sets import Evaluated, EvaluationSet, own_sets
from roga_domainbed.inference.saved_run import SavedRun

_SEEN = ("training", "selection")


def own_leaks(own: Evaluated) -> list[str]:
    """What the test environments of the run have in common with what it was trained on and selected by."""
    return _leaks(_seen(own.sets), [entry for entry in own.sets if entry.role == "test"])


def seen_before(run: SavedRun, evaluated: Evaluated) -> tuple[list[str], list[str]]:
    """Which of ``evaluated`` the model was trained on or selected by.

    Videos, recordings and people are compared if both datasets have a manifest, otherwise files, by device and inode,
    so that links count.

    Args:
        run: the saved run; its training data is expected where it was.
        evaluated: data other than its own splits.

    Returns:
        A sentence for each thing in common, and for each thing that could not be compared.
    """
    try:
        seen = _seen(own_sets(run, None).sets)
    except RogaError as error:
        return [], [f"whether the model was trained on any of this cannot be told: {error}"]
    n_common = len(_file_ids(seen) & _file_ids(evaluated.sets))
    leaks = [f"the model was trained on or selected by {n_common} of these files"] if n_common else []
    with_rows = [entry for entry in evaluated.sets if entry.rows is not None]
    notes = []
    if any(entry.rows is None for entry in seen):
        notes.append(f"{run.config.dataset}, the training data, has no manifest: only files were compared")
    elif len(with_rows) < len(evaluated.sets):
        notes.append(f"{evaluated.name} has no manifest: only files were compared with the training data")
    return leaks + _leaks(seen, with_rows), notes


def _seen(sets: Sequence[EvaluationSet]) -> list[EvaluationSet]:
    return [entry for entry in sets if entry.role in _SEEN]


def _leaks(seen: Sequence[EvaluationSet], tested: Sequence[EvaluationSet]) -> list[str]:
    if any(entry.rows is None for entry in (*seen, *tested)):
        return []
    found: Audit = audit(
        [
            *((entry.indices, []) if entry.role == "training" else ([], entry.indices) for entry in seen),
            *((entry.indices, []) for entry in tested),
        ],
        [with_family(entry.rows) for entry in (*seen, *tested)],
        range(len(seen), len(seen) + len(tested)),
    )
    return [str(overlap) for overlap in found.leaks if overlap.second == "test"]


def _file_ids(sets: Sequence[EvaluationSet]) -> set[tuple[int, int]]:
    ids = set()
    for entry in sets:
        if entry.environment.relative_paths is None:
            continue
        for index in entry.indices:
            with contextlib.suppress(OSError):  # reading the file will say so
                status = os.stat(entry.environment.file(index))
                ids.add((status.st_dev, status.st_ino))
    return ids
