"""A face's box to a square crop."""

from __future__ import annotations

import cv2
import numpy as np


def by_size(faces: np.ndarray) -> np.ndarray:
    """The faces by the area of their boxes, the largest first; of equals the higher score first.

    Args:
        faces: (N, ≥ 5) of x, y, width, height, score in pixels, then landmarks or nothing. Boxes without an area are
            dropped.
    """
    faces = real_faces(faces)
    return faces[np.lexsort((faces[:, 4], faces[:, 2] * faces[:, 3]))[::-1]]


def real_faces(faces: np.ndarray) -> np.ndarray:
    """``faces`` as float64, without boxes that have no area or a non-finite number."""
    faces = np.asarray(faces, dtype=np.float64)
    if not faces.size:
        return np.zeros((0, 5))
    return faces[(faces[:, 2] > 0) & (faces[:, 3] > 0) & np.isfinite(faces).all(axis=1)]


def crop_square(image: np.ndarray, side: int, left: int, top: int) -> np.ndarray:
    """The ``side`` × ``side`` window at (left, top), moved inside the image.

    If the image is smaller than the window, the window holds all of it and repeats its edge outwards.

    Args:
        image: (H, W, 3) uint8.
        side: in pixels, ≥ 1.
        left: column of the window's first pixel; may be outside the image.
        top: row of the window's first pixel; may be outside the image.
    """
    height, width = image.shape[:2]
    left = _shifted(left, side, width)
    top = _shifted(top, side, height)
    inside = image[max(top, 0) : top + side, max(left, 0) : left + side]
    before_y, before_x = max(-top, 0), max(-left, 0)
    after_y, after_x = side - before_y - inside.shape[0], side - before_x - inside.shape[1]
    if not (before_y or before_x or after_y or after_x):
        return inside
    return cv2.copyMakeBorder(inside, before_y, after_y, before_x, after_x, cv2.BORDER_REPLICATE)


def face_crop(image: np.ndarray, box: np.ndarray, margin: float, size: int) -> np.ndarray:
    """The square around ``box``, ``margin`` × its longer side wide, at ``size`` × ``size`` pixels.

    Args:
        image: (H, W, 3) uint8.
        box: x, y, width, height in pixels, then anything.
        margin: ≥ 1.
        size: side of the result.

    Returns:
        (size, size, 3) uint8. Shrinking averages areas, which avoids aliasing; enlarging is bicubic.
    """
    x, y, w, h = (float(value) for value in box[:4])
    side = max(1, round(margin * max(w, h)))
    crop = crop_square(image, side, round(x + w / 2 - side / 2), round(y + h / 2 - side / 2))
    if side == size:
        return crop.copy()
    method = cv2.INTER_AREA if side > size else cv2.INTER_CUBIC
    return cv2.resize(crop, (size, size), interpolation=method)


def _shifted(start: int, side: int, length: int) -> int:
    # One rule for both cases: a window that fits is moved inside, a larger one covers the whole length.
    return min(max(start, min(0, length - side)), max(0, length - side))
