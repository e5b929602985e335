"""The leak audit of a run, before its first step: what it refuses, what it says, and what the record keeps."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from datasets_ext.audit import Audit, audit

if TYPE_CHECKING:
    from roga_domainbed.input.environment import OpenDataset

_REMEDY = "--allow-leakage trains all the same, and every table says so"


def audited(
    dataset: OpenDataset,
    splits: Sequence[tuple[Sequence[int], Sequence[int]]],
    split_mode: str,
    test_envs: Collection[int],
    allow_leakage: bool,
) -> Audit | None:
    """Compare what trains, what selects and what is tested on.

    A frame split names its own leak, between training and selection, and every table repeats it: that one is said and
    not refused. What is tested on must not have been trained on, however the data were split.

    Args:
        dataset: of the run.
        splits: the (in, out) indices of each environment.
        split_mode: how they were cut.
        test_envs: indices of the environments that are not trained on.
        allow_leakage: refuse nothing.

    Returns:
        The audit; None for a dataset without a manifest, of whose videos and people nothing is known.

    Raises:
        RogaError: something leaks, with the number of each kind and three names.
    """
    if dataset.rows is None:
        return None
    found = audit(
        splits,
        dataset.rows,
        test_envs,
        same_source=dataset.same_source,
        frame_split=split_mode == "frame",
    )
    if not allow_leakage:
        found.check(_REMEDY)
    return found


def leakage_notices(found: Audit | None) -> list[str]:
    """What the audit found, a sentence each."""
    if found is None:
        return []
    sentences = [f"{overlap}" + " (leakage allowed)" * overlap.is_leak for overlap in found.overlaps]
    return [sentence.replace(", …", " and more") for sentence in sentences]


def audit_record(found: Audit | None) -> dict[str, Any] | None:
    """The audit as plain values: counts by role, then sentences."""
    if found is None:
        return None
    return {
        "counts": found.counts,
        "leaks": [str(overlap) for overlap in found.leaks],
        "notes": [str(overlap) for overlap in found.overlaps if not overlap.is_leak],
    }
