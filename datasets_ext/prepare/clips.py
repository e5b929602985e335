"""The values of preparation: what to cut out, from which video, and what came of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

#: Why a video gave no crops → what the summary calls it.
REASONS = {
    "missing": "the file is gone or a broken link",
    "empty": "the file has zero bytes",
    "unreadable": "no frame can be decoded",
    "truncated": "less than half of its frames can be decoded",
    "no_face": "no face in any of the chosen frames",
    "several_faces": "more than one face in the photograph",
    "donor": "the photograph that the face would come from cannot be used",
}


@dataclass(frozen=True)
class CropOptions:
    """What decides the pixels; two runs that differ here must not share a folder.

    Attributes:
        n_frames: frames of each video, evenly spaced, at most.
        size: side of the square crop that is written, in pixels.
        margin: side of the square cut out, as a multiple of the longer side of the face's box.
        detector: a name of ``detectors.DETECTORS``.
    """

    n_frames: int = 32
    size: int = 256
    margin: float = 1.3
    detector: str = "yunet"

    def problems(self) -> list[str]:
        """One sentence for every value out of range, in the words of the command line."""
        found = []
        if self.n_frames < 1:
            found.append(f"--n_frames must be at least 1; got {self.n_frames}")
        if not 8 <= self.size <= 4096:
            found.append(f"--size must be a side in pixels from 8 to 4096; got {self.size}")
        if not (math.isfinite(self.margin) and 1 <= self.margin <= 5):
            found.append(f"--margin must be from 1 (the box of the face) to 5; got {self.margin:g}")
        return found


@dataclass(frozen=True)
class Clip:
    """One video to prepare.

    Attributes:
        key: ``"<class>/<video>"``, unique in the dataset, for example ``"Deepfakes/519_515"``.
        source: the video file.
        folder: where its crops go, relative to the dataset's folder, with forward slashes.
        companion: a second file that the crops depend on, such as the photograph that a swapped face comes from.
    """

    key: str
    source: Path
    folder: str
    companion: Path | None = None

    def n_bytes(self) -> int:
        """Size of its files; ``OSError`` if one is not there."""
        return sum(path.stat().st_size for path in (self.source, self.companion) if path is not None)


@dataclass(frozen=True)
class Outcome:
    """What came of one clip; built-in types only, for it is kept as a line of JSON.

    Attributes:
        key: the clip's key.
        folder: the clip's folder.
        source_bytes: size of the clip's files; one of another size is prepared again.
        n_declared: frames that the container announces; 0 where it could not be asked.
        n_decoded: frames that decode.
        planned: indices of the chosen frames.
        written: indices of those that have a face and were written.
        reason: a key of ``REASONS`` where nothing was written, else empty.
        detail: the decoder's own words, where it had some.
    """

    key: str
    folder: str
    source_bytes: int = 0
    n_declared: int = 0
    n_decoded: int = 0
    planned: tuple[int, ...] = ()
    written: tuple[int, ...] = ()
    reason: str = ""
    detail: str = ""

    @property
    def dropped(self) -> list[int]:
        """The chosen frames in which no face was found."""
        return sorted(set(self.planned) - set(self.written))


def frame_name(index: int) -> str:
    """File name of the frame with that index: four digits, so that names sort as numbers."""
    return f"{index:04d}.png"
