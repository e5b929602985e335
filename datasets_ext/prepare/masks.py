"""Which of several faces is forged: the one that the dataset's mask video marks."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import cv2
import numpy as np

from datasets_ext.prepare.crop import real_faces
from datasets_ext.prepare.video import UnreadableVideo, visit_frames

_LONGEST_SIDE = 320  # pixels kept of a mask: enough to tell faces apart, and 32 of them fit in memory
_WHITE = 128
_MIN_COVERED = 0.1  # least share of a face's box that its mask covers; an ellipse in a square covers 0.79


class ForgedRegions:
    """The forged region of some frames of a video.

    Attributes:
        n_frames: of the mask video. Some masks are much shorter than their videos.
    """

    def __init__(self, path: Path, wanted: Collection[int]):
        self._regions: dict[int, np.ndarray] = {}
        try:
            self.n_frames = visit_frames(path, wanted, self._keep)
        except UnreadableVideo:
            self.n_frames = 0

    def choose(self, index: int, faces: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray | None, str]:
        """The forged one of ``faces`` in frame ``index``.

        Args:
            index: of the frame.
            faces: as ``Detector.detect`` returns them.
            shape: height and width of the frame, then anything.

        Returns:
            The face, or None and a key of ``FRAME_REASONS``.
        """
        faces = real_faces(faces)
        if not len(faces):
            return None, "no_face"
        region = self._regions.get(index)
        if region is None:
            return (faces[0], "") if len(faces) == 1 else (None, "mask_ended")
        # cumulative[y, x] is the number of marked pixels above y and left of x
        cumulative = cv2.integral(region.astype(np.uint8))
        scale = np.tile([region.shape[1] / shape[1], region.shape[0] / shape[0]], 2)
        marked = [_marked(cumulative, *(face[:4] * scale)) for face in faces]
        counts = [count for count, _ in marked]
        best = int(np.argmax(counts))
        count, area = marked[best]
        if count < _MIN_COVERED * area or not count:
            return None, "no_masked_face"
        return faces[best], ""

    def _keep(self, index: int, rgb: np.ndarray) -> None:
        scale = min(1.0, _LONGEST_SIDE / max(rgb.shape[:2]))
        small = cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        self._regions[index] = small.max(axis=2) >= _WHITE


def _marked(cumulative: np.ndarray, x: float, y: float, w: float, h: float) -> tuple[int, float]:
    """Marked pixels in the box, and its area."""
    height, width = cumulative.shape[0] - 1, cumulative.shape[1] - 1
    left, right = (int(np.clip(round(value), 0, width)) for value in (x, x + w))
    top, bottom = (int(np.clip(round(value), 0, height)) for value in (y, y + h))
    count = (
        cumulative[bottom, right] - cumulative[top, right] - cumulative[bottom, left] + cumulative[top, left]
    )
    return int(count), w * h
