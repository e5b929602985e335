"""Image files of no registered dataset, read like the images that a model was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image

from datasets_ext.folder import face_tensor, square_pixels
from roga_domainbed.catalog import DATASETS
from roga_domainbed.catalog.registry import load
from roga_domainbed.engine.datasets.transforms import evaluation_transform
from roga_domainbed.errors import RogaError
from roga_domainbed.host.backend import host
from roga_domainbed.inference.saved_run import SavedRun
from roga_domainbed.input.augmentation.spec import Recipe, recipe_of
from roga_domainbed.input.environment import Environment
from roga_domainbed.input.image_files import read_image
from roga_domainbed.trainer.image_kind import FACES, FOLDERS, image_kind


class ToTensor(Protocol):
    """From an RGB image to the network's input, in one step, or in two for reading in batches.

    Attributes:
        recipe: from ``pixels`` to the input.
    """

    recipe: Recipe

    def pixels(self, image: Image.Image) -> np.ndarray:
        """(H, W, 3) uint8, to which the recipe is applied."""
        ...

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """(3, S, S) float32."""
        ...


class ImageFiles(Environment):
    """Image files with labels.

    Args:
        folder: to which the paths are relative.
        relative_paths: N files, with forward slashes.
        labels: N classes.
        videos: N keys, or None.
        to_tensor: from an RGB image to the network's input.
    """

    def __init__(
        self,
        folder: Path,
        relative_paths: Sequence[str],
        labels: Sequence[int],
        videos: Sequence[str] | None,
        to_tensor: ToTensor,
    ):
        self.folder, self.relative_paths = folder, list(relative_paths)
        self.labels = np.asarray(labels, dtype=np.int64)
        self.videos = None if videos is None else list(videos)
        self._to_tensor = to_tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self._to_tensor(read_image(self.file(index))), int(self.labels[index])

    @property
    def recipe(self) -> Recipe:
        """From ``pixels(i)`` to the network's input."""
        return self._to_tensor.recipe

    def pixels(self, index: int) -> np.ndarray:
        """The image, (H, W, 3) uint8."""
        return self._to_tensor.pixels(read_image(self.file(index)))


def to_tensor(run: SavedRun) -> ToTensor:
    """How images became inputs when ``run`` was trained.

    Raises:
        RogaError: it was trained on something other than image files, or its dataset is unknown here.
    """
    name, kind = run.args.get("dataset"), kind_of_images(run)
    if kind is None and name not in DATASETS:
        raise RogaError(
            f"the model was trained on {name!r}, which is not known here: how it reads images cannot be told"
        )
    if kind is not None:
        return {FACES: _AsFace, FOLDERS: _AsFolder}[kind](run.input_shape[1])
    raise RogaError(
        f"the model was trained on {name}, whose samples are no image files: it can be evaluated on that dataset alone"
    )


def kind_of_images(run: SavedRun) -> str | None:
    """How the images became inputs: as the file says, else, for a model of version 0.1.0, as its dataset does."""
    name = run.args.get("dataset")
    if run.image_kind is not None or name not in DATASETS:
        return run.image_kind
    info = DATASETS.get(name)
    return image_kind(load(info.target) if info.plugin else host().datasets.get_dataset_class(name))


class _AsFace:
    """As ``FaceEnvironment`` reads."""

    def __init__(self, side: int):
        self.recipe = Recipe(side)

    def pixels(self, image: Image.Image) -> np.ndarray:
        return square_pixels(image, self.recipe.side)

    def __call__(self, image: Image.Image) -> torch.Tensor:
        return face_tensor(self.pixels(image)).contiguous()


class _AsFolder:
    """As image folders are read for evaluation."""

    def __init__(self, side: int):
        self._transform = evaluation_transform(side)
        self.recipe = recipe_of(self._transform)

    def pixels(self, image: Image.Image) -> np.ndarray:
        return np.array(image)

    def __call__(self, image: Image.Image) -> torch.Tensor:
        return self._transform(image)
