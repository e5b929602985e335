"""One photograph: read it, find its face, make frames of it with face coordinates.

Letters: F frames, S side of a frame in pixels. Face coordinates have their origin between the eyes, x to the right and
y towards the mouth, and the distance from eyes to mouth as unit: the eyes are near (±0.5, 0), the mouth at (0, 1), the
chin near (0, 1.75).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from datasets_ext.prepare.yunet import YuNet
from roga_domainbed.input.image_files import UnreadableImage, read_image

_TURN_DEG, _ZOOM, _SHIFT, _GAIN = 4.0, 0.03, 0.02, 0.04  # greatest movement between frames; shift in sides


class UnusablePhotograph(Exception):
    """No frame can be made; ``reason`` is a key of ``outcome.REASONS``, the text a detail."""

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True)
class Photograph:
    """Pixels and the one face in them.

    Attributes:
        rgb: (H, W, 3) uint8.
        box: (4,) x, y, width, height in pixels.
        landmarks: (5, 2) eyes, nose, corners of the mouth, in pixels, the left one of each pair first.
    """

    rgb: np.ndarray
    box: np.ndarray
    landmarks: np.ndarray


@dataclass(frozen=True)
class Frame:
    """A square crop with its face's coordinates.

    Attributes:
        image: (S, S, 3) float32 RGB in [0, 1].
        landmarks: (5, 2) as ``Photograph``'s, in pixels of the crop.
        x: (S, S) face coordinate x of each pixel, from the middle of the face however the head is turned.
        y: (S, S) face coordinate y.
        unit: pixels from eyes to mouth.
        right: (2,) unit vector of x in the crop; that of y is perpendicular.
    """

    image: np.ndarray
    landmarks: np.ndarray
    x: np.ndarray
    y: np.ndarray
    unit: float
    right: np.ndarray


def open_photograph(path: Path, detector: YuNet) -> Photograph:
    """Read a photograph, upright, grey or in colour, and find its face.

    Raises:
        UnusablePhotograph: missing, empty, unreadable, without a face, with several.
    """
    rgb = _read(path)
    faces = detector.detect(rgb)
    if len(faces) != 1:
        raise UnusablePhotograph("several_faces" if len(faces) else "no_face", f"{len(faces)} faces")
    return Photograph(rgb, faces[0, :4], faces[0, 5:15].reshape(5, 2))


def _read(path: Path) -> np.ndarray:
    try:
        if path.stat().st_size == 0:
            raise UnusablePhotograph("empty")
        return np.array(read_image(path))
    except FileNotFoundError:
        raise UnusablePhotograph("missing") from None
    except UnreadableImage as error:
        raise UnusablePhotograph("unreadable", error.reason) from None


def frames_of(
    photograph: Photograph, n_frames: int, margin: float, size: int, rng: np.random.Generator
) -> list[Frame]:
    """The face's square, ``margin`` × the longer side of its box: first as it is, then slightly turned and moved.

    Over the edge of the photograph, its mirror image is shown.
    """
    side = margin * max(photograph.box[2:])
    centre = photograph.box[:2] + photograph.box[2:] / 2
    frames = []
    for index in range(n_frames):
        turn, zoom, right, down, gain = rng.uniform(-1, 1, 5) * (index > 0)
        scale = size / side * (1 + _ZOOM * zoom)
        moved = centre + side * _SHIFT * np.array([right, down])
        matrix = _similarity(moved, np.deg2rad(_TURN_DEG * turn), scale, size)
        image = warped(photograph.rgb, matrix, size) * np.float32(1 + _GAIN * gain)
        landmarks = photograph.landmarks @ matrix[:, :2].T + matrix[:, 2]
        frames.append(_frame(np.clip(image, 0, 1), landmarks))
    return frames


def warped(rgb: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """The photograph under an affine map, without aliasing.

    Args:
        rgb: (H, W, 3) uint8.
        matrix: (2, 3) from pixels of the photograph to pixels of the result.
        size: side of the result.

    Returns:
        (size, size, 3) float32 in [0, 1].
    """
    scale = np.sqrt(abs(np.linalg.det(matrix[:, :2])))
    if scale < 1:  # average areas first; the remaining map neither shrinks nor enlarges
        height, width = rgb.shape[:2]
        small = max(1, round(width * scale)), max(1, round(height * scale))
        rgb = cv2.resize(rgb, small, interpolation=cv2.INTER_AREA)
        shrunk = np.array([small[0] / width, small[1] / height])
        offset = matrix[:, :2] @ ((0.5 / shrunk) - 0.5)  # pixel centres, not corners, are at integers
        matrix = np.column_stack([matrix[:, :2] / shrunk, matrix[:, 2] + offset])
    image = cv2.warpAffine(
        rgb, matrix, (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
    )
    return image.astype(np.float32) / np.float32(255)


def _similarity(centre: np.ndarray, angle: float, scale: float, size: int) -> np.ndarray:
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    linear = np.array([[cos, -sin], [sin, cos]])
    return np.column_stack([linear, (size - 1) / 2 - linear @ centre])


def _frame(image: np.ndarray, landmarks: np.ndarray) -> Frame:
    eyes, mouth = landmarks[:2].mean(axis=0), landmarks[3:].mean(axis=0)
    across = landmarks[1] - landmarks[0] + landmarks[4] - landmarks[3]
    right = across / np.linalg.norm(across)
    down = np.array([-right[1], right[0]])
    unit = max(1.0, float((mouth - eyes) @ down))
    place = np.arange(image.shape[0], dtype=np.float32)
    columns, rows = np.meshgrid(place - eyes[0], place - eyes[1])
    x = (columns * right[0] + rows * right[1]) / unit
    y = (columns * down[0] + rows * down[1]) / unit
    nose_x = float((landmarks[2] - eyes) @ right) / unit
    # The nose protrudes, so it moves further than the face when the head turns.
    return Frame(image, landmarks, x - 0.4 * np.clip(nose_x, -0.5, 0.5), y, unit, right)
