"""dlib's frontal face detector (histograms of gradients, King 2009), which DeepfakeBench and FaceForensics++ use."""

from __future__ import annotations

import importlib.util

import numpy as np

from datasets_ext.prepare.detectors import shrunk
from roga_domainbed.errors import MissingExtra

_N_UPSAMPLED = 1  # as DeepfakeBench; faces from 40 pixels on


class DlibHog:
    """The detector behind ``--detector dlib``: upright frontal faces only, without landmarks, and a tight box."""

    def __init__(self):
        if importlib.util.find_spec("dlib") is None:
            raise MissingExtra("dlib-bin", "dlib", "the detector 'dlib'")
        import dlib

        self._detector = dlib.get_frontal_face_detector()

    def detect(self, rgb: np.ndarray) -> np.ndarray:
        """See ``Detector``."""
        image, back = shrunk(rgb)
        boxes, scores, _ = self._detector.run(np.ascontiguousarray(image), _N_UPSAMPLED, 0.0)
        if not len(boxes):
            return np.zeros((0, 5))
        corners = np.array([[box.left(), box.top(), box.width(), box.height()] for box in boxes])
        return np.column_stack([corners * np.tile(back, 2), scores])
