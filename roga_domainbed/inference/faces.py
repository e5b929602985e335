"""From images and videos to the faces in them, cut out as the training data was."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from datasets_ext.prepare import report
from datasets_ext.prepare.detectors import DETECTORS, sure_of
from datasets_ext.prepare.options import CropOptions, completed
from roga_domainbed.catalog import DATASETS
from roga_domainbed.catalog.registry import load
from roga_domainbed.errors import MissingExtra, Problems, RogaError
from roga_domainbed.foreign import check_regular, read_json
from roga_domainbed.inference.saved_run import SavedRun
from roga_domainbed.input.image_files import open_image, read_image
from roga_domainbed.input.tree import MEDIA_SUFFIXES, VIDEO_SUFFIXES, files_below


@dataclass
class Face:
    """One face.

    Attributes:
        frame: index of the video's frame; None in an image.
        box: x, y, width, height in pixels of the picture; None without detection.
        detection_score: how sure the detector is.
        probability: of being fake.
        calibrated: the same, calibrated; None if the model has no calibration.
        distance: from what the model was trained on; None if the model does not know.
        unlike: whether that is further than nearly all of its validation images are; None likewise.
    """

    frame: int | None = None
    box: tuple[float, float, float, float] | None = None
    detection_score: float | None = None
    probability: float = float("nan")
    calibrated: float | None = None
    distance: float | None = None
    unlike: bool | None = None


@dataclass
class Prediction:
    """One file with its faces and their probabilities.

    Attributes:
        path: the file.
        kind: ``image`` or ``video``.
        faces: those that were found, with their probabilities.
        n_frames: frames of the video that were looked at; None for an image.
        error: a sentence that names the file and says why it could not be read; empty if it could.
        note: what else is worth knowing.
    """

    path: str
    kind: str
    faces: list[Face] = field(default_factory=list)
    n_frames: int | None = None
    error: str = ""
    note: str = ""

    @property
    def probability(self) -> float | None:
        """Of a video: the mean over its faces; None for an image, and without faces."""
        if self.kind != "video" or not self.faces:
            return None
        return float(np.mean([face.probability for face in self.faces]))

    @property
    def unlike(self) -> bool | None:
        """Whether most faces of a video, or any of an image, are unlike what the model was trained on."""
        known = [face.unlike for face in self.faces if face.unlike is not None]
        if not known:
            return None
        return 2 * sum(known) > len(known) if self.kind == "video" else any(known)


def find_inputs(inputs: Sequence[str]) -> list[tuple[str, str]]:
    """(file, ``image`` or ``video``) for every input; a folder stands for the images and videos in and below it.

    Raises:
        RogaError: an input is not there or is no regular file, or a folder has neither; all such faults at once.
    """
    problems, found = Problems(), []
    for text in inputs:
        try:
            if os.path.isdir(text):
                below = files_below(text, MEDIA_SUFFIXES)
                if not below:
                    problems.add(f"no image and no video in the folder {text!r}")
                found += [(path, kind_of(path)) for path in below]
            else:
                check_regular(text)
                found.append((text, kind_of(text)))
        except FileNotFoundError:
            problems.add(f"no such file or folder: {text!r}")
        except (OSError, ValueError) as error:  # the second: a name with a null byte
            problems.add(f"{text!r} cannot be read: {getattr(error, 'strerror', None) or error}")
    problems.check()
    return found


def kind_of(path: str) -> str:
    """``image`` or ``video``, by the suffix, else by what is in the file."""
    lower = path.lower()
    if lower.endswith(MEDIA_SUFFIXES):
        return "video" if lower.endswith(VIDEO_SUFFIXES) else "image"
    try:
        with open_image(path):
            return "image"
    except Exception:  # whatever Pillow says: reading it as a video will report the fault
        return "video"


def crops_of_training(run: SavedRun) -> tuple[CropOptions, str]:
    """How the faces that ``run`` was trained on were cut out, and in words how that is known.

    The report that ``prepare`` left beside the data has it; without that report, the defaults are assumed.
    """
    config = run.config
    name = config.dataset
    for tree in DATASETS.get(name).trees if name in DATASETS else [name]:
        path = Path(config.data_dir or ".", tree, report.FILE)
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            found = read_json(path, dict)["options"]
            known = {field.name for field in fields(CropOptions)}  # self-blended faces have others, too
            options = CropOptions(
                **{name: value for name, value in completed(found).items() if name in known}
            )
            return options, f"as in {path}"
    return CropOptions(), f"the defaults of 'prepare': the training data has no {report.FILE}"


def in_words(options: CropOptions, origin: str) -> str:
    """How faces are cut out, and how that is known, for the heading of a table."""
    return (
        f"faces by {options.detector}{', aligned' if options.align else ''}, margin {options.margin:g}, "
        f"{options.size} pixels, {options.n_frames} frames a video ({origin})"
    )


class FaceCutter:
    """Cuts the faces out of images and videos.

    Args:
        options: detector, margin and size of a crop, frames of a video.
        detect: False takes every picture whole, as a finished crop.
        kinds: of the files that will come.

    Raises:
        RogaError: a package is missing.
    """

    def __init__(self, options: CropOptions, *, detect: bool, kinds: Sequence[str]):
        self.options, self._detector = options, None
        if "video" in kinds and importlib.util.find_spec("av") is None:
            raise MissingExtra("av", "prepare", "reading videos")
        if detect:
            if importlib.util.find_spec("cv2") is None:
                raise MissingExtra("opencv-python-headless", "prepare", "finding faces")
            self._detector = load(DETECTORS.get(options.detector).target)()

    def cut(self, path: str, kind: str) -> tuple[Prediction, list[Image.Image]]:
        """All faces of an image, or one person's in a video, still without probabilities; and their crops."""
        prediction = Prediction(path, kind)
        try:
            check_regular(path)
            crops = self._video(prediction) if kind == "video" else self._image(prediction)
        except OSError as error:
            prediction.error = f"cannot read the {kind} {path!r}: {error.strerror or error}"
            return prediction, []
        except RogaError as error:
            prediction.error = str(error)
            return prediction, []
        return prediction, crops

    def _image(self, prediction: Prediction) -> list[Image.Image]:
        if self._detector is None:
            whole = read_image(prediction.path)
            prediction.faces.append(Face())
            return [whole]
        from datasets_ext.prepare.crop import by_size
        from datasets_ext.prepare.faces import encoded_face

        rgb = np.asarray(read_image(prediction.path))
        faces = by_size(sure_of(self._detector.detect(rgb), self.options.min_score))
        return [self._add(prediction, None, face, encoded_face(rgb, face, self.options)) for face in faces]

    def _video(self, prediction: Prediction) -> list[Image.Image]:
        from datasets_ext.prepare.video import UnreadableVideo, visit_spaced_frames

        def begin(planned: list[int]) -> Any:
            if self._detector is None:
                return _WholeFrames()
            from datasets_ext.prepare.faces import VideoFaces  # OpenCV, which whole frames do without

            return VideoFaces(self.options, self._detector)

        try:
            seen, decoded = visit_spaced_frames(Path(prediction.path), self.options.n_frames, begin)
        except UnreadableVideo as error:
            raise RogaError(f"cannot read the video {prediction.path!r}: {error}") from None
        if decoded.count == 0:
            raise RogaError(f"cannot read the video {prediction.path!r}: no frame of it can be decoded")
        prediction.n_frames = len(decoded.planned)
        if decoded.is_short or decoded.is_truncated:
            announced = max(decoded.n_declared, decoded.n_present)
            prediction.note = f"only {decoded.count} of its {announced} frames can be decoded"
        if isinstance(seen, _WholeFrames):
            prediction.faces += [Face(index) for index in seen.indices]
            return seen.images
        return [self._add(prediction, index, face, data) for index, face, data in seen.chosen()]

    def _add(self, prediction: Prediction, index: int | None, face: np.ndarray, data: bytes) -> Image.Image:
        x, y, width, height, score = map(float, face[:5])
        prediction.faces.append(Face(index, (x, y, width, height), score))
        # Decoded from the file that 'prepare' would have written: JPEG changes pixels.
        return Image.open(io.BytesIO(data)).convert("RGB")


class _WholeFrames:
    """Frames that are crops already."""

    def __init__(self):
        self.indices: list[int] = []
        self.images: list[Image.Image] = []

    def visit(self, index: int, rgb: np.ndarray) -> None:
        self.indices.append(index)
        self.images.append(Image.fromarray(rgb))
