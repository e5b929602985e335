"""Datasets that are a tree of face crops with a manifest beside it, as DomainBed environments."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

from datasets_ext import manifest, splits, training_rows
from datasets_ext.training_options import TrainingOptions
from roga_domainbed.errors import Problems, RogaError, shortened
from roga_domainbed.host.backend import host
from roga_domainbed.input.augmentation.spec import Recipe, named
from roga_domainbed.input.classes import REAL_AND_FAKE
from roga_domainbed.input.environment import Environment
from roga_domainbed.input.image_files import read_image
from roga_domainbed.input.store import KeptImages

_KEPT_BYTES = 2**30  # larger sets are decoded again at each access
_ALL = TrainingOptions()


class FaceEnvironment(Environment):
    """One environment: ``environment[i]`` is the frame of row i and its label, 0 real and 1 fake.

    Training images are flipped left to right with probability 0.5, drawn from torch's global generator, which the
    trainer seeds for each sample. DomainBed's crop, colour jitter and grey are left out: resampling and recolouring
    hide the traces by which a forged face is told.

    ``videos`` are keys ``env/label/video``.
    """

    def __init__(
        self, name: str, folder: Path, rows: pd.DataFrame, image_size: int, augment: bool, keep: bool
    ):
        self.name = name
        self.labels = rows["label"].to_numpy(dtype=np.int64)
        self.videos = manifest.video_keys(name, rows)
        self.folder = folder
        self.relative_paths = rows["path"].tolist()
        self.pixels_shape = (image_size, image_size, 3)
        self._augment = augment
        # For --input exact and DomainBed's own train; reading in batches keeps images as --cache says.
        self._kept = KeptImages(self.pixels, len(rows), self.pixels_shape) if keep else None
        self._evaluation = self._unaugmented() if augment else self

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """The frame, (3, S, S) float32 in [-1, 1], and its label.

        Raises:
            UnreadableImage: the file is missing, empty, truncated or no image.
        """
        image = face_tensor(self.pixels(index) if self._kept is None else self._kept.get(index))
        if self._augment and torch.rand(()) < 0.5:
            image = image.flip(2)
        return image.contiguous(), int(self.labels[index])

    @property
    def recipe(self) -> Recipe:
        """What ``environment[i]`` does to ``pixels(i)``."""
        return Recipe(self.pixels_shape[0], augmentation=named("flip" if self._augment else "none"))

    @property
    def evaluation(self) -> FaceEnvironment:
        """The same environment, never augmented."""
        return self._evaluation

    def pixels(self, index: int) -> np.ndarray:
        """The frame, (S, S, 3) uint8, decoded at each call."""
        image = read_image(self.file(index), remedy="prepare the dataset again")
        return square_pixels(image, self.pixels_shape[0])

    def _unaugmented(self) -> FaceEnvironment:
        twin = object.__new__(FaceEnvironment)
        twin.__dict__.update(self.__dict__, _augment=False)  # decoded images are kept for both
        twin._evaluation = twin
        return twin


def square_pixels(image: Image.Image, size: int) -> np.ndarray:
    """``image``, which is RGB, resized bilinearly to a square: (size, size, 3) uint8."""
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.array(image)


def face_tensor(pixels: np.ndarray) -> torch.Tensor:
    """(S, S, 3) uint8 as the networks see it: (3, S, S) float32 in [-1, 1]."""
    return torch.from_numpy(pixels).permute(2, 0, 1).float().div_(127.5).sub_(1.0)


class ManifestDataset(host().datasets.MultipleDomainDataset):
    """A dataset of face crops: ``<root>/<NAME>/<env>/{0_real,1_fake}/<video>/<frame>.png`` and a manifest.

    A subclass sets ``NAME``, as registered, and ``ENVIRONMENTS``. With ``hparams['data_augmentation']`` training
    environments are augmented, as ``FaceEnvironment`` describes.

    Attributes:
        datasets: one ``FaceEnvironment`` each, in the order of ``ENVIRONMENTS``.
        input_shape: (3, S, S) with S = ``hparams['image_size']``.
        num_classes: 2.
        classes: their names.
        environment_rows: the manifest's rows of each environment, in that order.
        families: of each environment, for ``splits.group_by_family``; empty to cut all environments together.
        SAME_SOURCE: sets of recordings that were cut from one source video, if that is known; the manifest does not
            have it.
    """

    NAME: str
    N_STEPS = 5001
    CHECKPOINT_FREQ = 300
    SPLIT_MODES = splits.MODES
    SAME_SOURCE: tuple[tuple[str, ...], ...] = ()
    families: Sequence[str] = ()

    def __init__(self, root: str | os.PathLike | None, test_envs: Collection[int], hparams: dict[str, Any]):
        super().__init__()
        environments = self.read_environments(root)
        self.environment_rows = [rows for _, rows in environments]
        size = hparams["image_size"]
        keep = 3 * size * size * sum(map(len, self.environment_rows)) <= _KEPT_BYTES
        if keep:
            self.N_WORKERS = 0  # each loader process would decode every image again, and keep its own copy
        self.datasets = [
            FaceEnvironment(
                name,
                folder,
                rows,
                size,
                augment=hparams["data_augmentation"] and i not in test_envs,
                keep=keep,
            )
            for i, (name, (folder, rows)) in enumerate(zip(self.ENVIRONMENTS, environments, strict=True))
        ]
        self.input_shape = (3, size, size)
        self.num_classes, self.classes = 2, REAL_AND_FAKE

    @classmethod
    def read_environments(cls, root: str | os.PathLike | None) -> list[tuple[Path, pd.DataFrame]]:
        """The folder that an environment's paths count from, and its rows, for each environment.

        Raises:
            RogaError: a manifest, a file or a class is missing; all such faults at once.
        """
        problems = Problems()
        folder, rows_of = read_tree(root, cls.NAME, cls.ENVIRONMENTS, problems)
        problems.check()
        return [(folder, rows_of[env]) for env in cls.ENVIRONMENTS]

    def split_indices(
        self,
        mode: str,
        trial_seed: int,
        holdout_fraction: float,
        test_envs: Collection[int],
        options: TrainingOptions = _ALL,
    ) -> list[splits.Split]:
        """The (in, out) indices of every environment.

        ``datasets_ext.splits`` has the rules of the modes, ``datasets_ext.training_rows`` those of the options.

        Raises:
            RogaError: a mode or an option that this dataset cannot have; parts that would be empty.
        """
        if options.strict and not self.SAME_SOURCE:
            raise RogaError(
                f"--strict: no two recordings of {self.NAME} are known to come from one source video; it is for "
                "FaceForensics++. Leave it out"
            )
        same_source = self.SAME_SOURCE if options.strict else ()
        pairs = splits.split_indices(
            mode,
            self.rows_to_cut(test_envs),
            self.ENVIRONMENTS,
            trial_seed,
            holdout_fraction,
            test_envs,
            same_source,
            self.families,
        )
        return training_rows.keep(
            pairs, self.environment_rows, self.ENVIRONMENTS, trial_seed, test_envs, options
        )

    def rows_to_cut(self, test_envs: Collection[int]) -> list[pd.DataFrame]:
        """The rows of each environment, with the split that is official for these test environments."""
        return self.environment_rows


def read_tree(
    root: str | os.PathLike | None, name: str, environments: Sequence[str], problems: Problems
) -> tuple[Path, dict[str, pd.DataFrame]]:
    """The folder of the dataset ``name`` below ``root``, and the manifest's rows of each environment, from 0.

    Faults of the content are added to ``problems``; a missing or unreadable manifest is raised.
    """
    folder = _dataset_folder(root, name)
    rows = manifest.read(folder)
    rows_of = {env: rows[rows["env"] == env].reset_index(drop=True) for env in environments}
    for message in manifest.problems(rows, name, environments):
        problems.add(message)
    # Nothing outside of the folder is looked at.
    for message in () if manifest.odd_paths(rows) else _file_problems(folder, rows_of):
        problems.add(message)
    return folder, rows_of


def _dataset_folder(root: str | os.PathLike | None, name: str) -> Path:
    if root is None:
        raise RogaError(f"{name} lies on disk: give the folder that holds {name}/ with --data_dir")
    if not Path(root).is_dir():
        raise RogaError(f"--data_dir {str(root)!r} is not a folder; give the one that holds {name}/")
    return Path(root) / name


def _file_problems(folder: Path, rows_of: dict[str, pd.DataFrame]) -> Iterator[str]:
    """Files that are listed and not there: one listing of each folder, not one question a file."""
    missing = []
    for env, rows in rows_of.items():
        if len(rows) and not (folder / env).is_dir():
            yield f"environment {env!r} is in the manifest, but there is no folder {str(folder / env)!r}"
            continue
        lacking = {path.split("/")[1] for path in map(str, rows["path"]) if path.count("/") > 1}
        lacking = {name for name in lacking if not (folder / env / name).is_dir()}
        if lacking:
            yield f"environment {env!r} lacks the class folder {', '.join(sorted(map(repr, lacking)))} on disk"
            continue
        listed: dict[str, set[str]] = {}
        for path in map(str, rows["path"]):
            parent, _, file = path.rpartition("/")
            if parent not in listed:
                listed[parent] = _names_in(folder / parent)
            if file not in listed[parent]:
                missing.append(path)
    if missing:
        yield (
            f"{len(missing)} files of the manifest are missing in {str(folder)!r}: "
            f"{shortened(map(repr, missing))}"
        )


def _names_in(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return set()
