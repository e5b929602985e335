"""The result of preparing one video, and the reasons for which videos and frames are dropped."""

from __future__ import annotations

from dataclasses import dataclass

#: Why a video was dropped → the words of the summary.
REASONS = {
    "missing": "the file is gone or a broken link",
    "empty": "the file has zero bytes",
    "unreadable": "no frame can be decoded",
    "truncated": "less than half of its frames can be decoded",
    "no_frames": "its list of frames is empty",
    "no_face": "no face in any of the chosen frames",
    "no_masked_face": "no face where its mask marks one as forged",
    "low_score": "only faces that the detector is not sure of",
    "several_faces": "more than one face in the photograph",
    "donor": "the photograph of the other face in a swap cannot be used",
}
#: Why a single frame was dropped from a video that was kept.
FRAME_REASONS = {
    "missing": "the image file is not there",
    "empty": "the image file has zero bytes",
    "unreadable": "the image cannot be decoded",
    "no_face": "no face",
    "low_score": "only faces that the detector is not sure of",
    "no_masked_face": "no face where the mask marks one as forged",
    "mask_ended": "several faces, and the mask ends before this frame",
}


@dataclass(frozen=True)
class Outcome:
    """The result of preparing one video. Built-in types only: it is kept as a line of JSON.

    Attributes:
        key: the video's key.
        folder: of its crops, relative to the dataset's folder, with forward slashes; set by ``pool``.
        source_bytes: ``Video.source_bytes``; if that number changes, the video is prepared again.
        n_declared: frames that the container announces; 0 if unknown.
        n_decoded: frames that decode.
        planned: indices of the chosen frames.
        written: indices of the frames that were written.
        dropped: (index, key of ``FRAME_REASONS``) of the frames that were not.
        reason: a key of ``REASONS`` if nothing was written, else empty.
        detail: the decoder's own message, if it had one.
        suffix: of the written files.
        scores: the detector's, of the face in each written frame; empty where none was asked.
        n_low: faces in the chosen frames that were left out for their scores.
    """

    key: str
    folder: str = ""
    source_bytes: int = 0
    n_declared: int = 0
    n_decoded: int = 0
    planned: tuple[int, ...] = ()
    written: tuple[int, ...] = ()
    dropped: tuple[tuple[int, str], ...] = ()
    reason: str = ""
    detail: str = ""
    suffix: str = ".png"
    scores: tuple[float, ...] = ()
    n_low: int = 0

    def names(self) -> list[str]:
        """The names of the files that were written."""
        return [frame_name(index, self.suffix) for index in self.written]


def frame_name(index: int, suffix: str = ".png") -> str:
    """File name of the frame with that index: four digits, so that names sort as numbers."""
    return f"{index:04d}{suffix}"
