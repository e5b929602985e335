"""Self-blended images: a real face is blended with a changed copy of itself, and the blend is the fake.

Shiohara & Yamasaki, Detecting Deepfakes with Self-Blended Images (arXiv:2204.08376), Section 3; figures that the paper
leaves open are those of the authors' code. Letters: S side of an image in pixels.

    source, target  two copies of a real; one of them gets another colour, and is shrunk or sharpened
    source, mask    moved and resized a little; the mask is also bent
    mask            made smaller and soft, then lowered to a random ratio
    fake            mask · source + (1 − mask) · target;     the real beside it is the target

What differs. The paper's mask is the convex hull of the face's landmarks. A training image has none here, so the mask
is an oval where prepared crops have their face (``_oval``), its place and size drawn anew each time. Lengths that the
authors' code gives in pixels count in 224ths of the side. Its changes of hue, saturation and value are one level at
most and are left out, and so is the random margin of its crops.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

_SIDE = 224.0  # lengths in pixels are for this side: the middle of 192 to 256, which masks are resized to
_RATIOS = (0.25, 0.5, 0.75, 1.0, 1.0, 1.0)  # of the blend
_KERNELS = np.arange(5, 26, 2)  # pixels: by how much a mask is made smaller and softened
_BENDS, _BEND_SIZE = 16, 1.2  # in a side; pixels (standard deviation): the elastic transform of α 50 and σ 7

#: Where the face is in a crop of 1.3 times its box, in sides; means and spreads of YuNet's landmarks on 40 portraits.
#: Crops aligned to five points as DeepfakeBench's have it lower, so the eyes' height has a range.
_EYES_Y, _CENTRE_X = (0.40, 0.46), (0.46, 0.54)
_EYES_TO_MOUTH = (0.26, 0.29)
#: Of a face, in distances from eyes to mouth: half its width, and how far chin, hairline and brows are from the eyes.
_HALF_WIDTH, _CHIN, _HAIRLINE, _BROWS = 1.1, 1.75, 0.85, 0.4


def self_blended(real: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A real and its self-blended fake. They are equal where the mask is 0.

    Args:
        real: (3, S, S) uint8, a crop with the face in the middle.
        rng: of this image alone.

    Returns:
        Two of (3, S, S) uint8. The first is ``real`` itself, or a recoloured one where the target was changed.
    """
    image = real.numpy().astype(np.float32)
    changed = _sharpness_changed(_recoloured(image, rng), rng)
    source, target = (changed, image) if rng.random() < 0.5 else (image, changed)
    zoom = rng.uniform(0.95, 1 / 0.95, 2).astype(np.float32)
    shift = (rng.uniform(-1, 1, 2) * (0.03, 0.015)).astype(np.float32)
    mask = _mask(image.shape[-1], zoom, shift, rng)
    blend = target + mask * (_moved(source, zoom, shift) - target)
    return _levels(target), _levels(blend)


def _recoloured(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Three shifts of up to 20 levels, with probability 0.3; contrast and brightness by up to a tenth."""
    shifts = rng.uniform(-20, 20, (3, 1, 1)).astype(np.float32)
    if rng.random() < 0.3:
        image = np.clip(image + shifts, 0, 255)
    contrast, brightness = rng.uniform(-0.1, 0.1, 2)
    return np.clip(image * np.float32(1 + contrast) + np.float32(255 * brightness), 0, 255)


def _sharpness_changed(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Every second or fourth pixel, enlarged again; or sharpened."""
    if rng.random() < 0.5:
        step = rng.choice([2, 4])
        small = torch.from_numpy(image[None, :, ::step, ::step].copy())
        return F.interpolate(small, image.shape[1:], mode="bilinear")[0].numpy()
    share, lightness = rng.uniform(0.2, 0.5), rng.uniform(0.5, 1.0)
    # a kernel of -1 around 8 + lightness: the pixel, less the sum of the nine around it
    edges = (9 + lightness) * image - 9 * ndimage.uniform_filter(image, (0, 3, 3))
    return np.clip(image + np.float32(share) * (edges - image), 0, 255)


def _moved(image: np.ndarray, zoom: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Enlarged about the middle by ``zoom`` and moved by ``shift`` sides, each (across, down); edges reflect."""
    theta = torch.zeros(1, 2, 3)
    theta[0, [0, 1], [0, 1]] = torch.from_numpy(1 / zoom)
    theta[0, :, 2] = torch.from_numpy(-2 * shift / zoom)  # torch's side is 2 long
    pixels = torch.from_numpy(image)[None]
    grid = F.affine_grid(theta, list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)[0].numpy()


def _mask(side: int, zoom: np.ndarray, shift: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(S, S) float32 in [0, 1]: the face's oval moved as the source, bent, made smaller, softened and lowered."""
    lattice = rng.standard_normal((1, 2, _BENDS, _BENDS)).astype(np.float32) * np.float32(_BEND_SIZE / _SIDE)
    bent = F.interpolate(torch.from_numpy(lattice), (side, side), mode="bicubic")[0].numpy()
    place = (np.arange(side, dtype=np.float32) + 0.5) / side
    x = (place[None, :] - 0.5 - shift[0]) / zoom[0] + 0.5 + bent[0]
    y = (place[:, None] - 0.5 - shift[1]) / zoom[1] + 0.5 + bent[1]
    inside = _oval(x, y, rng).astype(np.float32)
    scale = side / rng.integers(192, 257, 2)  # down, across
    smaller, softer = rng.choice(_KERNELS, 2)
    sigma = rng.integers(5, 46)
    inside = ndimage.minimum_filter(inside, [_odd(smaller * part) for part in scale])
    for axis in (0, 1):
        width = _odd(softer * scale[axis])
        at = np.arange(width) - width // 2
        weights = np.exp(-0.5 * np.square(at / (sigma * scale[axis])))
        inside = ndimage.correlate1d(inside, weights / weights.sum(), axis, mode="constant")
    return inside * np.float32(rng.choice(_RATIOS) / max(inside.max(), 1e-6))


def _oval(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Which points (in sides) are in the face: down to the chin, up to the hairline, or to the brows in a quarter."""
    unit = rng.uniform(*_EYES_TO_MOUTH)
    across = (x - rng.uniform(*_CENTRE_X)) / (unit * _HALF_WIDTH)
    down = (y - rng.uniform(*_EYES_Y)) / unit
    top = _BROWS if rng.random() < 0.25 else _HAIRLINE
    middle = (_CHIN - top) / 2
    return across**2 + ((down - middle) / (middle + top)) ** 2 < 1


def _odd(length: float) -> int:
    return max(1, 2 * round((length - 1) / 2) + 1)


def _levels(image: np.ndarray) -> Tensor:
    return torch.from_numpy(np.rint(image).clip(0, 255).astype(np.uint8))
