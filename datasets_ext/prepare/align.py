"""Aligned face crops: the face turned, scaled and shifted so that its five landmarks lie at a template's."""

from __future__ import annotations

import cv2
import numpy as np

#: Two eyes, tip of the nose, two corners of the mouth in an image of 112 × 112; of each pair the left one first. The
#: template of SphereFace and ArcFace (arXiv:1801.07698), moved by 8 pixels from 96 × 112 to the square.
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
_SIDE = 112


def template(margin: float, size: int) -> np.ndarray:
    """(5, 2) float, x and y: the landmarks in an image of ``size`` × ``size`` pixels.

    Args:
        margin: side of the image, as a multiple of the template's square, ≥ 1. DeepfakeBench uses 1.3.
        size: side in pixels.
    """
    return ((TEMPLATE / _SIDE - 0.5) / margin + 0.5) * size


def similarity(points: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The rotation, scale and shift that map ``points`` nearest to ``targets``, as a (2, 3) matrix.

    With points as complex numbers z and w a similarity is z ↦ a z + b, and least squares over a and b is linear:
    a = Σ conj(z − z̄)(w − w̄) / Σ |z − z̄|². It never mirrors. If all points coincide it is the shift alone.

    Args:
        points: (N, 2) float.
        targets: (N, 2) float.
    """
    z, w = (np.asarray(xy, dtype=np.float64) @ [1, 1j] for xy in (points, targets))
    spread = np.sum(np.abs(z - z.mean()) ** 2)
    a = np.sum(np.conj(z - z.mean()) * (w - w.mean())) / spread if spread else 1.0
    b = w.mean() - a * z.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def aligned_face(image: np.ndarray, landmarks: np.ndarray, margin: float, size: int) -> np.ndarray:
    """The upright face at ``size`` × ``size`` pixels, its landmarks at ``template(margin, size)``.

    Args:
        image: (H, W, 3) uint8.
        landmarks: (5, 2) float, x and y in pixels of ``image``.
        margin: ≥ 1.
        size: side of the result.

    Returns:
        (size, size, 3) uint8. As in ``crop.face_crop``, shrinking averages areas and enlarging is bicubic. Outside the
        image its edge is repeated.
    """
    targets = template(margin, size)
    scale = np.hypot(*similarity(landmarks, targets)[:, 0])
    if scale < 1:  # a warp samples points, which aliases when it shrinks: shrink first, then only turn
        height, width = image.shape[:2]
        small = max(1, round(width * scale)), max(1, round(height * scale))
        image = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
        # Pixel centres are at half-integers, so x + ½ scales.
        landmarks = (np.asarray(landmarks) + 0.5) * (small[0] / width, small[1] / height) - 0.5
    return cv2.warpAffine(
        image,
        similarity(landmarks, targets),
        (size, size),
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )
