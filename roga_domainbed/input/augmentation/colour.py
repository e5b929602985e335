"""Colour operations of torchvision on batches of float images, of numpy or of torch.

x is (B, 3, H, W) in [0, 1]; a factor is (B, 1, 1, 1), or a number for all. Each works in place and returns x.
torchvision rounds to 256 levels after each step and converts hue by tables of 8 bits; here nothing is rounded until
the end. With a fixed factor the images agree to a level, hue to the error of those tables.

The functions that numpy and torch have in common under one name are all that is used: numpy on a processor, where a
single image stays in cache and no thread pool is woken, torch on a GPU.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import torch

Array = Any
Factor = Any

_LUMA = (0.299, 0.587, 0.114)  # ITU-R 601-2, of PIL's mode L


def brightness(x: Array, factor: Factor) -> Array:
    """``factor · x``."""
    xp = _library(x)
    x *= factor
    return xp.clip(x, 0, 1, out=x)


def contrast(x: Array, factor: Factor) -> Array:
    """Blend with the mean of the grey image."""
    xp = _library(x)
    mean = luma(x).mean(axis=(1, 2, 3))[:, None, None, None]
    x *= factor
    x += mean * (1 - factor)
    return xp.clip(x, 0, 1, out=x)


def saturation(x: Array, factor: Factor) -> Array:
    """Blend with the grey image."""
    xp = _library(x)
    gray = luma(x)
    gray *= 1 - factor
    x *= factor
    x += gray
    return xp.clip(x, 0, 1, out=x)


def hue(x: Array, turns: Factor) -> Array:
    """Turn the hue of HSV, value and saturation kept.

    With the largest channel M, chroma C = M − min and hue h in turns, channel n of HSV is
    ``M − C · clip(2 − 6·d, 0, 1)``, d the distance of h from a whole number of turns after the channel's offset.
    """
    xp = _library(x)
    red, green, blue = x[:, :1], x[:, 1:2], x[:, 2:]
    largest = xp.maximum(xp.maximum(red, green), blue)
    chroma = largest - xp.minimum(xp.minimum(red, green), blue)
    # sixths of a turn times chroma; where two channels are largest both branches agree
    turn = xp.where(largest == green, blue - red + 2 * chroma, red - green + 4 * chroma)
    turn = xp.where(largest == red, green - blue, turn)
    turn /= xp.clip(6 * chroma, 1e-12, None)
    turn += turns
    for channel, sixths in (
        (red, 3),
        (green, 1),
        (blue, -1),
    ):  # HSV's offsets 5, 3, 1 from the wave's centre at 2
        distance = turn + sixths / 6
        distance -= xp.round(distance)
        xp.abs(distance, out=distance)
        distance *= -6
        distance += 2
        xp.clip(distance, 0, 1, out=distance)
        distance *= chroma
        xp.subtract(largest, distance, out=channel)
    return x


def grayscale(x: Array) -> Array:
    """The grey image in all three channels."""
    x[:] = luma(x)
    return x


def luma(x: Array) -> Array:
    """(B, 1, H, W), the grey image."""
    gray = x[:, :1] * _LUMA[0]
    gray += x[:, 1:2] * _LUMA[1]
    gray += x[:, 2:] * _LUMA[2]
    return gray


def _library(x: Array) -> ModuleType:
    return np if isinstance(x, np.ndarray) else torch
