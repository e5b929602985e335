"""Handwritten digits distributed over environments: colour or rotation is the domain.

Input: MNIST, 70 000 grey images of 28×28 (Y. LeCun, C. Cortes, C. Burges), as its four idx files in
``<data_dir>/MNIST/raw``; torchvision downloads them if they are missing. Train and test parts are pooled, shuffled by a
constant permutation and distributed round-robin, so every job of a sweep sees the same environments. With the hparam
``image_size`` the finished images are resized, to 14×14 for example by the mean of each 2×2.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import torchvision.transforms.functional as TF
from PIL import Image
from torchvision.datasets import MNIST

from roga_domainbed.engine.datasets.base import MultipleDomainDataset, require_root
from roga_domainbed.engine.datasets.tensors import TensorEnvironment
from roga_domainbed.errors import RogaError
from roga_domainbed.input.environment import Environment
from roga_domainbed.seeds import generator

_FILES = tuple(
    f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
)

_SIDE = 28

#: From digits (N, 28, 28) uint8, their labels (N,) int64 and an element of ``environments``.
Deal = Callable[[torch.Tensor, np.ndarray, Any], Environment]


class MultipleEnvironmentMNIST(MultipleDomainDataset):
    """Digits dealt to ``environments``, each passed through ``dataset_transform``.

    Args:
        root: folder that holds, or will hold, ``MNIST/raw``.
        environments: one value for each environment.
        dataset_transform: makes an environment out of its digits, their labels and that value.
        input_shape: shape of the images it makes.
        num_classes: number of classes it makes.

    Raises:
        NoDataDirectory: no ``root`` was given.
        RogaError: the files are not there and cannot be fetched, or are damaged.
    """

    def __init__(
        self,
        root: str | os.PathLike | None,
        environments: Sequence[Any],
        dataset_transform: Deal,
        input_shape: tuple[int, ...],
        num_classes: int,
    ):
        images, labels = _digits(require_root(root, type(self).__name__))
        order = generator(0, "MNIST environments").permutation(len(labels))
        self.input_shape = input_shape
        self.num_classes = num_classes
        self.datasets = []
        for index, environment in enumerate(environments):
            dealt = order[index :: len(environments)]
            self.datasets.append(
                dataset_transform(images[torch.from_numpy(dealt)], labels[dealt], environment)
            )


class ColoredMNIST(MultipleEnvironmentMNIST):
    """Is the digit below 5? Colour says so too, with a strength that changes from domain to domain.

    arXiv:1907.02893, with DomainBed's environments. The label is flipped with probability 0.25; the colour is
    the label flipped with probability 0.1, 0.2, 0.9. Two channels, of which the colour's alone is not zero.
    """

    ENVIRONMENTS = ["+90%", "+80%", "-90%"]

    def __init__(self, root: str | os.PathLike | None, test_envs: Sequence[int], hparams: dict[str, Any]):
        side = hparams.get("image_size", _SIDE)
        super().__init__(root, [0.1, 0.2, 0.9], partial(_coloured, side), (2, side, side), 2)
        self.classes = ["5 to 9", "0 to 4"]


class RotatedMNIST(MultipleEnvironmentMNIST):
    """Digits rotated counter-clockwise by 0 to 75 degrees, bilinear, black outside; 10 classes."""

    ENVIRONMENTS = ["0", "15", "30", "45", "60", "75"]

    def __init__(self, root: str | os.PathLike | None, test_envs: Sequence[int], hparams: dict[str, Any]):
        side = hparams.get("image_size", _SIDE)
        super().__init__(root, [0, 15, 30, 45, 60, 75], partial(_rotated, side), (1, side, side), 10)
        self.classes = [str(digit) for digit in range(10)]


def _coloured(side: int, images: torch.Tensor, digits: np.ndarray, flip: float) -> TensorEnvironment:
    draw = generator(0, "ColoredMNIST flips", repr(flip))
    labels = (digits < 5) ^ (draw.random(len(digits)) < 0.25)
    colours = labels ^ (draw.random(len(digits)) < flip)
    channels = torch.stack([images, images], dim=1)
    channels[torch.arange(len(images)), 1 - torch.from_numpy(colours.astype(np.int64))] = 0
    return TensorEnvironment(channels, labels, partial(_to_unit, side))


def _to_unit(side: int, image: torch.Tensor) -> torch.Tensor:
    return _resized(image.float() / 255, side)


def _rotated(side: int, images: torch.Tensor, digits: np.ndarray, degrees: int) -> TensorEnvironment:
    return TensorEnvironment(images, digits, partial(_rotate, degrees, side))


def _rotate(degrees: int, side: int, image: torch.Tensor) -> torch.Tensor:
    picture = Image.fromarray(image.numpy())
    rotated = picture.rotate(degrees, resample=Image.Resampling.BILINEAR, fillcolor=0)
    return _resized(TF.to_tensor(rotated), side)


def _resized(image: torch.Tensor, side: int) -> torch.Tensor:
    """(C, H, W) float to (C, side, side): smaller by the mean over the area of each pixel, larger bilinearly."""
    if image.shape[1:] == (side, side):
        return image
    mode = "area" if side < _SIDE else "bilinear"
    return F.interpolate(image[None], (side, side), mode=mode)[0]


def _digits(root: str) -> tuple[torch.Tensor, np.ndarray]:
    """All digits (N, 28, 28) uint8 and their labels (N,) int64, train part first."""
    raw = Path(root, "MNIST", "raw")
    if not all((raw / file).is_file() for file in _FILES):
        _download(root, raw)
    try:
        parts = [MNIST(root, train=train, download=False) for train in (True, False)]
    except Exception as error:  # torchvision asserts, unpacks and reshapes its way through a damaged file
        raise RogaError(
            f"the MNIST files in {str(raw)!r} are damaged ({type(error).__name__}: {error}): remove them, then "
            "put good ones there or let them be downloaded again"
        ) from None
    images = torch.cat([part.data for part in parts])
    return images, torch.cat([part.targets for part in parts]).numpy().astype(np.int64)


def _download(root: str, raw: Path) -> None:
    """Fetch the files beside their place and move each there in one piece: jobs may start together."""
    try:
        os.makedirs(root, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=".mnist-") as scratch:
            fetched = MNIST(scratch, download=True)
            raw.mkdir(parents=True, exist_ok=True)
            for file in _FILES:
                os.replace(Path(fetched.raw_folder, file), raw / file)
    except (RuntimeError, OSError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise RogaError(
            f"MNIST is not in {root!r} and could not be downloaded: put its four files {', '.join(_FILES)} (unpacked) "
            f"into {str(raw)!r}. The download said: {reason}"
        ) from None
