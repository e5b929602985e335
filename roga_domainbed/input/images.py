"""An environment as decoded images and a recipe, where it can be read that way."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from roga_domainbed.input.augmentation.spec import AUGMENTATIONS, Augmentation, Recipe, recipe_of
from roga_domainbed.input.image_files import read_image
from roga_domainbed.input.paths import files_of

_HEADERS = 64  # files whose size is looked up to estimate what all of them need


@dataclass(frozen=True)
class Images:
    """One environment.

    Attributes:
        read: index → (H, W, 3) uint8, decoded from the file.
        labels: (N,) int64.
        recipe: for training.
        nbytes: what all decoded images need in memory; an estimate where their sizes differ.
        key: equal for equal content: what a packed copy is named by.
    """

    read: Callable[[int], np.ndarray]
    labels: np.ndarray
    recipe: Recipe
    nbytes: int
    key: Callable[[], str]

    @property
    def plain(self) -> Recipe:
        """The recipe for evaluation: no augmentation."""
        return replace(self.recipe, augmentation=AUGMENTATIONS["none"])

    def augmented(self, augmentation: Augmentation) -> Images:
        """The same with another augmentation, where there was one: test environments stay as they are."""
        if self.recipe.augmentation == AUGMENTATIONS["none"]:
            return self
        return replace(self, recipe=replace(self.recipe, augmentation=augmentation))


def images_of(environment: Any) -> Images | None:
    """``environment`` as images; None where only its own ``__getitem__`` knows what a sample is.

    Known are environments that offer ``pixels`` and ``recipe`` (``docs/speed.md``), and torchvision's ImageFolder, of
    which upstream's image folders are made, with a transform that a ``Recipe`` can say.
    """
    from torchvision.datasets import ImageFolder
    from torchvision.datasets.folder import default_loader

    if type(environment) is ImageFolder:
        if environment.loader is not default_loader or environment.target_transform is not None:
            return None
        recipe, paths = recipe_of(environment.transform), _files(environment)
        if recipe is None:
            return None
        return Images(
            read=partial(_read, paths),
            labels=np.asarray(environment.targets, dtype=np.int64),
            recipe=recipe,
            nbytes=estimated_bytes(paths),
            key=partial(files_key, paths),
        )
    recipe = getattr(environment, "recipe", None)
    if recipe is None or not _same_class_defines(environment, "pixels", "__getitem__"):
        return None
    size = getattr(environment, "pixels_shape", None)
    paths = _files(environment)
    nbytes = estimated_bytes(paths) if size is None else len(environment) * int(np.prod(size))
    return Images(
        read=environment.pixels,
        labels=np.asarray(environment.labels),
        recipe=recipe,
        nbytes=nbytes,
        key=partial(files_key, paths, str(size)),
    )


def _read(paths: Sequence[str], index: int) -> np.ndarray:
    return np.array(read_image(paths[index]))


def _files(environment: Any) -> list[str]:
    folder, paths = files_of(environment)
    return [os.path.join(folder, path) for path in paths]


def estimated_bytes(paths: Sequence[str]) -> int:
    """Bytes of all images decoded to RGB, from the headers of some of them; unreadable ones count as nothing."""
    chosen = [paths[i] for i in np.unique(np.linspace(0, len(paths) - 1, _HEADERS).astype(int))]
    found = []
    for path in chosen:
        try:
            with Image.open(path) as image:
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


def _same_class_defines(environment: Any, *names: str) -> bool:
    """Whether one class defines all ``names``: a subclass with a ``__getitem__`` of its own has other samples."""
    owners = {next((cls for cls in type(environment).__mro__ if name in vars(cls)), None) for name in names}
    return len(owners) == 1 and None not in owners
