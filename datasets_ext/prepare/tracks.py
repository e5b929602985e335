"""Whose video it is, if several people are in it: the person whose face is largest over all frames together.

A single frame can mislead: in a news clip an inserted picture may show a face slightly larger than the speaker's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

_MIN_OVERLAP = (
    0.3  # intersection over union of one person's boxes in two chosen frames, some tenths of a second apart
)


@dataclass
class _Track:
    """One person: the latest box, the sum of the boxes' areas, and frame → index of the face in it."""

    box: np.ndarray
    area: float = 0.0
    faces: dict[int, int] = field(default_factory=dict)


def choose(frames: Sequence[np.ndarray]) -> list[int]:
    """The index of the face to take in each frame.

    Args:
        frames: for each chosen frame, in order, (N, ≥ 4) of x, y, width, height with N ≥ 1, the largest first.

    Returns:
        Indices into the frames' faces. From a frame with a single face, that one is taken, whoever it is.
    """
    tracks: list[_Track] = []
    for number, faces in enumerate(frames):
        _extend(tracks, number, faces)
    tracks.sort(key=lambda track: -track.area)  # stable: of equals the earlier
    return [
        next(track.faces[number] for track in tracks if number in track.faces)
        for number in range(len(frames))
    ]


def _extend(tracks: list[_Track], number: int, faces: np.ndarray) -> None:
    pairs = sorted(
        ((-overlap(track.box, face), i, j) for i, track in enumerate(tracks) for j, face in enumerate(faces)),
    )
    taken: dict[int, int] = {}
    for negative, i, j in pairs:
        if -negative >= _MIN_OVERLAP and i not in taken and j not in taken.values():
            taken[i] = j
    for j in range(len(faces)):
        if j not in taken.values():
            taken[len(tracks)] = j
            tracks.append(_Track(faces[j]))
    for i, j in taken.items():
        tracks[i].box = faces[j]
        tracks[i].area += float(faces[j][2] * faces[j][3])
        tracks[i].faces[number] = j


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of two boxes of x, y, width, height."""
    low = np.maximum(first[:2], second[:2])
    high = np.minimum(first[:2] + first[2:4], second[:2] + second[2:4])
    common = float(np.prod(np.clip(high - low, 0, None)))
    return common / (float(first[2] * first[3] + second[2] * second[3]) - common)
