"""What decides the files that are made: how many frames, and how faces are cut out of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from datasets_ext.prepare.detectors import DETECTORS
from roga_domainbed.errors import unknown_name

IMAGE_FORMATS = ("png", "jpg")


class Options:
    """The base of frozen dataclasses: two runs whose options differ must not share a folder.

    Attributes:
        n_frames: the most frames of each video, evenly spaced.
        MAKER: ``"module:Class"`` that does the work. ``Class(*options.arguments())`` is made once in each worker
            process; ``maker(video, folder)`` writes the frames of one video into an empty folder and returns its
            ``Outcome``.
        NEEDS: modules that must be installed for it.
    """

    n_frames: int
    MAKER: ClassVar[str]
    NEEDS: ClassVar[tuple[str, ...]]

    def problems(self) -> list[str]:
        """A sentence for each value out of range, with the names of the command line."""
        return [] if self.n_frames >= 1 else [f"--n_frames must be at least 1; got {self.n_frames}"]

    def arguments(self) -> tuple:
        """What the maker is made with; it is sent to the worker processes."""
        return (self,)


@dataclass(frozen=True)
class CropOptions(Options):
    """Find faces and cut them out.

    Attributes:
        n_frames: the most frames of each video, evenly spaced.
        size: side of the square crop, in pixels.
        margin: side of the square cut out, as a multiple of the longer side of the face's box; for aligned faces, of
            the square of the landmark template.
        detector: a name of ``detectors.DETECTORS``.
        align: turn, scale and shift the face so that its five landmarks lie where the template has them.
        image_format: png, which is lossless, or jpg of quality 95, a fifth of the size.
        min_score: the detector's score from which on a face counts; None becomes the detector's own, if it has one.
    """

    n_frames: int = 32
    size: int = 256
    margin: float = 1.3
    detector: str = "yunet"
    align: bool = False
    image_format: str = "png"
    min_score: float | None = None

    MAKER: ClassVar[str] = "datasets_ext.prepare.faces:Cropper"
    NEEDS: ClassVar[tuple[str, ...]] = ("av", "cv2")

    def __post_init__(self):
        if self.min_score is None and self.detector in DETECTORS:
            object.__setattr__(self, "min_score", DETECTORS.get(self.detector).min_score)

    def problems(self) -> list[str]:
        """See ``Options``."""
        found = super().problems()
        if not 8 <= self.size <= 4096:
            found.append(f"--size must be a side in pixels from 8 to 4096; got {self.size}")
        if not (math.isfinite(self.margin) and 1 <= self.margin <= 5):
            found.append(f"--margin must be from 1 (the box of the face) to 5; got {self.margin:g}")
        if self.min_score is not None and not math.isfinite(self.min_score):
            found.append(f"--min_score must be a number; got {self.min_score}")
        if self.image_format not in IMAGE_FORMATS:
            found.append(unknown_name("image format", self.image_format, IMAGE_FORMATS))
        if self.detector not in DETECTORS:
            found.append(unknown_name("detector", self.detector, DETECTORS.names()))
        elif self.align and not DETECTORS.get(self.detector).landmarks:
            able = [info.name for info in DETECTORS if info.landmarks]
            found.append(
                f"--align needs a detector that finds landmarks ({', '.join(able)}); {self.detector} finds boxes only"
            )
        return found

    def arguments(self) -> tuple:
        """The options, and the detector's target: a detector registered in this process is unknown in the workers."""
        return self, DETECTORS.get(self.detector).target


def completed(options: dict[str, Any]) -> dict[str, Any]:
    """Options that were read from a journal or a report; those of version 0.1.0 lack ``min_score``."""
    if "detector" not in options or "min_score" in options:
        return options
    detector = options["detector"]
    known = isinstance(detector, str) and detector in DETECTORS
    before = 0.7 if detector == "yunet" else DETECTORS.get(detector).min_score if known else None
    return {**options, "min_score": before}
