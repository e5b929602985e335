"""Carry out what was drawn: geometry and compression on bytes, colour and normalization on floats.

The two halves are apart because the second can run on a GPU, and the bytes that travel there are a quarter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from roga_domainbed.input.augmentation import colour, degrade
from roga_domainbed.input.augmentation.draws import JITTERS, Draws
from roga_domainbed.input.augmentation.geometry import crop_resize
from roga_domainbed.input.augmentation.spec import Recipe

_OPERATIONS = (colour.brightness, colour.contrast, colour.saturation, colour.hue)


def to_bytes(images: Sequence[Tensor], draws: Draws, recipe: Recipe) -> Tensor:
    """(B, 3, side, side) uint8: cut, resized, mirrored and ``degraded``.

    Args:
        images: B images (H, W, 3) uint8.
        draws: B rows.
        recipe: of the environment.
    """
    return degraded(crop_resize(images, draws.boxes, draws.flip, recipe.side), draws)


def degraded(pixels: Tensor, draws: Draws) -> Tensor:
    """``pixels``, (B, 3, side, side) uint8, blurred, tinted, exposed and compressed in place."""
    for i in np.flatnonzero(draws.blur):
        pixels[i] = degrade.blur(pixels[i], int(draws.blur[i]))
    for i in np.flatnonzero(draws.sigma):
        pixels[i] = degrade.smooth(pixels[i], float(draws.sigma[i]))
    for i in np.flatnonzero(draws.tint.any(axis=1)):
        shift = torch.from_numpy(draws.tint[i]).view(3, 1, 1)
        pixels[i] = pixels[i].float().add_(shift).round_().clamp_(0, 255).byte()
    for i in np.flatnonzero((draws.exposure != (1, 0)).any(axis=1)):
        factor, summand = draws.exposure[i].tolist()
        pixels[i] = pixels[i].float().mul_(factor).add_(255 * summand).round_().clamp_(0, 255).byte()
    for i in np.flatnonzero(draws.jpeg):
        pixels[i] = degrade.jpeg(pixels[i], int(draws.jpeg[i]))
    return pixels


def resized(images: Sequence[Tensor], boxes: np.ndarray, side: int) -> Tensor:
    """(B, 3, side, side) uint8, the parts of the images in their boxes and nothing else done to them."""
    return crop_resize(images, boxes, np.zeros(len(images), bool), side)


def to_input(pixels: Tensor, draws: Draws | None, recipe: Recipe) -> Tensor:
    """(B, 3, side, side) float32, jittered, grey where drawn, and normalized, on the device of ``pixels``.

    Args:
        pixels: (B, 3, side, side) of levels 0 to 255, uint8 or float.
        draws: B rows; None for evaluation.
        recipe: of the environment.
    """
    x = torch.empty(pixels.shape, dtype=torch.float32, device=pixels.device)
    if pixels.device.type == "cpu":
        levels, images = pixels.numpy(), x.numpy()
        for i in range(len(images)):  # one image at a time stays in the processor's cache
            images[i] = levels[i]
            _finish(images[i : i + 1], draws, np.array([i]), recipe)
    else:
        x.copy_(pixels)
        _finish(x, draws, np.arange(len(pixels)), recipe)
    return x


def _finish(x: Any, draws: Draws | None, rows: np.ndarray, recipe: Recipe) -> None:
    """Turn levels into network input in place; ``rows`` of the draws belong to ``x``, of numpy or torch."""
    mean, std = (_constant(x, values) for values in (recipe.mean, recipe.std))
    if draws is None or (draws.order is None and not draws.gray[rows].any()):
        x *= 1 / (255 * std)
        x -= mean / std
        return
    x *= 1 / 255
    if draws.order is not None:
        _jitter(x, draws, rows)
    for i in np.flatnonzero(draws.gray[rows]).tolist():
        colour.grayscale(x[i : i + 1])
    x -= mean
    x *= 1 / std


def _jitter(x: Any, draws: Draws, rows: np.ndarray) -> None:
    order = draws.order[rows]
    for position in range(len(JITTERS)):
        for k, (name, operation) in enumerate(zip(JITTERS, _OPERATIONS, strict=True)):
            chosen = np.flatnonzero(order[:, position] == k)
            if not len(chosen):
                continue
            factors = draws.factors[name][rows[chosen]]
            if len(x) == 1:
                operation(x, float(factors[0]))
                continue
            at = torch.from_numpy(chosen).to(x.device)
            factor = torch.from_numpy(factors).to(x.device).view(-1, 1, 1, 1)
            x.index_copy_(0, at, operation(x.index_select(0, at), factor))


def _constant(x: Any, values: tuple[float, ...]) -> Any:
    constant = np.array(values, np.float32).reshape(1, -1, 1, 1)
    return constant if isinstance(x, np.ndarray) else torch.from_numpy(constant).to(x.device)
