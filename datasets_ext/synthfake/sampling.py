"""Interpolation and averaging of arrays, for drawing and manipulation."""

from __future__ import annotations

import numpy as np


def lattice(values: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Smooth noise: a periodic table of random numbers, read bilinearly.

    Args:
        values: (N, N), one number a grid point; the table repeats in both directions.
        x: any shape, in grid cells.
        y: the same shape.
    """
    side = len(values)
    column, row = np.floor(x), np.floor(y)
    dx, dy = x - column, y - row
    left, top = column.astype(np.intp) % side, row.astype(np.intp) % side
    right, bottom = (left + 1) % side, (top + 1) % side
    upper = values[top, left] + dx * (values[top, right] - values[top, left])
    lower = values[bottom, left] + dx * (values[bottom, right] - values[bottom, left])
    return upper + dy * (lower - upper)


def warp(images: np.ndarray, dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """Each pixel reads the image at its own place plus (dx, dy), bilinearly; the border repeats.

    Args:
        images: (F, 3, S, S).
        dx: (F, S, S), in pixels to the right.
        dy: (F, S, S), in pixels downwards.
    """
    frames, channels, size, _ = images.shape
    place = np.arange(size)
    column = np.clip(place[None, None, :] + dx, 0, size - 1)
    row = np.clip(place[None, :, None] + dy, 0, size - 1)
    left = np.minimum(column.astype(np.intp), size - 2)
    top = np.minimum(row.astype(np.intp), size - 2)
    fx, fy = (column - left)[:, None], (row - top)[:, None]
    flat = images.reshape(frames, channels, size * size)
    at = (top * size + left).reshape(frames, 1, size * size)

    def corner(offset: int) -> np.ndarray:
        return np.take_along_axis(flat, at + offset, axis=2).reshape(images.shape)

    upper = corner(0) * (1 - fx) + corner(1) * fx
    lower = corner(size) * (1 - fx) + corner(size + 1) * fx
    return upper * (1 - fy) + lower * fy


def reduce(images: np.ndarray, factor: int) -> np.ndarray:
    """Means over squares of ``factor`` × ``factor`` pixels: (F, 3, S, S) → (F, 3, S / factor, S / factor)."""
    frames, channels, size, _ = images.shape
    small = size // factor
    return images.reshape(frames, channels, small, factor, small, factor).mean(axis=(3, 5))


def enlarge(images: np.ndarray, factor: int) -> np.ndarray:
    """Bilinear enlargement, pixel centres aligned: the inverse of ``reduce`` but for what it lost."""
    return _enlarge_last(_enlarge_last(images, factor).swapaxes(2, 3), factor).swapaxes(2, 3)


def _enlarge_last(images: np.ndarray, factor: int) -> np.ndarray:
    small = images.shape[-1]
    place = np.clip((np.arange(small * factor) + 0.5) / factor - 0.5, 0, small - 1)
    left = np.minimum(place.astype(np.intp), small - 2)
    part = place - left
    return images[..., left] * (1 - part) + images[..., left + 1] * part


def soften(images: np.ndarray) -> np.ndarray:
    """The weights (1, 2, 1) / 4 in both directions: (…, S, S) → (…, S, S); the border repeats."""
    for axis in (-1, -2):
        padding = [(0, 0)] * images.ndim
        padding[axis] = (1, 1)
        padded = np.moveaxis(np.pad(images, padding, mode="edge"), axis, -1)
        images = np.moveaxis((padded[..., :-2] + 2 * padded[..., 1:-1] + padded[..., 2:]) / 4, -1, axis)
    return images
