"""A saved model for other programs: it takes images as they come and gives probabilities."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image, ImageOps

from roga_domainbed.engine.lib.misc import evaluation_mode
from roga_domainbed.errors import RogaError, first_line, is_out_of_memory
from roga_domainbed.inference.detector import as_detector, class_names
from roga_domainbed.inference.model_inputs import to_tensor
from roga_domainbed.inference.predict import BATCH_SIZE
from roga_domainbed.inference.saved_run import SavedRun, load_run
from roga_domainbed.input.classes import FAKE, fake_class
from roga_domainbed.input.image_files import as_rgb, read_image, truncated_is_an_error
from roga_domainbed.trainer.evaluation import decide

OneImage: TypeAlias = "str | os.PathLike | Image.Image | np.ndarray"

_TAKEN = (
    "predict takes PIL images, paths of image files and uint8 arrays (height, width, 3) in RGB, one or many"
)
_ORIENTATION = 0x0112  # tag of EXIF


class LoadedModel:
    """A trained network with what makes its inputs of images; ``roga_domainbed.load`` makes it.

    Attributes:
        classes: names of its classes. Those of a detector are the real one, then the fake one.
        is_detector: whether it tells real from fake, by the names of its classes.
        trained_on: what was trained on what, in a line.
        side: images are resized to this many pixels, height and width.
        run: all that its file and records say.
    """

    def __init__(self, run: SavedRun):
        self.run, self.trained_on, self.side = run, run.describe(), run.input_shape[1]
        self._to_tensor = to_tensor(run)
        self.classes = class_names(run) or tuple(map(str, range(run.num_classes)))
        fake = fake_class(self.classes)
        self.is_detector = fake is not None
        if self.is_detector:
            as_detector(run, "load")
            self.classes = self.classes if fake == FAKE else self.classes[::-1]

    def __repr__(self) -> str:
        return f"<{self.trained_on}; {' or '.join(self.classes)}; {self.side}x{self.side} pixels>"

    def predict(self, images: OneImage | Iterable[OneImage]) -> np.ndarray:
        """Probabilities for images that are cut out as the training images were: crops of faces.

        They are what ``roga-domainbed predict --no_detect`` says of these images in this order.

        Args:
            images: N images, or one: a PIL image; the path of an image file; an array (H, W, 3) uint8 in RGB, where
                OpenCV has BGR. An array (N, H, W, 3) and a generator are many. They may be of any sizes.

        Returns:
            (N,) float64, the probability of fake. Of a model that is no detector: (N, C), in the order of ``classes``.

        Raises:
            RogaError: an image that cannot be read, or something else; it says which.
        """
        inputs = (self._to_tensor(image) for image in _opened(images))
        found = [np.empty((0, len(self.classes)))]
        while batch := list(islice(inputs, BATCH_SIZE)):
            found.append(probabilities(self.run, batch))
        together = np.concatenate(found)
        odd = np.flatnonzero(~np.isfinite(together).all(axis=1))
        if len(odd):
            raise RogaError(
                f"no probabilities: the network's output is NaN for {len(odd)} of {len(together)} images, first "
                f"for image {odd[0]}"
            )
        return together[:, FAKE] if self.is_detector else together


@torch.inference_mode()
def probabilities(run: SavedRun, inputs: Sequence[torch.Tensor]) -> np.ndarray:
    """(B, C) float64 of one batch, in evaluation mode.

    Args:
        run: the model.
        inputs: B inputs of the network, on any device.
    """
    with evaluation_mode(run.algorithm):
        batch = torch.stack(inputs).to(run.device)
        with run.autocast():
            logits = run.algorithm.predict(batch).float().reshape(len(batch), -1).cpu()
    return decide(logits)[1].astype(float)


def load_model(where: str | os.PathLike, device: str | torch.device | None = None) -> LoadedModel:
    """Load the model of a run, with the preparation of its images.

    Args:
        where: the run's folder, or a model file.
        device: where it computes; None for the GPU if there is one.

    Raises:
        RogaError: no such run or device; a model that cannot be loaded, or of no image files.
    """
    return LoadedModel(load_run(where, None if device is None else _usable(device)))


def _usable(device: str | torch.device) -> torch.device:
    try:
        found = torch.device(device)
        torch.empty(1, device=found).cpu()
    except Exception as error:  # RuntimeError, AssertionError, NotImplementedError: by device and version
        if is_out_of_memory(error):
            raise
        raise RogaError(f"device {str(device)!r} cannot be used here: {first_line(error)}") from None
    return found


def _opened(images: Any) -> Iterator[Image.Image]:
    """Each of the images in RGB, upright."""
    is_one = isinstance(images, (str, os.PathLike, Image.Image)) or getattr(images, "ndim", 0) in (2, 3)
    if not is_one and (isinstance(images, (bytes, dict)) or not isinstance(images, Iterable)):
        raise RogaError(f"{_TAKEN}; got {_said(images)}")
    for position, image in enumerate([images] if is_one else images):
        if isinstance(image, (str, os.PathLike)):
            yield read_image(image)
        elif isinstance(image, np.ndarray) and image.dtype == np.uint8 and _is_rgb(image.shape):
            yield Image.fromarray(np.ascontiguousarray(image))
        elif isinstance(image, Image.Image):
            yield _seen(image, position)
        else:
            raise RogaError(f"image {position} is of type {_said(image)}; {_TAKEN}")


def _is_rgb(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 and shape[2] == 3 and min(shape) > 0


def _seen(image: Image.Image, position: int) -> Image.Image:
    """As ``read_image`` makes it of a file; the given one stays as it is."""
    try:
        with truncated_is_an_error():
            image.load()
        with suppress(Exception):  # a bit of EXIF that makes no sense says nothing
            if image.getexif().get(_ORIENTATION, 1) != 1:
                image = ImageOps.exif_transpose(image)
        return as_rgb(image)
    except Exception as error:  # each of PIL's decoders fails in a way of its own
        if is_out_of_memory(error):
            raise
        reason = first_line(error) or type(error).__name__
        raise RogaError(f"image {position} cannot be read: {reason}") from None


def _said(value: Any) -> str:
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    return type(value).__name__ + ("" if shape is None else f" of {dtype} and shape {tuple(shape)}")
