"""Pictures made small for a detector: its time grows with the pixels, and it knows faces of some sizes only."""

from __future__ import annotations

import cv2
import numpy as np

LONGEST_SIDE = 640  # pixels given to a detector


def shrunk(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``rgb`` with its longest side at most ``LONGEST_SIDE``, and what brings an x and a y there back to ``rgb``."""
    height, width = rgb.shape[:2]
    scale = min(1.0, LONGEST_SIDE / max(height, width))
    small = (max(1, round(width * scale)), max(1, round(height * scale)))
    image = rgb if scale == 1 else cv2.resize(rgb, small, interpolation=cv2.INTER_AREA)
    return image, np.array([width / small[0], height / small[1]])
