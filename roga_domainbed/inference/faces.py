"""From images and videos to the faces in them, cut out as the training data was."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from roga_domainbed.input.tree import (
    IMAGE_SUFFIXES,
    MEDIA_SUFFIXES,
    VIDEO_SUFFIXES,
    files_below,
    names_in,
    walk,
)

if TYPE_CHECKING:
    from datasets_ext.prepare.video import Decoded

_MOST_WHOLE = 2**31  # bytes of the whole frames of a video, which are held until all are read


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


def find_inputs(inputs: Sequence[str], *, frames: bool = False) -> list[tuple[str, str]]:
    """(file, ``image`` or ``video``) for every input; a folder stands for the images and videos in and below it.

    Args:
        inputs: files and folders.
        frames: each folder with images, in or below an input, is one entry (folder, ``frames``): a video whose frames
            they are.

    Raises:
        RogaError: an input is not there or is no regular file, or a folder has neither; all such faults at once.
    """
    problems, found = Problems(), []
    for text in inputs:
        try:
            if os.path.isdir(text):
                below = _entries(text, frames)
                if not below:
                    problems.add(f"no image and no video in the folder {text!r}")
                found += below
            else:
                check_regular(text)
                found.append((text, kind_of(text)))
        except FileNotFoundError:
            problems.add(f"no such file or folder: {text!r}")
        except (OSError, ValueError) as error:  # the second: a name with a null byte
            problems.add(f"{text!r} cannot be read: {getattr(error, 'strerror', None) or error}")
    problems.check()
    return found


def _entries(folder: str, frames: bool) -> list[tuple[str, str]]:
    if not frames:
        return [(path, kind_of(path)) for path in files_below(folder, MEDIA_SUFFIXES)]
    found = []
    for where, names in walk(folder):
        if any(name.lower().endswith(IMAGE_SUFFIXES) for name in names):
            found.append((where, "frames"))
        found += [
            (os.path.join(where, name), "video") for name in names if name.lower().endswith(VIDEO_SUFFIXES)
        ]
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
        tick: called after each frame of a video that was looked at; for a progress bar.

    Attributes:
        decoded: what decoding the latest video gave; None before the first.

    Raises:
        RogaError: a package is missing.
    """

    def __init__(
        self,
        options: CropOptions,
        *,
        detect: bool,
        kinds: Sequence[str],
        tick: Callable[[], object] = lambda: None,
    ):
        self.options, self._detector, self._tick = options, None, tick
        self.decoded: Decoded | None = None
        if "video" in kinds and importlib.util.find_spec("av") is None:
            raise MissingExtra("av", "prepare", "reading videos")
        if detect:
            if importlib.util.find_spec("cv2") is None:
                raise MissingExtra("opencv-python-headless", "prepare", "finding faces")
            self._detector = load(DETECTORS.get(options.detector).target)()

    def cut(self, path: str, kind: str) -> tuple[Prediction, list[Image.Image]]:
        """All faces of an image, or one person's in a video, still without probabilities; and their crops.

        Args:
            path: the file, or the folder of a video's frames.
            kind: ``image``, ``video`` or ``frames``.
        """
        prediction = Prediction(path, "image" if kind == "image" else "video")
        try:
            if kind != "frames":
                check_regular(path)
            crops = {"image": self._image, "video": self._video, "frames": self._frames}[kind](prediction)
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

        try:
            seen, decoded = visit_spaced_frames(
                Path(prediction.path),
                self.options.n_frames,
                lambda planned: self._visitor(prediction.path, len(planned)),
            )
        except UnreadableVideo as error:
            raise RogaError(f"cannot read the video {prediction.path!r}: {error}") from None
        if decoded.count == 0:
            raise RogaError(f"cannot read the video {prediction.path!r}: no frame of it can be decoded")
        self.decoded = decoded
        prediction.n_frames = len(decoded.planned)
        if decoded.is_short or decoded.is_truncated:
            announced = max(decoded.n_declared, decoded.n_present)
            prediction.note = f"only {decoded.count} of its {announced} frames can be decoded"
        return self._seen(prediction, seen)

    def _frames(self, prediction: Prediction) -> list[Image.Image]:
        from datasets_ext.prepare.sampling import spaced_indices

        names = [name for name in names_in(prediction.path)[1] if name.lower().endswith(IMAGE_SUFFIXES)]
        paths = [os.path.join(prediction.path, name) for name in names]
        planned = spaced_indices(len(paths), self.options.n_frames)
        seen = self._visitor(prediction.path, len(planned))
        for index in planned:
            seen.visit(index, np.asarray(read_image(paths[index])))
        prediction.n_frames = len(planned)
        return self._seen(prediction, seen)

    def _visitor(self, path: str, n: int) -> Any:
        """Of ``n`` frames of one video."""
        if self._detector is None:
            return _WholeFrames(path, n, self._tick)
        from datasets_ext.prepare.faces import VideoFaces  # OpenCV, which whole frames do without

        return _Ticking(VideoFaces(self.options, self._detector), self._tick)

    def _seen(self, prediction: Prediction, seen: Any) -> list[Image.Image]:
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
    """Frames of the video ``path`` that are crops already, ``n`` of them."""

    def __init__(self, path: str, n: int, tick: Callable[[], object]):
        self.indices: list[int] = []
        self.images: list[Image.Image] = []
        self._path, self._n, self._tick = path, n, tick

    def visit(self, index: int, rgb: np.ndarray) -> None:
        if self._n * rgb.nbytes > _MOST_WHOLE:
            height, width = rgb.shape[:2]
            raise RogaError(
                f"{self._path}: {self._n} whole frames of {width}x{height} pixels are too many to hold: take fewer "
                "with --n_frames, or let faces be cut out of them, without --no_detect"
            )
        self.indices.append(index)
        self.images.append(Image.fromarray(rgb))
        self._tick()


class _Ticking:
    """``VideoFaces`` that says when a frame is done."""

    def __init__(self, faces: Any, tick: Callable[[], object]):
        self._faces, self._tick = faces, tick
        self.chosen = faces.chosen

    def visit(self, index: int, rgb: np.ndarray) -> None:
        self._faces.visit(index, rgb)
        self._tick()
