"""The class that a folder's name means, the same in every environment."""

from __future__ import annotations

import re
from collections.abc import Iterable

_REAL = {"real", "reals", "original", "originals", "genuine", "authentic", "pristine"}
_FAKE = {"fake", "fakes", "deepfake", "deepfakes", "manipulated", "forged", "synthetic", "synthesis", "spoof"}


def class_indices(folders: Iterable[str]) -> tuple[dict[str, int], list[str]]:
    """Number the class folders of a dataset.

    Folders that are called real and fake, spelled one way or another (``0_real``, ``Fake``, ``Celeb-synthesis``), are
    mapped by meaning: real is 0 and fake is 1, whatever their alphabetical order. If only one of two names is
    understood, the other is the other class. All other names are numbered in alphabetical order.

    Args:
        folders: names of the class folders in all environments together.

    Returns:
        Folder name to index, and the class names in the order of the indices.
    """
    names = sorted(set(folders))
    meaning = {name: _meaning(name) for name in names}
    understood = [name for name in names if meaning[name] is not None]
    if len(names) == 2 and len(understood) == 1:
        other = names[1 - names.index(understood[0])]
        meaning[other] = 1 - meaning[understood[0]]
        understood = names
    if understood == names and set(meaning.values()) == {0, 1}:
        return meaning, ["real", "fake"]
    return {name: index for index, name in enumerate(names)}, names


def _meaning(name: str) -> int | None:
    words = set(re.split(r"[^a-z]+", name.lower()))
    real, fake = bool(words & _REAL), bool(words & _FAKE)
    return None if real == fake else int(fake)
