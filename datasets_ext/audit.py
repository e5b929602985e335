"""What trains, what selects and what is tested on: which videos, recordings and people do they have in common?

A leak is

- a video, recording or person of what is tested on that a model was trained with, or selected by;
- a video or recording on both sides of training and selection: the score that selects is then one of remembering.

People alone may be on both sides of training and selection: data sets that publish no validation part have few people,
and the number that is reported does not come from there. That is said, and is no leak. Nor is a source video that gave
several recordings to both sides, as in FaceForensics++'s official split: published numbers are made so.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from datasets_ext import near_duplicates
from roga_domainbed.errors import RogaError

#: Role → the word for it. In-splits of training environments train and their out-splits select; in-splits of test
#: environments are tested on. A test environment's out-split serves oracle selection alone, which says so itself.
ROLES = {"train": "training", "select": "selection", "test": "test"}
KINDS = ("videos", "recordings", "identities")
#: What else two roles may have in common: source videos of several recordings, and frames that look alike.
SOURCES, LOOK_ALIKES = "source videos", "near-duplicate frames"

_ROLE_PAIRS = (("train", "test"), ("select", "test"), ("train", "select"))
_N_SHOWN = 3
_COLUMNS = ["dataset", "method", "recording", "video", "identities"]
_Keys = dict[str, dict[str, str]]  # kind → key → how it is shown


@dataclass(frozen=True)
class Overlap:
    """What two roles have in common.

    Attributes:
        kind: one of ``KINDS``, ``SOURCES`` or ``LOOK_ALIKES``.
        first: a role.
        second: another role.
        names: everything they have in common, sorted.
        is_leak: False if it is only worth saying.
    """

    kind: str
    first: str
    second: str
    names: tuple[str, ...]
    is_leak: bool = True

    def __str__(self) -> str:
        shown = ", ".join(self.names[:_N_SHOWN]) + (", …" if len(self.names) > _N_SHOWN else "")
        kind = self.kind if len(self.names) > 1 else {"identities": "identity"}.get(self.kind, self.kind[:-1])
        return f"{ROLES[self.first]} and {ROLES[self.second]} share {len(self.names)} {kind}: {shown}"


@dataclass(frozen=True)
class Audit:
    """The result of ``audit``.

    Attributes:
        counts: role → ``frames`` and each of ``KINDS`` → how many.
        overlaps: what any two roles have in common, leaks first.
        n_unknown: role → videos of which nobody has said who is in them; no leak of people can be seen there.
    """

    counts: dict[str, dict[str, int]]
    overlaps: tuple[Overlap, ...]
    n_unknown: dict[str, int]

    @property
    def leaks(self) -> tuple[Overlap, ...]:
        """The overlaps that spoil a result."""
        return tuple(overlap for overlap in self.overlaps if overlap.is_leak)

    def with_overlaps(self, more: Collection[Overlap]) -> Audit:
        """This audit and what else was found."""
        return replace(self, overlaps=_leaks_first([*self.overlaps, *more]))

    def check(self, remedy: str = "") -> None:
        """Raise ``RogaError`` if anything leaks: how much of what, and three names of each.

        Args:
            remedy: what else the reader can do, a sentence.
        """
        if self.leaks:
            n = len(self.leaks)
            lines = "".join(f"\n  {overlap}" for overlap in self.leaks)
            raise RogaError(
                f"{n} leak{'s' * (n > 1)} between training, selection and test:{lines}\n{_ADVICE}"
                + f". {remedy}" * bool(remedy)
            )

    def __str__(self) -> str:
        lines = ["", f"  {'':<10}" + "".join(f"{kind:>12}" for kind in ("frames", *KINDS))]
        lines += [
            f"  {ROLES[role]:<10}" + "".join(f"{counts[kind]:12d}" for kind in ("frames", *KINDS))
            for role, counts in self.counts.items()
        ]
        lines += [f"  {'leak' if overlap.is_leak else 'note'}: {overlap}" for overlap in self.overlaps]
        lines += [
            f"  note: nobody has published who is in {number} of the {self.counts[role]['videos']} {ROLES[role]} videos"
            for role, number in self.n_unknown.items()
            if number
        ]
        if not self.leaks:
            lines.append("  no leak")
        return "\n".join(lines[1:])


_ADVICE = (
    "Use --split official or group, and do not train on one version of a data set and test on another; a frame "
    "split always leaks"
)


def audit(
    splits: Sequence[tuple[Sequence[int], Sequence[int]]],
    rows: Sequence[pd.DataFrame],
    test_envs: Collection[int],
    *,
    same_source: Collection[Collection[str]] = (),
    frame_split: bool = False,
) -> Audit:
    """Compare what trains, what selects and what is tested on.

    Two rows are of one video if data set, method, recording and video agree, in whatever environment they are: that is
    what FaceForensics++'s manipulations have of their common reals. Recordings and people are compared as text; where
    data sets are combined, their rows' keys must tell them apart (``datasets_ext.combined``). Empty keys are of nobody.

    Args:
        splits: the (in, out) indices of each environment.
        rows: the manifest rows of each environment, that the indices count.
        test_envs: indices of the environments that are not trained on.
        same_source: sets of recordings of one source video; what two roles have of them is said, and no leak.
        frame_split: the split was cut frame by frame and says so wherever it is printed: that training and selection
            share videos and recordings is then said, and no leak. What test shares with them still is one.
    """
    chosen = _by_role(splits, rows, test_envs)
    keys = {role: _keys(parts) for role, parts in chosen.items()}
    n_unknown = {
        role: len(_keys([part[part["identities"] == ""] for part in parts])["videos"])
        for role, parts in chosen.items()
    }
    counts = {
        role: {"frames": sum(map(len, chosen[role]))} | {kind: len(keys[role][kind]) for kind in KINDS}
        for role in ROLES
    }
    overlaps = []
    for first, second in _ROLE_PAIRS:
        for kind in KINDS:
            common = keys[first][kind].keys() & keys[second][kind].keys()
            if common:
                names = tuple(sorted(keys[first][kind][key] for key in common))
                is_leak = second == "test" or (kind != "identities" and not frame_split)
                overlaps.append(Overlap(kind, first, second, names, is_leak))
        sources = tuple(
            "|".join(recordings)
            for recordings in same_source
            if _are_apart(recordings, keys[first]["recordings"], keys[second]["recordings"])
        )
        if sources:
            overlaps.append(Overlap(SOURCES, first, second, sources, is_leak=False))
    return Audit(counts, _leaks_first(overlaps), n_unknown)


def look_alikes(
    splits: Sequence[tuple[Sequence[int], Sequence[int]]],
    rows: Sequence[pd.DataFrame],
    test_envs: Collection[int],
    read: Callable[[Sequence[tuple[int, int]]], np.ndarray],
    max_distance: int,
) -> tuple[Overlap, ...]:
    """Frames of one role that look like a frame of another: copies that no name gives away.

    Args:
        splits: the (in, out) indices of each environment.
        rows: the manifest rows of each environment, that the indices count.
        test_envs: indices of the environments that are not trained on.
        read: (environment, index) of N frames → (N,) uint64, their perceptual hashes.
        max_distance: bits that two look-alikes may differ in.

    Returns:
        An overlap for each two roles that share any, as ``audit`` has them; a name is the later role's frame and the
        nearest of the former's.
    """
    frames: dict[str, list[tuple[int, int]]] = {role: [] for role in ROLES}
    for role, index, indices in _roles(splits, test_envs):
        frames[role] += [(index, row) for row in indices]
    every = sorted({frame for some in frames.values() for frame in some})
    hash_of = dict(zip(every, read(every), strict=True))
    hashes = {role: np.array([hash_of[frame] for frame in some], np.uint64) for role, some in frames.items()}
    overlaps = []
    for first, second in _ROLE_PAIRS:
        found, distance = near_duplicates.nearest(hashes[second], hashes[first], max_distance)
        names = sorted(
            f"{_path(rows, frames[second][i])} = {_path(rows, frames[first][found[i]])} ({distance[i]} bits)"
            for i in np.flatnonzero(found >= 0)
        )
        if names:
            overlaps.append(Overlap(LOOK_ALIKES, first, second, tuple(names)))
    return tuple(overlaps)


def _leaks_first(overlaps: Sequence[Overlap]) -> tuple[Overlap, ...]:
    return tuple(sorted(overlaps, key=lambda overlap: not overlap.is_leak))


def _path(rows: Sequence[pd.DataFrame], frame: tuple[int, int]) -> str:
    row = rows[frame[0]].iloc[frame[1]]
    return f"{row['dataset']}/{row['path']}"


def _by_role(
    splits: Sequence[tuple[Sequence[int], Sequence[int]]],
    rows: Sequence[pd.DataFrame],
    test_envs: Collection[int],
) -> dict[str, list[pd.DataFrame]]:
    """Role → the rows that have it, of each environment."""
    chosen: dict[str, list[pd.DataFrame]] = {role: [] for role in ROLES}
    for role, index, indices in _roles(splits, test_envs):
        chosen[role].append(rows[index][_COLUMNS].iloc[list(indices)])
    return chosen


def _roles(
    splits: Sequence[tuple[Sequence[int], Sequence[int]]], test_envs: Collection[int]
) -> Iterator[tuple[str, int, Sequence[int]]]:
    """(role, environment, the indices that have it) for each part that has a role."""
    for index, (in_split, out_split) in enumerate(splits):
        if index in test_envs:
            yield "test", index, in_split
        else:
            yield "train", index, in_split
            yield "select", index, out_split


def _are_apart(recordings: Collection[str], first: Collection[str], second: Collection[str]) -> bool:
    """Whether one of ``recordings`` is in ``first`` and another in ``second``: one that is in both is told already."""
    return any(one in first and two in second for one in recordings for two in recordings if one != two)


def _keys(parts: Sequence[pd.DataFrame]) -> _Keys:
    found: _Keys = {kind: {} for kind in KINDS}
    for rows in parts:
        for values in rows[_COLUMNS[:4]].drop_duplicates().itertuples(index=False, name=None):
            dataset, method, recording, video = values
            found["videos"]["\0".join(values)] = f"{dataset}/{method}/{video}"
            if recording:
                found["recordings"][recording] = recording
        for people in rows["identities"].unique():
            found["identities"].update((person, person) for person in people.split("+") if person)
    return found
