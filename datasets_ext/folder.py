"""Data sets that are a tree of face crops with a manifest beside it, as DomainBed environments."""

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
from datasets_ext.pictures import DAMAGE, truncated_is_an_error
from datasets_ext.training_options import TrainingOptions
from roga_domainbed.errors import Problems, RogaError
from roga_domainbed.host.backend import host
from roga_domainbed.input.augmentation.spec import Recipe, named

_KEPT_BYTES = 2**30  # larger sets are decoded again at each access
_ALL = TrainingOptions()


class FaceEnvironment(torch.utils.data.Dataset):
    """One environment: ``environment[i]`` is the frame of row i and its label.

    Training images are flipped left to right with probability one half, drawn from torch's global generator, which
    the trainer seeds for each sample. There is no crop, colour jitter or blur as DomainBed has them: resampling and
    recolouring drown the traces that tell a forged face, so they teach the model to look away from them.

    Attributes:
        name: the environment's name.
        labels: (N,) int64, 0 real and 1 fake.
        videos: N keys ``env/label/video``, equal for the frames of one video.
        folder: the data set's folder.
        relative_paths: N frame files, relative to it, with forward slashes.
        evaluation: the same environment, never augmented.
    """

    def __init__(
        self, name: str, folder: Path, rows: pd.DataFrame, image_size: int, augment: bool, keep: bool
    ):
        self.name = name
        self.labels = rows["label"].to_numpy(dtype=np.int64)
        self.videos = [
            f"{name}/{label}/{video}" for label, video in zip(self.labels, rows["video"], strict=True)
        ]
        self.folder = folder
        self.relative_paths = rows["path"].tolist()
        self._paths = [str(folder / path) for path in self.relative_paths]
        self._size = image_size
        self._augment = augment
        # One array, which takes memory where it is written: kept one by one, images leave gaps between them that
        # nothing else fits in, several times their size.
        self._kept = np.empty((len(rows), *self.pixels_shape), np.uint8) if keep else None
        self._is_kept = np.zeros(len(rows), bool)
        self.evaluation = self._unaugmented() if augment else self

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """The frame, (3, S, S) float32 in [-1, 1], and its label.

        Raises:
            RogaError: the file is missing, empty, truncated or no image.
        """
        image = face_tensor(self._kept_pixels(index))
        if self._augment and torch.rand(()) < 0.5:
            image = image.flip(2)
        return image.contiguous(), int(self.labels[index])

    @property
    def recipe(self) -> Recipe:
        """What ``environment[i]`` does to the pixels: for reading in batches."""
        return Recipe(self._size, augmentation=named("flip" if self._augment else "none"))

    @property
    def pixels_shape(self) -> tuple[int, int, int]:
        """Of what ``pixels`` gives."""
        return (self._size, self._size, 3)

    def pixels(self, index: int) -> np.ndarray:
        """The frame, (S, S, 3) uint8, decoded anew: who reads this way keeps images as the user says."""
        return read_image(self._paths[index], self._size)

    def _unaugmented(self) -> FaceEnvironment:
        twin = object.__new__(FaceEnvironment)
        twin.__dict__.update(self.__dict__, _augment=False)  # what is kept is for both
        twin.evaluation = twin
        return twin

    def _kept_pixels(self, index: int) -> np.ndarray:
        """As ``pixels``, kept where the set is small: for DomainBed's own train and ``--input exact``."""
        if self._kept is None:
            return self.pixels(index)
        if not self._is_kept[index]:
            self._kept[index] = self.pixels(index)
            self._is_kept[index] = True
        return self._kept[index]


def read_image(path: str | os.PathLike, size: int) -> np.ndarray:
    """A file's pixels, resized bilinearly to a square: (size, size, 3) uint8.

    Raises:
        RogaError: the file is missing, empty, truncated or no image.
    """
    try:
        return square_pixels(decode(path), size)
    except RogaError as error:
        raise RogaError(f"{error}; make the data set again") from None


def decode(path: str | os.PathLike) -> Image.Image:
    """The picture in a file, decoded whole, as RGB.

    Raises:
        RogaError: the file is missing, empty, truncated or no image.
    """
    try:
        with truncated_is_an_error(), Image.open(path) as image:
            return image.convert("RGB")
    except DAMAGE as error:
        reason = "the file is empty" if _is_empty(path) else str(error)
        raise RogaError(f"cannot read the image {str(path)!r}: {reason}") from None


def square_pixels(image: Image.Image, size: int) -> np.ndarray:
    """``image``, which is RGB, resized bilinearly to a square: (size, size, 3) uint8."""
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.array(image)


def face_tensor(pixels: np.ndarray) -> torch.Tensor:
    """(S, S, 3) uint8 as the networks see it: (3, S, S) float32 in [-1, 1]."""
    return torch.from_numpy(pixels).permute(2, 0, 1).float().div_(127.5).sub_(1.0)


def _is_empty(path: str | os.PathLike) -> bool:
    return os.path.isfile(path) and os.path.getsize(path) == 0


class ManifestDataset(host().datasets.MultipleDomainDataset):
    """A data set of face crops: ``<root>/<NAME>/<env>/{0_real,1_fake}/<video>/<frame>.png`` and a manifest.

    A subclass names itself (``NAME``, as registered) and its environments. Training environments are augmented if
    ``hparams['data_augmentation']`` says so; see ``FaceEnvironment`` for how.

    Attributes:
        datasets: one ``FaceEnvironment`` each, in the order of ``ENVIRONMENTS``.
        input_shape: (3, S, S) with S = ``hparams['image_size']``.
        num_classes: 2.
        environment_rows: the manifest's rows of each environment, in that order.
        environment_folders: the folders that their paths count from.
        SAME_SOURCE: sets of recordings that were cut from one source video, where that is known and the manifest does
            not say it.
    """

    NAME: str
    N_STEPS = 5001
    CHECKPOINT_FREQ = 300
    SPLIT_MODES = splits.MODES
    SAME_SOURCE: tuple[tuple[str, ...], ...] = ()

    def __init__(self, root: str | os.PathLike | None, test_envs: Collection[int], hparams: dict[str, Any]):
        super().__init__()
        environments = self.read_environments(root)
        self.environment_folders = [folder for folder, _ in environments]
        self.environment_rows = [rows for _, rows in environments]
        size = hparams["image_size"]
        keep = 3 * size * size * sum(map(len, self.environment_rows)) <= _KEPT_BYTES
        if keep:
            self.N_WORKERS = 0  # each loader process would decode everything again, to keep it for itself
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
        self.num_classes = 2

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
            RogaError: a mode or an option that this data set cannot have; parts that would be empty.
        """
        if options.strict and not self.SAME_SOURCE:
            raise RogaError(
                f"--strict: no two recordings of {self.NAME} are known to come from one source video; it is for "
                "FaceForensics++. Leave it out"
            )
        same_source = self.SAME_SOURCE if options.strict else ()
        pairs = self._cut(mode, trial_seed, holdout_fraction, test_envs, same_source)
        return training_rows.keep(
            pairs, self.environment_rows, self.ENVIRONMENTS, trial_seed, test_envs, options
        )

    def _cut(
        self,
        mode: str,
        trial_seed: int,
        holdout_fraction: float,
        test_envs: Collection[int],
        same_source: Collection[Collection[str]],
    ) -> list[splits.Split]:
        return splits.split_indices(
            mode,
            self.environment_rows,
            self.ENVIRONMENTS,
            trial_seed,
            holdout_fraction,
            test_envs,
            same_source,
        )


def read_tree(
    root: str | os.PathLike | None, name: str, environments: Sequence[str], problems: Problems
) -> tuple[Path, dict[str, pd.DataFrame]]:
    """The folder of the data set ``name`` below ``root``, and the manifest's rows of each environment, from 0.

    Faults of the content are added to ``problems``; what leaves nothing to look at is raised.
    """
    folder = _dataset_folder(root, name)
    rows = manifest.read(folder)
    rows_of = {env: rows[rows["env"] == env].reset_index(drop=True) for env in environments}
    for message in (*manifest.problems(rows, name, environments), *_file_problems(folder, rows_of)):
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
        first = ", ".join(map(repr, missing[:3])) + (", …" if len(missing) > 3 else "")
        yield f"{len(missing)} files of the manifest are missing in {str(folder)!r}: {first}"


def _names_in(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return set()
