"""Face detectors by name. Listing them imports neither OpenCV nor a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from roga_domainbed.catalog.registry import Registry


class Detector(Protocol):
    """Finds faces in one image. It is made without arguments, once in each worker process."""

    def detect(self, rgb: np.ndarray) -> np.ndarray:
        """The faces in ``rgb``, (H, W, 3) uint8.

        Returns:
            (N, 5) float: x, y, width, height in pixels of ``rgb``, and a score, higher is surer. A box may
            reach over the edge of the image. N is 0 where there is no face. A detector that finds landmarks gives
            (N, 15): after those the x and y of two eyes, the tip of the nose and two corners of the mouth, of each
            two the one on the left of the picture first.
        """
        ...


@dataclass(frozen=True)
class DetectorInfo:
    """A detector.

    Attributes:
        name: what ``--detector`` calls it.
        target: where its class is, ``"module:Class"``.
        summary: one line about it.
        landmarks: whether it gives the five landmarks that ``--align`` needs.
    """

    name: str
    target: str
    summary: str = ""
    landmarks: bool = False


DETECTORS: Registry[DetectorInfo] = Registry("detector")

DETECTORS.add(
    DetectorInfo(
        "yunet",
        target="datasets_ext.prepare.yunet:YuNet",
        summary="YuNet (OpenCV's FaceDetectorYN, model of March 2023); a CPU is enough",
        landmarks=True,
    )
)
DETECTORS.add(
    DetectorInfo(
        "mtcnn",
        target="datasets_ext.prepare.mtcnn:MTCNN",
        summary="MTCNN, of many papers; pip install --no-deps facenet-pytorch",
        landmarks=True,
    )
)
DETECTORS.add(
    DetectorInfo(
        "dlib",
        target="datasets_ext.prepare.dlib_hog:DlibHog",
        summary="dlib's frontal detector, of DeepfakeBench and FaceForensics++; boxes alone, upright faces alone",
    )
)
