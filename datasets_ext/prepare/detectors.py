"""Face detectors by name. Listing them imports neither OpenCV nor a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from roga_domainbed.catalog.registry import Registry

LONGEST_SIDE = 640  # pixels of an image given to a detector


class Detector(Protocol):
    """Finds faces in one image. It is made without arguments, once in each worker process."""

    def detect(self, rgb: np.ndarray) -> np.ndarray:
        """The faces in ``rgb``, (H, W, 3) uint8.

        Returns:
            (N, 5) float: x, y, width, height in pixels of ``rgb``, and a score, higher is surer. A box may
            extend over the edge of the image. N is 0 if there is no face. A detector that finds landmarks returns
            (N, 15): after those the x and y of two eyes, the tip of the nose and two corners of the mouth; of each
            pair the left one in the image comes first.
        """
        ...


@dataclass(frozen=True)
class DetectorInfo:
    """A detector.

    Attributes:
        name: what ``--detector`` calls it.
        target: where its class is, ``"module:Class"``.
        summary: one line about it.
        landmarks: whether it finds the five landmarks that ``--align`` needs.
        min_score: the score from which on a face counts, if the user names no other; None takes them all.
    """

    name: str
    target: str
    summary: str = ""
    landmarks: bool = False
    min_score: float | None = None


DETECTORS: Registry[DetectorInfo] = Registry("detector")

DETECTORS.add(
    DetectorInfo(
        "yunet",
        target="datasets_ext.prepare.yunet:YuNet",
        summary="YuNet (OpenCV's FaceDetectorYN, model of March 2023); a CPU is enough",
        landmarks=True,
        min_score=0.8,  # upright faces have 0.9, in c40 and out of focus too
    )
)
DETECTORS.add(
    DetectorInfo(
        "mtcnn",
        target="datasets_ext.prepare.mtcnn:MTCNN",
        summary="MTCNN, of many papers; pip install --no-deps facenet-pytorch",
        landmarks=True,
        min_score=0.7,
    )
)
DETECTORS.add(
    DetectorInfo(
        "dlib",
        target="datasets_ext.prepare.dlib_hog:DlibHog",
        summary="dlib's frontal detector, of DeepfakeBench and FaceForensics++; boxes only, upright faces only",
        min_score=0.0,
    )
)


def sure_of(faces: np.ndarray, min_score: float | None) -> np.ndarray:
    """The ``faces``, as ``Detector.detect`` returns them, whose score is at least ``min_score`` (None: all)."""
    return faces if min_score is None or not len(faces) else faces[faces[:, 4] >= min_score]


def shrunk(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``rgb`` with its longest side at most ``LONGEST_SIDE``, and the factors (x, y) from its pixels back to ``rgb``'s.

    A detector's time grows with the pixels, and it finds faces of a limited range of sizes.
    """
    import cv2

    height, width = rgb.shape[:2]
    scale = min(1.0, LONGEST_SIDE / max(height, width))
    small = (max(1, round(width * scale)), max(1, round(height * scale)))
    image = rgb if scale == 1 else cv2.resize(rgb, small, interpolation=cv2.INTER_AREA)
    return image, np.array([width / small[0], height / small[1]])
