"""What an environment and a dataset are to everything that reads them.

Our own classes derive from ``Environment``. Anybody else's, torchvision's image folders and plain tensors among them,
are adapted once, where a dataset comes in: ``OpenDataset``. From there on everything is a plain attribute, with a
default for what is not known.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from roga_domainbed.input.augmentation.spec import Recipe, recipe_of
from roga_domainbed.input.image_files import read_image

if TYPE_CHECKING:
    import pandas as pd


class Environment(torch.utils.data.Dataset):
    """One environment: ``environment[i]`` is sample i, (x, y): a float tensor and its class.

    A subclass sets the attributes that it knows.

    Attributes:
        labels: (N,) int64 classes; None if only reading the samples tells.
        videos: N keys, equal for the frames of one video and for no others; None if videos are not known.
        folder: the dataset's folder; None if samples are no files.
        relative_paths: N files relative to ``folder``, with forward slashes; None if samples are no files.
        recipe: what ``environment[i]`` does to ``pixels(i)``, for reading in batches; None if no ``Recipe`` can say it.
        pixels_shape: (H, W, 3) if all images have the same shape; None otherwise.
        may_draw: whether reading a sample may draw random numbers; if not, nothing is seeded for it.
        in_memory: whether samples are kept as ``environment[i]`` gives them.
    """

    labels: np.ndarray | None = None
    videos: Sequence[str] | None = None
    folder: str | os.PathLike | None = None
    relative_paths: Sequence[str] | None = None
    recipe: Recipe | None = None
    pixels_shape: tuple[int, int, int] | None = None
    may_draw: bool = True
    in_memory: bool = False

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        raise NotImplementedError

    def pixels(self, index: int) -> np.ndarray:
        """The decoded image of sample ``index``, (H, W, 3) uint8; only with a ``recipe``."""
        raise NotImplementedError

    @property
    def evaluation(self) -> Environment:
        """The same samples without augmentation; the environment itself if it has none."""
        return self

    def labels_of(self, indices: Sequence[int]) -> np.ndarray:
        """(len(indices),) classes; reads the samples if there is no other way to know."""
        if self.labels is None:
            return np.array([int(self[i][1]) for i in indices])
        return np.asarray(self.labels)[indices]

    def file(self, index: int) -> str:
        """The file of sample ``index``, which must be one."""
        return os.path.join(self.folder, self.relative_paths[index])


class FileEnvironment(Environment):
    """Samples that are files below the environment's folder, as torchvision's image folders list them.

    Attributes:
        root: the environment's folder; the dataset's is the one above.
        samples: (path, class) of every file.
    """

    root: str
    samples: Sequence[tuple[str, int]]

    @property
    def folder(self) -> str:
        """The dataset's folder."""
        return _folder_above(self.root)

    @cached_property
    def relative_paths(self) -> list[str]:
        """The files relative to it."""
        return _relative_paths(self.root, self.samples)

    def file(self, index: int) -> str:
        """The file of sample ``index``."""
        return self.samples[index][0]


class OpenDataset:
    """A DomainBed dataset of any origin; ``dataset[i]`` is environment i, an ``Environment``.

    Attributes:
        name: of its class.
        environments: in index order.
        names: of the environments.
        input_shape: shape of a sample.
        num_classes: the same in all environments.
        n_steps: steps to train for by default.
        checkpoint_freq: steps between two records by default.
        n_workers: readers by default.
        split_modes: how it can be split, the default first; ``frame`` alone if it does not split itself.
        split_indices: its own way to split; None if it has none. See ``datasets_ext.folder.ManifestDataset``.
        rows: the manifest's rows of each environment; None without a manifest.
        class_names: of its classes, in the order of their indices; None if they have none.
        notes: what a person should know before it is trained on, a sentence each, without a full stop.
        same_source: sets of recordings that were cut from one source video, as far as is known.
    """

    def __init__(self, dataset: Any):
        self.name = type(dataset).__name__
        self.environments = [environment_of(dataset[i]) for i in range(len(dataset))]
        names = getattr(type(dataset), "ENVIRONMENTS", None) or range(len(self.environments))
        self.names = [str(name) for name in names]
        self.input_shape, self.num_classes = tuple(dataset.input_shape), dataset.num_classes
        self.n_steps, self.checkpoint_freq = dataset.N_STEPS, dataset.CHECKPOINT_FREQ
        self.n_workers = dataset.N_WORKERS
        self.split_modes = split_modes(type(dataset))
        self.split_indices: Callable[..., list] | None = getattr(dataset, "split_indices", None)
        self.rows: list[pd.DataFrame] | None = getattr(dataset, "environment_rows", None)
        self.class_names = _class_names(dataset)
        self.notes: list[str] = list(getattr(dataset, "notes", ()))
        self.same_source: tuple[tuple[str, ...], ...] = getattr(dataset, "SAME_SOURCE", ())

    def __getitem__(self, index: int) -> Environment:
        return self.environments[index]

    def __len__(self) -> int:
        return len(self.environments)


def _class_names(dataset: Any) -> list[str] | None:
    """Those of ``dataset``, or of its environments, as torchvision calls them."""
    places = [dataset, *(dataset[i] for i in range(len(dataset)))]
    found = [getattr(place, "classes", None) for place in places]
    names = found[0] or (
        found[1] if len(found) > 1 and all(other == found[1] for other in found[1:]) else None
    )
    if not isinstance(names, (list, tuple)) or len(names) != dataset.num_classes:
        return None
    return [str(name) for name in names]


def split_modes(dataset_class: type) -> tuple[str, ...]:
    """How datasets of that class can be split, the default first; DomainBed's ``frame`` if the class says nothing."""
    return getattr(dataset_class, "SPLIT_MODES", ("frame",))


def splits_itself(dataset_class: type) -> bool:
    """Whether datasets of that class know how to split themselves."""
    return hasattr(dataset_class, "split_indices")


def environment_of(environment: Any) -> Environment:
    """``environment`` itself if it is an ``Environment``, or an adapter that gives what can be known of it."""
    from torchvision.datasets import ImageFolder

    if isinstance(environment, Environment):
        return environment
    return _TorchvisionFolder(environment) if type(environment) is ImageFolder else _Foreign(environment)


class _Foreign(Environment):
    """An environment of anybody's class, which may offer any of the attributes of ``Environment``."""

    def __init__(self, environment: Any):
        self._environment = environment
        for name in ("labels", "videos", "folder", "relative_paths", "recipe", "pixels_shape"):
            setattr(self, name, getattr(environment, name, None))
        if self.labels is None:  # torchvision's name
            self.labels = getattr(environment, "targets", None)
        if self.labels is not None:
            self.labels = np.asarray(self.labels)
        if self.relative_paths is None and hasattr(environment, "samples") and hasattr(environment, "root"):
            self.folder = _folder_above(environment.root)
            self.relative_paths = _relative_paths(environment.root, environment.samples)
        if not same_class_defines(environment, "pixels", "__getitem__"):
            self.recipe = None
        if type(environment) is torch.utils.data.TensorDataset:
            self.may_draw, self.in_memory = False, True

    def __len__(self) -> int:
        return len(self._environment)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self._environment[index]

    def pixels(self, index: int) -> np.ndarray:
        return self._environment.pixels(index)

    @property
    def evaluation(self) -> Environment:
        view = getattr(self._environment, "evaluation", self._environment)
        return self if view is self._environment else environment_of(view)


class _TorchvisionFolder(FileEnvironment):
    """torchvision's ``ImageFolder``, of which a checkout's image folders are made."""

    def __init__(self, environment: Any):
        from torchvision.datasets.folder import default_loader

        self._environment = environment
        self.root, self.samples = environment.root, environment.samples
        self.labels = np.asarray(environment.targets, dtype=np.int64)
        if environment.loader is default_loader and environment.target_transform is None:
            self.recipe = recipe_of(environment.transform)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self._environment[index]

    def pixels(self, index: int) -> np.ndarray:
        return np.array(read_image(self.file(index), whole=False))


def _folder_above(root: str) -> str:
    return os.path.dirname(os.path.normpath(root))


def _relative_paths(root: str, samples: Sequence[tuple[str, int]]) -> list[str]:
    folder = _folder_above(root)
    return [
        os.path.normpath(path).removeprefix(folder).replace(os.sep, "/").lstrip("/") for path, _ in samples
    ]


def same_class_defines(environment: Any, *names: str) -> bool:
    """Whether one class of ``environment`` defines all ``names``, and no subclass some of them anew."""
    owners = {next((cls for cls in type(environment).__mro__ if name in vars(cls)), None) for name in names}
    return len(owners) == 1 and None not in owners
