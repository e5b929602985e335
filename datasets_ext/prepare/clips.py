"""The values of preparation: what to make of which video, and what came of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from datasets_ext.prepare.detectors import DETECTORS
from roga_domainbed.errors import unknown_name

#: Why a video gave nothing → what the summary calls it.
REASONS = {
    "missing": "the file is gone or a broken link",
    "empty": "the file has zero bytes",
    "unreadable": "no frame can be decoded",
    "truncated": "less than half of its frames can be decoded",
    "no_frames": "its list of frames is empty",
    "no_face": "no face in any of the chosen frames",
    "no_masked_face": "no face where its mask says that one is forged",
    "several_faces": "more than one face in the photograph",
    "donor": "the photograph that its face would come from cannot be used",
}
#: Why a single frame was left out, of a video that gave others.
FRAME_REASONS = {
    "missing": "the image file is not there",
    "empty": "the image file has zero bytes",
    "unreadable": "the image cannot be decoded",
    "no_face": "no face",
    "no_masked_face": "no face where the mask says that one is forged",
    "mask_ended": "several faces, and the mask ends before this frame",
}
IMAGE_FORMATS = ("png", "jpg")


class Options(Protocol):
    """What decides the files that are made; a frozen dataclass, as two runs that differ in it must not share a folder.

    Attributes:
        n_frames: frames of each video, evenly spaced, at most.
        MAKER: ``"module:Class"`` of what does the work. ``Class(*options.arguments())`` is made once in each worker
            process, and ``maker(clip, root, staging)`` makes the folder of one clip and returns its ``Outcome``.
        NEEDS: modules that must be installed for it.
    """

    n_frames: int
    MAKER: ClassVar[str]
    NEEDS: ClassVar[tuple[str, ...]]

    def problems(self) -> list[str]:
        """One sentence for every value out of range, in the words of the command line."""
        ...

    def arguments(self) -> tuple:
        """What the maker is made with; it goes to the worker processes."""
        ...


@dataclass(frozen=True)
class CropOptions:
    """Faces are looked for and cut out.

    Attributes:
        n_frames: frames of each video, evenly spaced, at most.
        size: side of the square crop that is written, in pixels.
        margin: side of the square cut out, as a multiple of the longer side of the face's box; for aligned faces, of
            the square of the landmark template.
        detector: a name of ``detectors.DETECTORS``.
        align: turn, scale and shift the face so that its five landmarks lie where the template has them.
        image_format: png, which loses nothing, or jpg of quality 95, a fifth of the size.
    """

    n_frames: int = 32
    size: int = 256
    margin: float = 1.3
    detector: str = "yunet"
    align: bool = False
    image_format: str = "png"

    MAKER: ClassVar[str] = "datasets_ext.prepare.faces:Cropper"
    NEEDS: ClassVar[tuple[str, ...]] = ("av", "cv2")

    def problems(self) -> list[str]:
        """One sentence for every value out of range, in the words of the command line."""
        found = []
        if self.n_frames < 1:
            found.append(f"--n_frames must be at least 1; got {self.n_frames}")
        if not 8 <= self.size <= 4096:
            found.append(f"--size must be a side in pixels from 8 to 4096; got {self.size}")
        if not (math.isfinite(self.margin) and 1 <= self.margin <= 5):
            found.append(f"--margin must be from 1 (the box of the face) to 5; got {self.margin:g}")
        if self.image_format not in IMAGE_FORMATS:
            found.append(unknown_name("image format", self.image_format, IMAGE_FORMATS))
        if self.detector not in DETECTORS:
            found.append(unknown_name("detector", self.detector, DETECTORS.names()))
        elif self.align and not DETECTORS.get(self.detector).landmarks:
            able = [info.name for info in DETECTORS if info.landmarks]
            found.append(
                f"--align needs a detector that finds landmarks ({', '.join(able)}); {self.detector} finds boxes alone"
            )
        return found

    def arguments(self) -> tuple:
        """The options and where the detector's class is: registrations of this process are not in the others."""
        return self, DETECTORS.get(self.detector).target


@dataclass(frozen=True)
class Clip:
    """One video to prepare.

    Attributes:
        key: ``"<class>/<video>"``, unique in the dataset, for example ``"Deepfakes/519_515"``.
        source: the video file; for a video that comes as images, something that names them in messages.
        folder: where its crops go, relative to the dataset's folder, with forward slashes.
        frames: (frame index, image file), ascending, of a video that comes as images; None for a video file.
        mask: video of the forged region, frame by frame, where there is one.
        donor: photograph that another face is taken from, of a video that is made from photographs.
    """

    key: str
    source: Path
    folder: str
    frames: tuple[tuple[int, Path], ...] | None = None
    mask: Path | None = None
    donor: Path | None = None

    def source_bytes(self) -> int:
        """Size of all files that it is made from; images that are not there count nothing.

        Raises:
            OSError: if one of the other files cannot be asked, or if none of the images is there.
        """
        if self.frames is not None:
            sizes = [path.stat().st_size for _, path in self.frames if path.is_file()]
            if self.frames and not sizes:
                raise FileNotFoundError(f"no image of {self.key} is there")
            return sum(sizes)
        return sum(path.stat().st_size for path in (self.source, self.mask, self.donor) if path)


@dataclass(frozen=True)
class Outcome:
    """What came of one clip; built-in types only, for it is kept as a line of JSON.

    Attributes:
        key: the clip's key.
        folder: the clip's folder.
        source_bytes: ``Clip.source_bytes``; a clip that has another number is prepared again.
        n_declared: frames that the container announces; 0 where it could not be asked.
        n_decoded: frames that decode.
        planned: indices of the chosen frames.
        written: indices of those that were written.
        dropped: (index, key of ``FRAME_REASONS``) of those that were not.
        reason: a key of ``REASONS`` where nothing was written, else empty.
        detail: the decoder's own words, where it had some.
        suffix: of the written files.
    """

    key: str
    folder: str
    source_bytes: int = 0
    n_declared: int = 0
    n_decoded: int = 0
    planned: tuple[int, ...] = ()
    written: tuple[int, ...] = ()
    dropped: tuple[tuple[int, str], ...] = ()
    reason: str = ""
    detail: str = ""
    suffix: str = ".png"

    def names(self) -> list[str]:
        """The names of the files that were written."""
        return [frame_name(index, self.suffix) for index in self.written]


def frame_name(index: int, suffix: str = ".png") -> str:
    """File name of the frame with that index: four digits, so that names sort as numbers."""
    return f"{index:04d}{suffix}"
