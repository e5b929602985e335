"""What decides the pixels of a manipulated photograph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from datasets_ext.prepare.options import CropOptions, Options
from roga_domainbed.errors import unknown_name

#: ``--compression``, as FaceForensics++ names it → H.264's constant rate factor; None leaves the pixels as they are.
RATE_FACTORS = {"none": None, "c23": 23, "c40": 40}


@dataclass(frozen=True)
class BlendOptions(Options):
    """Crop and manipulate photographs; see ``prepare.options.Options``.

    Attributes:
        n_frames: frames made of each photograph: the photograph itself, then slightly moved copies.
        size: side of the square crop, in pixels.
        margin: side of the square cut out, as a multiple of the longer side of the face's box.
        compression: a key of ``RATE_FACTORS``.
        seed: of everything random.
    """

    n_frames: int = 4
    size: int = 256
    margin: float = 1.3
    compression: str = "none"
    seed: int = 0

    MAKER: ClassVar[str] = "datasets_ext.selfblend.blender:Blender"
    NEEDS: ClassVar[tuple[str, ...]] = ("av", "cv2")

    def problems(self) -> list[str]:
        """See ``prepare.options.Options``."""
        found = CropOptions(self.n_frames, self.size, self.margin).problems()
        if self.compression not in RATE_FACTORS:
            found.append(unknown_name("compression", self.compression, RATE_FACTORS))
        elif self.compression != "none" and self.size % 2:
            found.append(f"--size must be even for H.264 (--compression {self.compression}); got {self.size}")
        if self.size < 32:
            found.append(f"--size must be at least 32 for the manipulations to show; got {self.size}")
        return found
