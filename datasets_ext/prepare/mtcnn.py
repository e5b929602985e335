"""MTCNN (Zhang et al., 2016, arXiv:1604.02878): the detector of many papers, from the package ``facenet-pytorch``."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from datasets_ext.prepare.detectors import shrunk
from roga_domainbed.errors import RogaError

_SMALLEST_SIDE = 20  # pixels; the smallest face that it finds


class MTCNN:
    """The detector behind ``--detector mtcnn``; its three small networks run on the CPU, in one thread."""

    def __init__(self):
        if importlib.util.find_spec("facenet_pytorch") is None:
            # The package pins torch and numpy of 2024 but works with current ones, so it cannot be an extra.
            raise RogaError(
                "the detector 'mtcnn' needs the package 'facenet-pytorch': pip install --no-deps facenet-pytorch"
            )
        from facenet_pytorch import MTCNN as Networks

        self._networks = Networks(keep_all=True, min_face_size=_SMALLEST_SIDE, device="cpu")

    def detect(self, rgb: np.ndarray) -> np.ndarray:
        """See ``Detector``."""
        image, back = shrunk(rgb)
        if min(image.shape[:2]) < _SMALLEST_SIDE:
            return np.zeros((0, 15))
        with _one_thread():
            corners, scores, landmarks = self._networks.detect(image, landmarks=True)
        if corners is None:
            return np.zeros((0, 15))
        points = np.concatenate([np.asarray(corners).reshape(-1, 2, 2), np.asarray(landmarks)], axis=1) * back
        first, second = points[:, 0], points[:, 1]
        return np.column_stack([first, second - first, scores, points[:, 2:].reshape(-1, 10)]).astype(
            np.float64
        )


@contextmanager
def _one_thread() -> Iterator[None]:
    """Torch on one thread: videos run in parallel processes, and threads slow such small networks down."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
