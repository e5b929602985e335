"""Videos that come as image files, one a frame."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import numpy as np

from datasets_ext.prepare.clips import Clip
from datasets_ext.prepare.sampling import spaced_indices
from roga_domainbed.input.image_files import UnreadableImage, read_image

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"}

T = TypeVar("T")


def present_images(clip: Clip) -> tuple[list[tuple[int, Path]], list[tuple[int, str]]]:
    """The clip's images that are there, as (index, path), and the others, as (index, key of ``FRAME_REASONS``)."""
    present, absent = [], []
    for index, path in clip.frames or ():
        if not path.is_file():
            absent.append((index, "missing"))
        elif not path.stat().st_size:
            absent.append((index, "empty"))
        else:
            present.append((index, path))
    return present, absent


def spaced(items: list[T], n: int) -> list[T]:
    """``n`` of ``items``, evenly spaced, the first and the last among them."""
    return [items[i] for i in spaced_indices(len(items), n)]


def read_rgb(path: Path) -> np.ndarray | None:
    """(H, W, 3) uint8, upright; None if the file is damaged or no image."""
    try:
        return np.asarray(read_image(path, upright=True))
    except UnreadableImage:
        return None


def is_whole(path: Path) -> bool:
    """Whether all of the image decodes."""
    return read_rgb(path) is not None
