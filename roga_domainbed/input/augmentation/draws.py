"""The parameters of an augmentation, drawn for a whole minibatch at once: a function of the generator alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np

from roga_domainbed.input.augmentation.spec import Augmentation

_TRIES = 10  # torchvision's, before it falls back to the largest centred cut
BLUR_KERNELS = (3, 5, 7)
TINT = 20  # levels
#: Positions of the four jitters in ``Draws.order``.
JITTERS = ("brightness", "contrast", "saturation", "hue")


@dataclass
class Draws:
    """One row a sample (B in all).

    Attributes:
        boxes: (B, 4) int, top, left, height and width of the part that is kept.
        flip: (B,) bool.
        order: (B, 4) int, the order of the four jitters; None where there is none of them.
        factors: jitter → (B,) float32; hue's in turns, the others' 1 for no change.
        gray: (B,) bool.
        blur: (B,) kernel size, 0 for none.
        sigma: (B,) σ of a blur that is given by it, 0 for none.
        tint: (B, 3) float32, levels that are added to each colour.
        exposure: (B, 2) float32, contrast's factor and brightness's summand (of the range [0, 1]).
        jpeg: (B,) quality, 0 for none.
    """

    boxes: np.ndarray
    flip: np.ndarray
    order: np.ndarray | None
    factors: dict[str, np.ndarray]
    gray: np.ndarray
    blur: np.ndarray
    sigma: np.ndarray
    tint: np.ndarray
    exposure: np.ndarray
    jpeg: np.ndarray

    def needs_bytes(self) -> bool:
        """Whether something drawn works on 8-bit images on a processor."""
        arrays = self.blur, self.sigma, self.tint, self.exposure != (1, 0), self.jpeg
        return any(array.any() for array in arrays)

    def of(self, rows: np.ndarray) -> Draws:
        """Those of ``rows``, which may repeat."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        factors = {name: drawn[rows] for name, drawn in values.pop("factors").items()}
        return Draws(
            **{name: None if drawn is None else drawn[rows] for name, drawn in values.items()},
            factors=factors,
        )


def draw(augmentation: Augmentation, rng: np.random.Generator, sizes: np.ndarray) -> Draws:
    """Draw for images of ``sizes``, (B, 2) heights and widths.

    The number of draws does not depend on ``sizes`` or on what was drawn, so sample i's parameters are the same
    whatever its neighbours are.
    """
    n = len(sizes)
    jitters = {name: getattr(augmentation, name) for name in JITTERS}
    boxes = np.column_stack([np.zeros_like(sizes), sizes])
    if augmentation.crop_scale is not None:
        boxes = crop_boxes(
            sizes, augmentation.crop_scale, augmentation.crop_ratio, rng.random((n, _TRIES, 4))
        )
    flip = rng.random(n) < augmentation.flip
    order, factors = None, {}
    if any(jitters.values()):
        order = np.argsort(rng.random((n, len(JITTERS))), axis=1)
        for name, width in jitters.items():
            centre = 0.0 if name == "hue" else 1.0
            # torchvision cuts the range off at 0: a factor is never negative
            low = centre - width if name == "hue" else max(0.0, centre - width)
            factors[name] = (low + (centre + width - low) * rng.random(n)).astype(np.float32)
    gray = rng.random(n) < augmentation.gray
    blurred, kernel = rng.random(n) < augmentation.blur, rng.choice(BLUR_KERNELS, n)
    exposure = np.where(
        (rng.random(n) < augmentation.exposure)[:, None],
        augmentation.exposure_limit * (2 * rng.random((n, 2)) - 1),
        0.0,
    ).astype(np.float32) + np.array([1, 0], np.float32)
    low, high = augmentation.jpeg_quality
    jpeg = np.where(rng.random(n) < augmentation.jpeg, rng.integers(low, high + 1, n), 0)
    blur, sigma = np.where(blurred, kernel, 0), np.zeros(n)
    if augmentation.blur_sigma is not None:
        blur, sigma = np.zeros(n, int), np.where(blurred, rng.uniform(*augmentation.blur_sigma, n), 0)
    tint = np.zeros((n, 3), np.float32)
    if augmentation.tint:
        tint[:] = (rng.random((n, 1)) < augmentation.tint) * rng.uniform(-TINT, TINT, (n, 3))
    return Draws(boxes, flip, order, factors, gray, blur, sigma, tint, exposure, jpeg)


def crop_boxes(
    sizes: np.ndarray, scale: tuple[float, float], ratio: tuple[float, float], uniform: np.ndarray
) -> np.ndarray:
    """Torchvision's RandomResizedCrop: (B, 4) top, left, height, width.

    Args:
        sizes: (B, 2) heights and widths.
        scale: range of the area's share.
        ratio: range of width over height, drawn uniformly in its logarithm.
        uniform: (B, tries, 4) draws from [0, 1).
    """
    height, width = (sizes[:, axis, None].astype(np.float64) for axis in (0, 1))
    area = height * width * (scale[0] + (scale[1] - scale[0]) * uniform[..., 0])
    low, high = (math.log(bound) for bound in ratio)
    aspect = np.exp(low + (high - low) * uniform[..., 1])
    w, h = np.rint(np.sqrt(area * aspect)), np.rint(np.sqrt(area / aspect))
    fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
    first = fits.argmax(axis=1)
    rows = np.arange(len(sizes))
    w, h = w[rows, first], h[rows, first]
    top = np.floor(uniform[rows, first, 2] * (height[:, 0] - h + 1))
    left = np.floor(uniform[rows, first, 3] * (width[:, 0] - w + 1))
    boxes = np.column_stack([top, left, h, w]).astype(np.int64)
    for i in np.flatnonzero(~fits.any(axis=1)):
        boxes[i] = _centred(*map(int, sizes[i]), ratio)
    return boxes


def _centred(height: int, width: int, ratio: tuple[float, float]) -> tuple[int, int, int, int]:
    w, h = width, height
    if width / height < ratio[0]:
        h = round(w / ratio[0])
    elif width / height > ratio[1]:
        w = round(h * ratio[1])
    return (height - h) // 2, (width - w) // 2, h, w
