"""One video to one folder of face crops, which appears whole or not at all."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from datasets_ext.prepare.align import aligned_face
from datasets_ext.prepare.clips import Clip, CropOptions, Outcome, frame_name
from datasets_ext.prepare.crop import face_crop, largest_face
from datasets_ext.prepare.detectors import Detector
from datasets_ext.prepare.images import present_images, read_rgb, spaced
from datasets_ext.prepare.masks import ForgedRegions
from datasets_ext.prepare.parts import put_in_place, renew
from datasets_ext.prepare.sampling import spaced_indices
from datasets_ext.prepare.video import UnreadableVideo, frame_counts, visit_frames
from roga_domainbed.registry import load

_PARAMETERS = {".png": [], ".jpg": [cv2.IMWRITE_JPEG_QUALITY, 95]}


class Cropper:
    """The maker of ``CropOptions``: holds the detector between clips."""

    def __init__(self, options: CropOptions, detector: str):
        self._options = options
        self._detector = load(detector)()

    def __call__(self, clip: Clip, root: Path, staging: Path) -> Outcome:
        """``crop_clip`` with them."""
        return crop_clip(clip, self._options, self._detector, root, staging)


def crop_clip(clip: Clip, options: CropOptions, detector: Detector, root: Path, staging: Path) -> Outcome:
    """Write the crops of ``clip`` to ``root / clip.folder``.

    They are written below ``staging`` first, on the same file system, and the folder is renamed when all are
    there. The target must not exist. A fault of the video is an outcome; a fault of the disk is an ``OSError``.
    """
    try:
        size = clip.source_bytes()
        empty = clip.frames is None and not clip.source.stat().st_size
    except FileNotFoundError:
        return Outcome(clip.key, clip.folder, reason="missing")
    except OSError as error:  # a link to itself, a folder that may not be entered
        return Outcome(clip.key, clip.folder, reason="unreadable", detail=error.strerror or str(error))
    if empty:
        return Outcome(clip.key, clip.folder, reason="empty")
    part = staging / clip.key
    write = _crop_video if clip.frames is None else _crop_images
    try:
        outcome = write(clip, size, options, detector, part)
    except UnreadableVideo as error:
        return Outcome(clip.key, clip.folder, size, reason="unreadable", detail=str(error))
    return put_in_place(outcome, part, root)


class _Faces:
    """The crops of one clip: those written, and the frames that had none."""

    def __init__(
        self,
        folder: Path,
        options: CropOptions,
        detector: Detector,
        regions: ForgedRegions | None = None,
    ):
        self.written: list[int] = []
        self.dropped: list[tuple[int, str]] = []
        self._folder = folder
        self._options = options
        self._detector = detector
        self._regions = regions

    def visit(self, index: int, rgb: np.ndarray) -> None:
        """Find the face in a frame, cut it out and write it."""
        faces = self._detector.detect(rgb)
        if self._regions is None:
            face, reason = largest_face(faces), "no_face"
        else:
            face, reason = self._regions.choose(index, faces, rgb.shape)
        if face is None:
            self.dropped.append((index, reason))
            return
        suffix = f".{self._options.image_format}"
        _write_image(self._folder / frame_name(index, suffix), self._cut(rgb, face))
        self.written.append(index)

    def _cut(self, rgb: np.ndarray, face: np.ndarray) -> np.ndarray:
        margin, size = self._options.margin, self._options.size
        if self._options.align:
            return aligned_face(rgb, face[5:15].reshape(5, 2), margin, size)
        return face_crop(rgb, face, margin, size)

    def outcome(self, clip: Clip, size: int, n_declared: int, n_decoded: int, reason: str = "") -> Outcome:
        """What came of the clip; without a reason of its own it has that of its first frame, if none was written."""
        if not reason and not self.written:
            reason = self.dropped[0][1]
        return Outcome(
            clip.key,
            clip.folder,
            size,
            n_declared,
            n_decoded,
            tuple(sorted((*self.written, *(index for index, _ in self.dropped)))),
            () if reason else tuple(self.written),
            tuple(sorted(self.dropped)),
            reason,
            suffix=f".{self._options.image_format}",
        )


def _crop_video(clip: Clip, size: int, options: CropOptions, detector: Detector, part: Path) -> Outcome:
    n_declared, count = frame_counts(clip.source)
    n_present = count
    while True:
        renew(part)
        planned = spaced_indices(count, options.n_frames)
        regions = _regions(clip, planned)
        faces = _Faces(part, options, detector, regions)
        n_decoded = visit_frames(clip.source, planned, faces.visit)
        if n_decoded == count:
            break
        # Fewer (or more) frames decode than there are packets, so the plan ended in the wrong place.
        # Decoding is deterministic: a second pass, planned with the true count, ends right.
        count = n_decoded
    if n_decoded == 0:
        reason = "unreadable"
    elif 2 * n_decoded < max(n_declared, n_present):
        reason = "truncated"
    else:
        reason = ""
    return faces.outcome(clip, size, n_declared, n_decoded, reason)


def _regions(clip: Clip, planned: list[int]) -> ForgedRegions | None:
    if clip.mask is None:
        return None
    regions = ForgedRegions(clip.mask, planned)
    return regions if regions.n_frames else None


def _crop_images(clip: Clip, size: int, options: CropOptions, detector: Detector, part: Path) -> Outcome:
    renew(part)
    faces = _Faces(part, options, detector)
    present, absent = present_images(clip)
    faces.dropped += absent
    for index, path in spaced(present, options.n_frames):
        rgb = read_rgb(path)
        if rgb is None:
            faces.dropped.append((index, "unreadable"))
        else:
            faces.visit(index, rgb)
    n_frames = len(clip.frames or ())
    return faces.outcome(clip, size, n_frames, n_frames, "" if n_frames else "no_frames")


def _write_image(path: Path, rgb: np.ndarray) -> None:
    _, data = cv2.imencode(path.suffix, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), _PARAMETERS[path.suffix])
    path.write_bytes(data)
