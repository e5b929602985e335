"""The leak audit: which videos, recordings and people do training, selection and test data share?

A leak is

- a test video, recording or person that the model was also trained on or selected by;
- a video or recording in both training and selection: the selection score then measures memory.

Two overlaps are only noted. The same people in training and selection: datasets without an official validation part
have few people, and the reported number does not come from there. And several recordings cut from one source video, as
in FaceForensics++'s official split: published numbers are made with it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from datasets_ext import near_duplicates
from roga_domainbed.errors import RogaError, shortened
from roga_domainbed.results.text_table import text_table

#: Role → how messages name it. The in-split of a training environment trains, its out-split selects; the in-split of a
#: test environment is tested on. Its out-split serves oracle selection only, which is labelled as such.
ROLES = {"train": "training", "select": "selection", "test": "test"}
KINDS = ("videos", "recordings", "identities")
#: Other overlaps: source videos that gave several recordings, and frames that look alike.
SOURCES, LOOK_ALIKES = "source videos", "near-duplicate frames"

_ROLE_PAIRS = (("train", "test"), ("select", "test"), ("train", "select"))
_COLUMNS = ["dataset", "method", "recording", "video", "identities"]
_Keys = dict[str, dict[str, str]]  # kind → key → how it is shown


@dataclass(frozen=True)
class Overlap:
    """What two roles share.

    Attributes:
        kind: one of ``KINDS``, ``SOURCES`` or ``LOOK_ALIKES``.
        first: a role.
        second: another role.
        names: everything they share, sorted.
        is_leak: False for a mere note.
    """

    kind: str
    first: str
    second: str
    names: tuple[str, ...]
    is_leak: bool = True

    def __str__(self) -> str:
        kind = self.kind if len(self.names) > 1 else {"identities": "identity"}.get(self.kind, self.kind[:-1])
        return f"{ROLES[self.first]} and {ROLES[self.second]} share {len(self.names)} {kind}: {shortened(self.names)}"


@dataclass(frozen=True)
class Audit:
    """The result of ``audit``.

    Attributes:
        counts: role → ``frames`` and each of ``KINDS`` → how many.
        overlaps: what any two roles share, leaks first.
        n_unknown: role → videos whose people are not published; shared people cannot be seen there.
    """

    counts: dict[str, dict[str, int]]
    overlaps: tuple[Overlap, ...]
    n_unknown: dict[str, int]

    @property
    def leaks(self) -> tuple[Overlap, ...]:
        """The overlaps that make a result invalid."""
        return tuple(overlap for overlap in self.overlaps if overlap.is_leak)

    def with_overlaps(self, more: Collection[Overlap]) -> Audit:
        """This audit with further overlaps."""
        return replace(self, overlaps=_leaks_first([*self.overlaps, *more]))

    def check(self, remedy: str = "") -> None:
        """Raise ``RogaError`` if anything leaks, with the number of each kind and three names.

        Args:
            remedy: a sentence to end the message with: what else the user can do.
        """
        if self.leaks:
            n = len(self.leaks)
            lines = "".join(f"\n  {overlap}" for overlap in self.leaks)
            raise RogaError(
                f"{n} leak{'s' * (n > 1)} between training, selection and test:{lines}\n{_ADVICE}"
                + f". {remedy}" * bool(remedy)
            )

    def __str__(self) -> str:
        columns = ("frames", *KINDS)
        rows = [
            [ROLES[role], *(str(counts[kind]) for kind in columns)] for role, counts in self.counts.items()
        ]
        lines = [f"  {line}" for line in text_table([["", *columns], *rows]).splitlines()]
        lines += [f"  {'leak' if overlap.is_leak else 'note'}: {overlap}" for overlap in self.overlaps]
        for role, number in self.n_unknown.items():
            if number:
                videos = f"{number} of the {self.counts[role]['videos']} {ROLES[role]} videos"
                lines.append(f"  note: the people in {videos} are not published")
        if not self.leaks:
            lines.append("  no leak")
        return "\n".join(lines)


_ADVICE = (
    "Use --split official or group, and do not train on one version of a dataset and test on another; a frame split "
    "always leaks"
)


def audit(
    splits: Sequence[tuple[Sequence[int], Sequence[int]]],
    rows: Sequence[pd.DataFrame],
    test_envs: Collection[int],
    *,
    same_source: Collection[Collection[str]] = (),
    frame_split: bool = False,
) -> Audit:
    """Compare training, selection and test data.

    Two rows belong to one video if dataset, method, recording and video agree, in any environment: FaceForensics++'s
    four environments share their real videos. Recordings and people are compared as text, so in combined datasets
    their keys must name the family (``datasets_ext.combined``). Empty keys are ignored.

    Args:
        splits: the (in, out) indices of each environment.
        rows: the manifest rows of each environment; the indices refer to them.
        test_envs: indices of the held-out environments.
        same_source: sets of recordings cut from one source video; two roles that share one get a note.
        frame_split: whether the split was cut frame by frame. Every table says so, hence videos and recordings in both
            training and selection are then a note. Those shared with the test data still leak.
    """
    chosen: dict[str, list[pd.DataFrame]] = {role: [] for role in ROLES}
    for role, index, indices in _roles(splits, test_envs):
        chosen[role].append(rows[index][_COLUMNS].iloc[list(indices)])
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
    """Frames of one role that look like a frame of another: copies that the manifest does not know of.

    Args:
        splits: as in ``audit``.
        rows: as in ``audit``.
        test_envs: as in ``audit``.
        read: (environment, index) of N frames → (N,) uint64, their perceptual hashes.
        max_distance: the number of bits in which two look-alikes may differ.

    Returns:
        An overlap for each two roles that share any. A name is the second role's frame and the nearest frame of the
        first.
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
    """Whether one of ``recordings`` is in ``first`` and another in ``second``; one in both is an overlap already."""
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
