"""What happens to pictures on their way to a detector: seven corruptions in five strengths.

Their strengths are those of ImageNet-C: Hendrycks and Dietterich, Benchmarking Neural Network Robustness to Common
Corruptions and Perturbations, arXiv:1903.12261, and the authors' code. Two differ. ``resize`` has the scales of its
*pixelate*, and interpolates as programs do, without visible blocks. ``h264``, which it lacks, has the two qualities of
FaceForensics++ (arXiv:1901.08971), c23 and c40, and three around them; DeeperForensics-1.0 (arXiv:2001.03024) has CRFs
of 30 to 40. ImageNet-C's images are 224 pixels wide: a smaller crop loses more to the same blur or JPEG.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from importlib.util import find_spec

import numpy as np
import torch
from PIL import Image

from roga_domainbed.errors import MissingExtra, Problems, RogaError, unknown_name
from roga_domainbed.input.augmentation import degrade

STRENGTHS = (1, 2, 3, 4, 5)

#: From (H, W, 3) uint8, a parameter and a generator to (H, W, 3) uint8.
Corrupt = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Corruption:
    """One kind of damage.

    Attributes:
        name: on the command line.
        parameter: what its numbers are.
        values: the parameter at each of ``STRENGTHS``.
        function: does it.
        note: what a reader should know, after the numbers.
    """

    name: str
    parameter: str
    values: tuple[float, ...]
    function: Corrupt
    note: str = ""

    def __call__(self, image: np.ndarray, strength: int, rng: np.random.Generator) -> np.ndarray:
        """The damaged image.

        Args:
            image: (H, W, 3) uint8.
            strength: one of ``STRENGTHS``, or 0, which changes nothing.
            rng: for ``noise``; the same one gives every strength the same noise, larger or smaller.
        """
        return image if strength == 0 else self.function(image, self.values[strength - 1], rng)

    def describe(self) -> str:
        """What the strengths are, in words."""
        numbers = ", ".join(f"{value:g}" for value in self.values)
        return f"{self.parameter} {numbers}" + (f" ({self.note})" if self.note else "")


def jpeg(image: np.ndarray, quality: float, rng: np.random.Generator) -> np.ndarray:
    """Compressed as JPEG, with libjpeg's quality."""
    return _to_array(degrade.jpeg(_to_tensor(image), int(quality)))


def h264(image: np.ndarray, crf: float, rng: np.random.Generator) -> np.ndarray:
    """Compressed by x264 with a constant rate factor, as a clip of this one frame: 4:2:0, preset medium.

    A lone frame has no other to be predicted from. In a video, most frames are, and are damaged more. An odd side gets
    its last line once more, and loses it afterwards.
    """
    import av

    height, width = image.shape[:2]
    even = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    encoder = av.CodecContext.create("libx264", "w")
    encoder.height, encoder.width = even.shape[:2]
    encoder.pix_fmt, encoder.framerate, encoder.time_base = "yuv420p", 25, Fraction(1, 25)
    encoder.thread_count = 1
    encoder.options = {"crf": f"{crf:g}", "preset": "medium"}
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
    frame.pts = 0
    packets = [*encoder.encode(frame), *encoder.encode(None)]
    decoder = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    (decoded,) = [found for packet in [*packets, None] for found in decoder.decode(packet)]
    return decoded.to_ndarray(format="rgb24")[:height, :width]


def blur(image: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian blur of ``sigma`` pixels."""
    return _to_array(degrade.smooth(_to_tensor(image), sigma))


def noise(image: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Independent Gaussian noise on every level, of ``sigma`` times 255."""
    drawn = rng.standard_normal(image.shape, dtype=np.float32)
    return _levels(image + np.float32(255 * sigma) * drawn)


def resize(image: np.ndarray, scale: float, rng: np.random.Generator) -> np.ndarray:
    """Made smaller to ``scale`` of its sides and then as large as before, bilinearly as Pillow does."""
    height, width = image.shape[:2]
    smaller = max(1, int(width * scale)), max(1, int(height * scale))
    bilinear = Image.Resampling.BILINEAR
    return np.array(Image.fromarray(image).resize(smaller, bilinear).resize((width, height), bilinear))


def brightness(image: np.ndarray, summand: float, rng: np.random.Generator) -> np.ndarray:
    """HSV's value, which is the largest level of a pixel, plus ``summand`` times 255, at most 255."""
    value = image.max(axis=2, keepdims=True).astype(np.float32)
    brighter = np.minimum(value + 255 * summand, 255)
    # a black pixel has no hue: it becomes grey
    return _levels(np.where(value > 0, image * (brighter / np.maximum(value, 1)), brighter))


def contrast(image: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    """The distance of each level from the mean of its colour in the image, times ``factor``."""
    mean = image.mean(axis=(0, 1), dtype=np.float64).astype(np.float32)
    return _levels((image - mean) * np.float32(factor) + mean)


CORRUPTIONS = {
    row.name: row
    for row in (
        Corruption("jpeg", "quality", (25, 18, 15, 10, 7), jpeg),
        Corruption("h264", "CRF", (18, 23, 28, 34, 40), h264, "23 and 40 as in FaceForensics++; one frame"),
        Corruption("blur", "sigma", (1, 2, 3, 4, 6), blur, "pixels"),
        Corruption("noise", "sigma", (0.08, 0.12, 0.18, 0.26, 0.38), noise, "of the range of levels"),
        Corruption("resize", "scale", (0.6, 0.5, 0.4, 0.3, 0.25), resize, "down and up again"),
        Corruption("brightness", "plus", (0.1, 0.2, 0.3, 0.4, 0.5), brightness, "of the range of levels"),
        Corruption("contrast", "times", (0.4, 0.3, 0.2, 0.1, 0.05), contrast),
    )
}  # fmt: skip


def chosen(names: Sequence[str]) -> list[Corruption]:
    """The corruptions called ``names``, all for none.

    Raises:
        RogaError: unknown ones; a package is missing.
    """
    problems = Problems()
    for name in names:
        if name not in CORRUPTIONS:
            problems.add(unknown_name("corruption", name, CORRUPTIONS))
    problems.check()
    found = [CORRUPTIONS[name] for name in dict.fromkeys(names or CORRUPTIONS)]
    if CORRUPTIONS["h264"] in found:
        _require_x264()
    return found


def _require_x264() -> None:
    if find_spec("av") is None:
        raise MissingExtra("av", "prepare", "the corruption h264")
    import av

    if "libx264" not in av.codecs_available:
        raise RogaError(
            "the corruption h264 needs libx264, which this PyAV was built without: name the others"
        )


def _levels(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _to_tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)


def _to_array(image: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(image.permute(1, 2, 0).numpy())
