"""The official split of FaceForensics++: ``train.json``, ``val.json`` and ``test.json``, lists of pairs of ids.

A pair [a, b] stands for the reals a and b and, in every method, for both fakes a_b and b_a. The lists come with the
authors' repository, in ``dataset/splits``; they are read from there and not shipped here.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from datasets_ext.manifest import SPLITS
from datasets_ext.prepare.layout import fault
from roga_domainbed.errors import Problems
from roga_domainbed.foreign import Malformed, read_json

#: Pairs in the official lists.
N_PAIRS = {"train": 360, "val": 70, "test": 70}

_PLACES = (Path(), Path("splits"), Path("dataset", "splits"))
_ID = re.compile(r"\d{3}")


@dataclass
class Splits:
    """The lists, read and checked; empty where there are none.

    Attributes:
        folder: of the lists; None if they were not found.
        pairs: split → pairs of ids.
        notes: what differs from the official lists.
    """

    folder: Path | None = None
    pairs: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self):
        self._of_id = {i: name for name, pairs in self.pairs.items() for pair in pairs for i in pair}
        self._of_pair = {frozenset(pair): name for name, pairs in self.pairs.items() for pair in pairs}

    def of(self, stem: str) -> str:
        """The split of a video by its stem, ``NNN`` or ``NNN_MMM``; empty if no list has that id or pair."""
        ids = stem.split("_")
        return self._of_id.get(stem, "") if len(ids) == 1 else self._of_pair.get(frozenset(ids), "")

    def n_videos(self) -> dict[str, int]:
        """Split → number of videos in the lists, of the reals and of each method: two a pair."""
        return {name: 2 * len(pairs) for name, pairs in self.pairs.items()}

    def fakes(self) -> list[str]:
        """The stems of the fakes that each method should have."""
        pairs = [pair for name in self.pairs for pair in self.pairs[name]]
        return sorted(f"{a}_{b}" for first in pairs for a, b in (first, first[::-1]))


def find(source: Path, folder: Path | None, problems: Problems) -> Splits:
    """Read the lists from ``folder``, or from their usual places below ``source``.

    A damaged list, only some of the three lists, or none in ``folder`` are problems.
    """
    places = [folder] if folder is not None else [source / place for place in _PLACES]
    for place in places:
        present = [name for name in SPLITS if os.path.lexists(place / f"{name}.json")]
        if len(present) == len(SPLITS):
            return _read(place, problems)
        if present or folder is not None:
            lacking = ", ".join(f"{name}.json" for name in SPLITS if name not in present)
            problems.add(
                f"the split lists in {str(place)!r} lack {lacking}; all of train, val and test are needed"
            )
            return Splits()
    return Splits()


def _read(folder: Path, problems: Problems) -> Splits:
    pairs: dict[str, list[tuple[str, str]]] = {}
    seen: dict[str, str] = {}
    notes = []
    for name in SPLITS:
        path = folder / f"{name}.json"
        try:
            value = read_json(path)
        except (Malformed, OSError) as error:
            problems.add(f"{path} cannot be used: {fault(error)}")
            continue
        wrong = _wrong_part(value)
        if wrong:
            problems.add(f'{path} must be a list of pairs of ids such as ["071", "054"]; found {wrong}')
            continue
        pairs[name] = [(a, b) for a, b in value]
        for number in (i for pair in pairs[name] for i in pair):
            if number in seen:
                problems.add(
                    f"{path}: id {number} is in {seen[number]}.json already; lists must not share ids"
                )
                break
            seen[number] = name
        if len(pairs[name]) != N_PAIRS[name]:
            notes.append(f"{path} has {len(pairs[name])} pairs; the official list has {N_PAIRS[name]}")
    return Splits(folder, pairs, notes)


def _is_pair(item: object) -> bool:
    return (
        isinstance(item, list)
        and len(item) == 2
        and all(isinstance(part, str) and _ID.fullmatch(part) for part in item)
        and item[0] != item[1]
    )


def _wrong_part(value: object) -> str:
    """The first wrong item of a list, as JSON; empty if all are right."""
    if value == []:
        return "an empty list"
    if not isinstance(value, list):
        return _shown(value)
    wrong = (f"{_shown(item)} in place {place}" for place, item in enumerate(value, 1) if not _is_pair(item))
    return next(wrong, "")


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
