"""Datasets that are folders of images: ``<root>/<environment>/<class>/…/<image>``.

Sources and licences are those of the datasets; DomainBed's documentation explains how to obtain each. The order of
samples is DomainBed's, so the same seeds give the same splits there and here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from roga_domainbed import catalog
from roga_domainbed.engine.datasets.base import MultipleDomainDataset, require_root
from roga_domainbed.engine.datasets.transforms import augmenting_transform, evaluation_transform
from roga_domainbed.errors import Problems, RogaError
from roga_domainbed.input.augmentation.spec import Recipe, recipe_of
from roga_domainbed.input.classes import class_indices
from roga_domainbed.input.environment import FileEnvironment
from roga_domainbed.input.image_files import read_image
from roga_domainbed.input.tree import IMAGE_SUFFIXES, MEDIA_SUFFIXES, counted, files_below, names_in

Transform = Callable[[Image.Image], torch.Tensor]


class ImageEnvironment(FileEnvironment):
    """Image files with labels.

    Args:
        root: the environment's folder, as torchvision's image folders call it.
        samples: (path, class index) of every image.
        transform: applied on reading, augmentation included.
        plain_transform: the one without augmentation.
    """

    def __init__(
        self, root: str, samples: list[tuple[str, int]], transform: Transform, plain_transform: Transform
    ):
        self.root = root
        self.name = os.path.basename(root)
        self.samples = samples
        self.labels = np.array([label for _, label in samples], dtype=np.int64)
        self.transform = transform
        self._plain_transform = plain_transform

    @property
    def evaluation(self) -> ImageEnvironment:
        """The same images without augmentation."""
        if self.transform is self._plain_transform:
            return self
        return ImageEnvironment(self.root, self.samples, self._plain_transform, self._plain_transform)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        path, label = self.samples[index]
        return self.transform(read_image(path)), label

    @property
    def recipe(self) -> Recipe | None:
        """What ``transform`` does; None if no ``Recipe`` can say it."""
        return recipe_of(self.transform)

    def pixels(self, index: int) -> np.ndarray:
        """The decoded image, (H, W, 3) uint8."""
        return np.array(read_image(self.file(index)))


class MultipleEnvironmentImageFolder(MultipleDomainDataset):
    """Every folder in ``root`` is an environment, every folder in it a class.

    Links are followed as ``input.tree`` has it. Hidden folders and files and files without an image's suffix are
    skipped. Videos, and images outside class folders, are so with a note.
    Environments are in alphabetical order, or in the order of ``ENVIRONMENTS`` if those are the folders' names.

    Args:
        root: the folder of environments.
        test_envs: indices of environments that are never augmented.
        augment: whether the others are.
        hparams: ``image_size`` is the side in pixels, 224 if absent.

    Attributes:
        classes: names of the classes in the order of their indices; see ``class_indices``.
        notes: a sentence if images are left out.

    Raises:
        RogaError: no such folder; no images; an environment without one of the classes; folders that are not
            the environments of ``ENVIRONMENTS``. All faults at once.
    """

    def __init__(
        self, root: str | os.PathLike, test_envs: Sequence[int], augment: bool, hparams: dict[str, Any]
    ):
        root = os.fspath(root)
        side = hparams.get("image_size", 224)
        if not isinstance(side, int) or side < 1:
            raise RogaError(f"hparam 'image_size' must be a whole number of pixels, at least 1; got {side!r}")
        try:
            environments = self._environment_folders(root)
            media = {name: _class_folders(os.path.join(root, name)) for name in environments}
            stray = _outside_classes(root, environments)
        except OSError as error:
            raise RogaError(f"cannot list the folder {error.filename!r}: {error.strerror}") from None
        videos = [
            path
            for folders in media.values()
            for paths in folders.values()
            for path in paths
            if not _is_image(path)
        ]
        found = {
            name: {folder: list(filter(_is_image, paths)) for folder, paths in folders.items()}
            for name, folders in media.items()
        }
        self.notes = [f"images and videos in no class folder are left out, {counted(stray)}"] if stray else []
        if videos:
            self.notes.append(f"videos are left out, only images are read, {counted(videos)}")
        index_of, self.classes = class_indices(folder for folders in found.values() for folder in folders)
        _check_classes(root, found, index_of, self.classes)

        plain, augmenting = evaluation_transform(side), augmenting_transform(side)
        self.input_shape = (3, side, side)
        self.num_classes = len(self.classes)
        self.datasets = []
        for index, name in enumerate(environments):
            samples = [(path, index_of[folder]) for folder, paths in found[name].items() for path in paths]
            transform = augmenting if augment and index not in test_envs else plain
            self.datasets.append(ImageEnvironment(os.path.join(root, name), samples, transform, plain))

    def _environment_folders(self, root: str) -> list[str]:
        if not os.path.isdir(root):
            raise RogaError(
                f"no such folder: {root!r}; {type(self).__name__} is expected there as "
                "<environment>/<class>/<image>. Check --data_dir"
            )
        folders, _ = names_in(root)
        if not folders:
            raise RogaError(f"no environments in {root!r}: expected folders <environment>/<class>/<image>")
        names = self.ENVIRONMENTS
        if names is None:
            return folders
        if set(names) == set(folders):
            return list(names)
        if len(names) != len(folders) or not all(map(_abbreviates, names, folders)):
            raise RogaError(
                f"{type(self).__name__} has the environments {', '.join(names)}, but {root!r} has the folders "
                f"{', '.join(folders)}: there must be one folder for each, named alike. Move other folders away"
            )
        return folders


def _check_classes(
    root: str, found: dict[str, dict[str, list[str]]], index_of: dict[str, int], classes: list[str]
) -> None:
    problems = Problems()
    for environment, folders in found.items():
        where = os.path.join(root, environment)
        if not folders:
            problems.add(f"environment {environment!r} ({where}) has no class folders")
            continue
        present = {index_of[folder] for folder in folders}
        for index, name in enumerate(classes):
            if index not in present:
                problems.add(
                    f"environment {environment!r} lacks the class {name!r}; in {where} there are: "
                    f"{', '.join(folders)}"
                )
        for folder, paths in folders.items():
            if not paths:
                problems.add(
                    f"environment {environment!r}: the class folder {os.path.join(where, folder)} has no images "
                    f"({' '.join(IMAGE_SUFFIXES)})"
                )
    if len(classes) == 1:
        problems.add(f"{root!r} has one class only, {classes[0]!r}; at least two are needed")
    problems.check()


def _class_folders(environment: str) -> dict[str, list[str]]:
    """Class folder to its images, in the order in which they become samples, and videos."""
    names, _ = names_in(environment)
    folders = {name: os.path.join(environment, name) for name in names}
    return {
        name: files_below(path, MEDIA_SUFFIXES, [other for other in folders.values() if other != path])
        for name, path in folders.items()
    }


def _outside_classes(root: str, environments: Sequence[str]) -> list[str]:
    paths = []
    for folder in (root, *(os.path.join(root, name) for name in environments)):
        _, files = names_in(folder)
        paths += [os.path.join(folder, name) for name in files if name.lower().endswith(MEDIA_SUFFIXES)]
    return paths


def _is_image(path: str) -> bool:
    return path.lower().endswith(IMAGE_SUFFIXES)


def _abbreviates(short: str, name: str) -> bool:
    """Whether the letters of ``short`` occur in ``name`` in that order: ``L38`` stands for ``location_38``."""
    letters = iter(name.lower())
    return all(letter in letters for letter in short.lower())


class _Benchmark(MultipleEnvironmentImageFolder):
    """One of DomainBed's datasets: the catalog has its environments and its ``FOLDER`` inside the data directory."""

    CHECKPOINT_FREQ = 300
    FOLDER: str

    def __init_subclass__(cls):
        if cls.__name__ in catalog.DATASETS:  # a subclass of PACS in somebody's package has those of PACS
            info = catalog.DATASETS.get(cls.__name__)
            cls.ENVIRONMENTS, cls.FOLDER = list(info.environments), info.folder

    def __init__(self, root: str | os.PathLike | None, test_envs: Sequence[int], hparams: dict[str, Any]):
        folder = Path(require_root(root, type(self).__name__), self.FOLDER)
        super().__init__(folder, test_envs, hparams["data_augmentation"], hparams)


class VLCS(_Benchmark):
    """Photographs from Caltech101, LabelMe, SUN09 and VOC2007; 5 classes."""


class PACS(_Benchmark):
    """Art paintings, cartoons, photographs and sketches; 7 classes (arXiv:1710.03077)."""


class OfficeHome(_Benchmark):
    """Art, clip art, product pictures and photographs of office objects; 65 classes (arXiv:1706.07522)."""


class TerraIncognita(_Benchmark):
    """Camera-trap pictures from four locations; 10 classes (arXiv:1807.04975)."""


class DomainNet(_Benchmark):
    """Six styles of pictures; 345 classes (arXiv:1812.01754)."""

    CHECKPOINT_FREQ = 1000


class SVIRO(_Benchmark):
    """Rendered rear seats of ten cars (arXiv:2001.03483)."""
