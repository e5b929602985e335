"""Image files: the one way to read one, for training, preparing and predicting. Importing this loads no torch."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import cache

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from roga_domainbed.errors import RogaError
from roga_domainbed.foreign import open_regular

# Pillow warns of half the size that it refuses. A photograph of 100 million pixels is nothing to warn of.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)

_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262  # tags of TIFF


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
    whole: bool = True,
    remedy: str = "remove it or put a good copy in its place",
) -> Image.Image:
    """The image in ``path`` as it is to be seen: upright, unmirrored, RGB of 8 bits.

    Of 16 or 12 bits the upper 8 are kept, and alpha is dropped. Refused are numbers whose range the file does not say
    (floating point, signed, 32 bits), Lab, and a file of several pages or frames.

    Args:
        path: the file.
        whole: refuse a truncated file. False leaves that to Pillow's setting for the whole process: importing a
            checkout's datasets tells Pillow to fill in what such a file lacks.
        remedy: what to do about an image that cannot be read, for the message.

    Raises:
        UnreadableImage: the file is missing, empty, damaged, no regular file, no image, too large, or of pixels that
            are refused.
    """
    path = os.fspath(path)
    try:
        with truncated_is_an_error() if whole else nullcontext(), open_image(path) as image:
            if getattr(image, "is_animated", False) and image.format != "MPO":  # a photograph with a preview
                raise _Refused("it has several pages or frames, and one image a file is read")
            image.load()
            # A bit of EXIF that makes no sense says nothing about how the image stands.
            with suppress(Exception):
                ImageOps.exif_transpose(image, in_place=True)
            return as_rgb(image)
    except MemoryError:
        raise
    except Exception as error:  # each of PIL's decoders fails in a way of its own, SyntaxError included
        reason = str(error) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            reason = _why_unidentified(path)
        elif isinstance(error, Image.DecompressionBombError):
            reason = f"it has more than {2 * Image.MAX_IMAGE_PIXELS // 10**6} million pixels, the most that is read"
        elif isinstance(error, OSError) and error.strerror:
            reason = error.strerror
        raise UnreadableImage(f"cannot read the image {path!r} ({reason}): {remedy}", path, reason) from None


@contextmanager
def open_image(path: str | os.PathLike) -> Iterator[Image.Image]:
    """The image in a regular file, its header read and its pixels not.

    Raises:
        OSError: the file cannot be opened, or is not a regular file.
        Exception: any of Pillow's: it is no image.
    """
    with open_regular(path) as file, Image.open(file, formats=_formats()) as image:
        yield image


class _Refused(ValueError):
    """The pixels are of a kind that is not read."""


@cache
def _formats() -> tuple[str, ...]:
    """Pillow's readers that need no other program: it gives PostScript, whatever a file is called, to Ghostscript."""
    Image.init()
    names = "JPEG PNG BMP PPM TIFF WEBP DIB GIF JPEG2000 AVIF TGA".split()
    return tuple(name for name in names if name in Image.OPEN)


def _why_unidentified(path: str) -> str:
    with open_regular(path) as file:
        start = file.read(4)
    if start in (b"II*\0", b"MM\0*"):  # Pillow has a table of the TIFF pixels that it knows
        return "its kind of pixels is not read: save it with 8 bits"
    return "it is in no image format" if start else "it is empty"


def as_rgb(image: Image.Image) -> Image.Image:
    """``image`` in RGB of 8 bits, as ``read_image`` has it; it is not turned, and may be the given one itself.

    Raises:
        Exception: any of Pillow's, or one of ours: the pixels are of a kind that is refused, or cannot be decoded.
    """
    # In another mode, "convert" cuts values off at 255 instead of scaling them.
    if image.mode == "RGB":
        return image.copy() if image.readonly else image
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return _upper_bits(image).convert("RGB")
    if image.mode in ("I", "F"):
        raise _Refused(
            "its pixels are numbers whose range is not known "
            f"({'floating point' if image.mode == 'F' else '32 bits, or signed'}): save it with 8 or 16 bits"
        )
    if image.mode == "LAB":
        raise _Refused("its colours are Lab, of which programs mean different ones: save it as RGB")
    return image.convert("RGB")


def _upper_bits(image: Image.Image) -> Image.Image:
    tags = getattr(image, "tag_v2", {})  # of TIFF alone
    n_bits = tags.get(_BITS_PER_SAMPLE, (16,))[0]
    values = np.asarray(image) >> (n_bits - 8)
    if tags.get(_PHOTOMETRIC) == 0:  # white is zero, and Pillow leaves it so for 16 bits
        values = 255 - values
    return Image.fromarray(values.astype(np.uint8))


@contextmanager
def truncated_is_an_error() -> Iterator[None]:
    """Inside, Pillow refuses truncated files, whatever it was told before."""
    before, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before
