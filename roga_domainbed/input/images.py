"""An environment as decoded images and a recipe, where it can be read that way."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from roga_domainbed.input.augmentation.spec import AUGMENTATIONS, Augmentation, Recipe
from roga_domainbed.input.environment import Environment, same_class_defines
from roga_domainbed.input.image_files import open_image

_HEADERS = 64  # files whose size is looked up to estimate what all of them need


@dataclass(frozen=True)
class Images:
    """One environment.

    Attributes:
        read: index → (H, W, 3) uint8, decoded from the file.
        labels: (N,) int64.
        recipe: for training.
        shape: (H, W, 3) if all images have the same shape; None otherwise.
        nbytes: what all decoded images need in memory; an estimate if their sizes differ.
        key: equal for equal content: what a packed copy is named by.
    """

    read: Callable[[int], np.ndarray]
    labels: np.ndarray
    recipe: Recipe
    shape: tuple[int, int, int] | None
    nbytes: int
    key: Callable[[], str]

    @property
    def plain(self) -> Recipe:
        """The recipe for evaluation: no augmentation."""
        return replace(self.recipe, augmentation=AUGMENTATIONS["none"])

    def augmented(self, augmentation: Augmentation) -> Images:
        """The same with another augmentation, if there was one: test environments stay as they are."""
        if self.recipe.augmentation == AUGMENTATIONS["none"]:
            return self
        return replace(self, recipe=replace(self.recipe, augmentation=augmentation))


def images_of(environment: Environment) -> Images | None:
    """``environment`` as images; None if only its own ``__getitem__`` knows what a sample is."""
    # A subclass with a __getitem__ of its own has other samples than the pixels of the class above.
    if environment.recipe is None or not same_class_defines(environment, "pixels", "__getitem__"):
        return None
    shape = environment.pixels_shape
    paths = [environment.file(index) for index in range(len(environment))]
    return Images(
        read=environment.pixels,
        labels=np.asarray(environment.labels),
        recipe=environment.recipe,
        shape=shape,
        nbytes=estimated_bytes(paths) if shape is None else len(environment) * int(np.prod(shape)),
        key=partial(files_key, paths, str(shape)),
    )


def estimated_bytes(paths: Sequence[str]) -> int:
    """Bytes of all images decoded to RGB, from the headers of some of them; unreadable ones count as nothing."""
    chosen = [paths[i] for i in np.unique(np.linspace(0, len(paths) - 1, _HEADERS).astype(int))]
    found = []
    for path in chosen:
        try:
            with open_image(path) as image:
                found.append(3 * image.width * image.height)
        except Exception:
            continue
    return int(len(paths) * np.mean(found)) if found else 0


def files_key(paths: Sequence[str], how: str = "") -> str:
    """A hash of the files' names, sizes and times of change, and of how they are decoded."""
    digest = hashlib.sha256(how.encode())
    for path in paths:
        file = Path(path)
        try:
            status = file.stat()
        except OSError:
            digest.update(f"{file.name}\0missing\0".encode())
            continue
        digest.update(f"{'/'.join(file.parts[-4:])}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return digest.hexdigest()
