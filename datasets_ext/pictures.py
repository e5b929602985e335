"""How Pillow fails, for all that read pictures here. Importing this loads no torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, ImageFile

#: Pillow's kinds of damage.
DAMAGE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


@contextmanager
def truncated_is_an_error() -> Iterator[None]:
    """Inside, a truncated file is damaged whatever Pillow was told before.

    Importing upstream's datasets tells it, for the whole process, to fill up what such a file lacks.
    """
    before, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before
