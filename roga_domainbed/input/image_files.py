"""Image files: which files are images, and the one way to read one. Importing this loads no torch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext

from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from roga_domainbed.errors import RogaError
from roga_domainbed.input.tree import IMAGE_SUFFIXES, files_below

#: Pillow's kinds of damage.
DAMAGE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


class UnreadableImage(RogaError):
    """A file with an image's name that cannot be decoded.

    Attributes:
        path: the file; None if torch's own loader carried the error over from another process, as text alone.
        reason: what is wrong with it.
    """

    def __init__(self, message: str, path: str | None = None, reason: str = ""):
        super().__init__(message)
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple:
        return UnreadableImage, (str(self), self.path, self.reason)


def read_image(
    path: str | os.PathLike,
    *,
    upright: bool = False,
    whole: bool = True,
    remedy: str = "remove it or put a good copy in its place",
) -> Image.Image:
    """The image in ``path``, decoded, as RGB.

    Args:
        path: the file.
        upright: turn the image as its EXIF data say.
        whole: refuse a truncated file. False leaves that to Pillow's setting for the whole process: importing a
            checkout's datasets tells Pillow to fill in what such a file lacks.
        remedy: what to do about an image that cannot be read, for the message.

    Raises:
        UnreadableImage: the file is missing, empty, damaged or no image.
    """
    path = os.fspath(path)
    try:
        with truncated_is_an_error() if whole else nullcontext(), Image.open(path) as image:
            return (ImageOps.exif_transpose(image) if upright else image).convert("RGB")
    except MemoryError:
        raise
    except Exception as error:  # each of PIL's decoders fails in a way of its own, SyntaxError included
        reason = str(error) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            reason = "it is in no image format" if os.path.getsize(path) else "it is empty"
        elif isinstance(error, OSError) and error.strerror:
            reason = error.strerror
        raise UnreadableImage(f"cannot read the image {path!r} ({reason}): {remedy}", path, reason) from None


@contextmanager
def truncated_is_an_error() -> Iterator[None]:
    """Inside, Pillow refuses truncated files, whatever it was told before."""
    before, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


def images_below(folder: str, besides: Iterable[str] = ()) -> list[str]:
    """All images below ``folder``; folders are sorted as whole paths and files by name, as torchvision does.

    Args:
        folder: where to look.
        besides: see ``tree.walk``.

    Raises:
        OSError: a folder cannot be listed.
    """
    return files_below(folder, IMAGE_SUFFIXES, besides)
