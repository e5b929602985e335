"""Image files: which files are images, and how one is read."""

from __future__ import annotations

import os

from PIL import Image, UnidentifiedImageError

from roga_domainbed.errors import RogaError

#: Suffixes of what counts as an image, in lower case; other files are passed over.
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


class UnreadableImage(RogaError):
    """A file with an image's name that cannot be decoded.

    Attributes:
        path: the file; None where the error crossed a loader process, because torch carries the text alone.
    """

    def __init__(self, message: str, path: str | None = None):
        super().__init__(message)
        self.path = path


def read_image(path: str) -> Image.Image:
    """The image in ``path``, decoded whole, as RGB; ``UnreadableImage`` if it is damaged or none."""
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except MemoryError:
        raise
    except Exception as error:  # each of PIL's decoders fails in a way of its own, SyntaxError included
        reason = str(error) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            reason = "it is in no image format" if os.path.getsize(path) else "it is empty"
        raise UnreadableImage(
            f"cannot read the image {path!r} ({reason}): remove it or put a good copy in its place", path
        ) from None


def images_below(folder: str) -> list[str]:
    """All images below ``folder``; folders are sorted as whole paths and files by name, as torchvision does."""
    found = []
    for where, folders, files in os.walk(folder, onerror=_raise, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        images = [
            name for name in files if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")
        ]
        found.append((where, sorted(images)))
    return [os.path.join(where, name) for where, names in sorted(found) for name in names]


def _raise(error: OSError) -> None:
    # os.walk would pass over a folder that may not be read, and its images with it.
    raise error
