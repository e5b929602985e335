"""One video to one folder of face crops, which appears whole or not at all."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from datasets_ext.prepare import tracks
from datasets_ext.prepare.align import aligned_face
from datasets_ext.prepare.clips import Clip, CropOptions, Outcome, frame_name
from datasets_ext.prepare.crop import by_size, face_crop
from datasets_ext.prepare.detectors import Detector
from datasets_ext.prepare.images import present_images, read_rgb, spaced
from datasets_ext.prepare.masks import ForgedRegions
from datasets_ext.prepare.parts import put_in_place, renew
from datasets_ext.prepare.video import UnreadableVideo, visit_spaced_frames
from roga_domainbed.catalog.registry import load

_PARAMETERS = {"png": [], "jpg": [cv2.IMWRITE_JPEG_QUALITY, 95]}
_MAX_FACES = 4  # that a frame keeps until it is known whom the video is of
_MIN_AREA = 0.25  # of the largest face's box: a face in the background is nobody's video


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


class VideoFaces:
    """The crops of one video, held back until all frames are seen, and the frames that have none.

    Attributes:
        dropped: (index, key of ``FRAME_REASONS``) of frames without a face.
    """

    def __init__(self, options: CropOptions, detector: Detector, regions: ForgedRegions | None = None):
        self.dropped: list[tuple[int, str]] = []
        self._options = options
        self._detector = detector
        self._regions = regions
        self._found: list[tuple[int, np.ndarray, list[bytes]]] = []  # index, faces, their files

    def visit(self, index: int, rgb: np.ndarray) -> None:
        """Find the faces in a frame and cut them out; which one counts, ``chosen`` decides."""
        faces = by_size(self._detector.detect(rgb))
        if self._regions is not None:
            face, reason = self._regions.choose(index, faces, rgb.shape)
            faces = faces[:0] if face is None else face[None]
        else:
            reason = "no_face"
            faces = [face for face in faces if face[2] * face[3] >= _MIN_AREA * faces[0][2] * faces[0][3]]
            faces = np.array(faces[:_MAX_FACES])
        if not len(faces):
            self.dropped.append((index, reason))
            return
        self._found.append((index, faces, [encoded_face(rgb, face, self._options) for face in faces]))

    def chosen(self) -> list[tuple[int, np.ndarray, bytes]]:
        """Of each frame that has one, the face of the person that the video is of: index, face, image file."""
        numbers = tracks.choose([faces for _, faces, _ in self._found])
        return [
            (index, faces[number], files[number])
            for (index, faces, files), number in zip(self._found, numbers, strict=True)
        ]


def encoded_face(rgb: np.ndarray, face: np.ndarray, options: CropOptions) -> bytes:
    """The image file of one face.

    Args:
        rgb: (H, W, 3) uint8.
        face: of that picture, as a ``Detector`` gives it.
        options: how to cut it out, and the file's format.
    """
    if options.align:
        crop = aligned_face(rgb, face[5:15].reshape(5, 2), options.margin, options.size)
    else:
        crop = face_crop(rgb, face, options.margin, options.size)
    image_format = options.image_format
    _, data = cv2.imencode(
        f".{image_format}", cv2.cvtColor(crop, cv2.COLOR_RGB2BGR), _PARAMETERS[image_format]
    )
    return data.tobytes()


def _written(
    faces: VideoFaces,
    part: Path,
    clip: Clip,
    size: int,
    options: CropOptions,
    n_declared: int,
    n_decoded: int,
    reason: str,
) -> Outcome:
    """Write the crops, and say what came of the clip.

    Without a reason why nothing is written it has that of its first frame, if no frame has a face.
    """
    suffix = f".{options.image_format}"
    chosen = faces.chosen()
    if not reason and not chosen:
        reason = faces.dropped[0][1]
    if not reason:
        for index, _, data in chosen:
            _write(part / frame_name(index, suffix), data)
    indices = [index for index, _, _ in chosen]
    return Outcome(
        clip.key,
        clip.folder,
        size,
        n_declared,
        n_decoded,
        tuple(sorted((*indices, *(index for index, _ in faces.dropped)))),
        () if reason else tuple(indices),
        tuple(sorted(faces.dropped)),
        reason,
        suffix=suffix,
    )


def _crop_video(clip: Clip, size: int, options: CropOptions, detector: Detector, part: Path) -> Outcome:
    def begin(planned: list[int]) -> VideoFaces:
        renew(part)
        return VideoFaces(options, detector, _regions(clip, planned))

    faces, decoded = visit_spaced_frames(clip.source, options.n_frames, begin)
    if decoded.count == 0:
        reason = "unreadable"
    else:
        reason = "truncated" if decoded.is_truncated else ""
    return _written(faces, part, clip, size, options, decoded.n_declared, decoded.count, reason)


def _regions(clip: Clip, planned: list[int]) -> ForgedRegions | None:
    if clip.mask is None:
        return None
    regions = ForgedRegions(clip.mask, planned)
    return regions if regions.n_frames else None


def _crop_images(clip: Clip, size: int, options: CropOptions, detector: Detector, part: Path) -> Outcome:
    renew(part)
    faces = VideoFaces(options, detector)
    present, absent = present_images(clip)
    faces.dropped += absent
    for index, path in spaced(present, options.n_frames):
        rgb = read_rgb(path)
        if rgb is None:
            faces.dropped.append((index, "unreadable"))
        else:
            faces.visit(index, rgb)
    n_frames = len(clip.frames or ())
    reason = "" if n_frames else "no_frames"
    return _written(faces, part, clip, size, options, n_frames, n_frames, reason)


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
