"""Which folders are environments and which are classes, where only their names say so."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from roga_domainbed.errors import RogaError
from roga_domainbed.foreign import quoted
from roga_domainbed.input.classes import said_or_meant
from roga_domainbed.input.tree import names_in


def names_below(place: str | os.PathLike) -> list[str]:
    """The names of the folders in ``place``, then of those in them, each once.

    Raises:
        OSError: one of them cannot be listed.
    """
    below, _ = names_in(place)
    inside = [name for folder in below for name in names_in(Path(place, folder))[0]]
    return list(dict.fromkeys([*below, *inside]))


def class_folders(
    place: Path, real: Collection[str] = (), fake: Collection[str] = (), option: str = "--folder"
) -> dict[str, tuple[Path, dict[str, int]]]:
    """The environments in ``place``, each with its class folders.

    ``place`` has class folders, and is one environment by its own name, or it has a folder for each environment, with
    class folders in it.

    Args:
        place: an existing folder.
        real: names of class folders that the user says are real; with ``fake``, only what is said counts.
        fake: those that are fake.
        option: the command's argument that ``place`` was given with, for messages.

    Returns:
        Name of an environment → its folder, and name of a class folder → 0 real or 1 fake.

    Raises:
        RogaError: the names do not say what is what, or can be read in two ways.
        OSError: a folder cannot be listed.
    """
    below, _ = names_in(place)
    inside = {name: names_in(place / name)[0] for name in below}
    if not below:
        raise RogaError(f"{option} {str(place)!r} has no folders real and fake in it, nor any other folders")
    every = {*below, *(name for names in inside.values() for name in names)}
    said = not {*real, *fake}.isdisjoint(every)

    def labels(names: Sequence[str]) -> dict[str, int]:
        found = {name: said_or_meant(name, *((real, fake) if said else ())) for name in names}
        return {name: label for name, label in found.items() if label is not None}

    def understood(names: Sequence[str]) -> bool:
        return bool(labels(names)) and (said or len(labels(names)) == len(names))

    outer, inner = labels(below), {name: labels(names) for name, names in inside.items()}
    are_classes = understood(below)
    are_environments = any(inner.values()) if said else all(map(understood, inside.values()))
    contradicts = any(label != outer.get(name) for name, found in inner.items() for label in found.values())
    if are_classes and not (are_environments and contradicts):
        return {place.resolve().name: (place, outer)}
    if are_environments and not are_classes:
        return {name: (place / name, found) for name, found in inner.items() if found}
    if are_classes:
        raise RogaError(
            f"{option} {str(place)!r}: {quoted(below, 5)} may be the classes, and so may the folders in them: say "
            "which with --real NAME --fake NAME"
        )
    odd = [name for name in below if name not in outer]
    within = [f"{name}/{other}" for name in below for other in inside[name] if other not in inner[name]]
    if not outer and any(inner.values()):  # they are nearest to being environments
        odd = [*within, *(name for name in below if not inside[name])]
    elif not outer:
        odd += within
    raise RogaError(
        f"{option} {str(place)!r}: expected folders real and fake, or of that meaning, in it or in each folder in it; "
        f"found {quoted(below, 5)}; not understood: {quoted(odd, 5)}. Say which are which with --real NAME --fake "
        "NAME; others are then left out"
    )
