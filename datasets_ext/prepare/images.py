"""Videos that come as image files, one a frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from datasets_ext.prepare.layout import Video
from roga_domainbed.input.image_files import UnreadableImage, read_image


def present_images(video: Video) -> tuple[list[tuple[int, Path]], list[tuple[int, str]]]:
    """The images that are there, as (index, path), and the others, as (index, key of ``FRAME_REASONS``)."""
    present, absent = [], []
    for index, path in video.frames or ():
        if not path.is_file():
            absent.append((index, "unreadable" if path.exists() else "missing"))
        elif not path.stat().st_size:
            absent.append((index, "empty"))
        else:
            present.append((index, path))
    return present, absent


def read_rgb(path: Path) -> np.ndarray | None:
    """(H, W, 3) uint8, upright; None if the file is damaged or no image."""
    try:
        return np.asarray(read_image(path))
    except UnreadableImage:
        return None
