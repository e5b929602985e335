"""One video to its face crops: find faces in the chosen frames, decide whose video it is, cut them out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from datasets_ext.prepare import tracks
from datasets_ext.prepare.align import aligned_face
from datasets_ext.prepare.crop import by_size, face_crop, real_faces
from datasets_ext.prepare.detectors import Detector, sure_of
from datasets_ext.prepare.images import present_images, read_rgb
from datasets_ext.prepare.layout import Video
from datasets_ext.prepare.masks import ForgedRegions
from datasets_ext.prepare.options import CropOptions
from datasets_ext.prepare.outcome import Outcome, frame_name
from datasets_ext.prepare.sampling import spaced
from datasets_ext.prepare.video import UnreadableVideo, visit_spaced_frames
from roga_domainbed.catalog.registry import load
from roga_domainbed.foreign import check_regular

_PARAMETERS = {"png": [], "jpg": [cv2.IMWRITE_JPEG_QUALITY, 95]}
_MAX_FACES = 4  # kept of a frame until it is known whose video it is
_MIN_AREA = 0.25  # of the largest face's box: smaller faces are in the background


class Cropper:
    """The maker of ``CropOptions``: holds the detector between videos."""

    def __init__(self, options: CropOptions, detector: str):
        self._options = options
        self._detector = load(detector)()

    def __call__(self, video: Video, folder: Path) -> Outcome:
        """Write the crops of ``video`` into ``folder``.

        A fault of the video is an outcome; a fault of the disk is an ``OSError``.
        """
        try:
            size = video.source_bytes()
            if video.frames is None:
                check_regular(video.source)
            is_empty = video.frames is None and not video.source.stat().st_size
        except FileNotFoundError:
            return Outcome(video.key, reason="missing")
        except OSError as error:  # a link to itself, a folder that may not be entered
            return Outcome(video.key, reason="unreadable", detail=error.strerror or str(error))
        if is_empty:
            return Outcome(video.key, reason="empty")
        if video.frames is not None:
            return self._crop_images(video, size, folder)
        try:
            return self._crop_video(video, size, folder)
        except UnreadableVideo as error:
            return Outcome(video.key, source_bytes=size, reason="unreadable", detail=str(error))

    def _crop_video(self, video: Video, size: int, folder: Path) -> Outcome:
        def begin(planned: list[int]) -> VideoFaces:
            regions = ForgedRegions(video.mask, planned) if video.mask else None
            usable = regions is not None and regions.n_frames
            return VideoFaces(self._options, self._detector, regions if usable else None)

        faces, decoded = visit_spaced_frames(video.source, self._options.n_frames, begin)
        reason = "unreadable" if not decoded.count else "truncated" if decoded.is_truncated else ""
        outcome = Outcome(video.key, "", size, decoded.n_declared, decoded.count, reason=reason)
        return self._written(outcome, faces, folder)

    def _crop_images(self, video: Video, size: int, folder: Path) -> Outcome:
        faces = VideoFaces(self._options, self._detector)
        present, absent = present_images(video)
        faces.dropped += absent
        for index, path in spaced(present, self._options.n_frames):
            rgb = read_rgb(path)
            if rgb is None:
                faces.dropped.append((index, "unreadable"))
            else:
                faces.visit(index, rgb)
        n_frames = len(video.frames or ())
        outcome = Outcome(video.key, "", size, n_frames, n_frames, reason="" if n_frames else "no_frames")
        return self._written(outcome, faces, folder)

    def _written(self, outcome: Outcome, faces: VideoFaces, folder: Path) -> Outcome:
        """Write the crops unless ``outcome`` has a reason not to; if no frame has a face, its first frame's reason."""
        chosen = faces.chosen()
        reason = outcome.reason or ("" if chosen else faces.dropped[0][1])
        suffix = f".{self._options.image_format}"
        if not reason:
            for index, _, data in chosen:
                (folder / frame_name(index, suffix)).write_bytes(data)
        indices = [index for index, _, _ in chosen]
        scores = tuple(round(float(face[4]), 4) for _, face, _ in chosen)
        return replace(
            outcome,
            planned=tuple(sorted((*indices, *(index for index, _ in faces.dropped)))),
            written=() if reason else tuple(indices),
            scores=() if reason else scores,
            n_low=faces.n_low,
            dropped=tuple(sorted(faces.dropped)),
            reason=reason,
            suffix=suffix,
        )


class VideoFaces:
    """The faces of one video, kept until all frames are seen, and the frames that have none.

    Attributes:
        dropped: (index, key of ``FRAME_REASONS``) of frames without a face.
        n_low: faces left out for their scores.
    """

    def __init__(self, options: CropOptions, detector: Detector, regions: ForgedRegions | None = None):
        self.dropped: list[tuple[int, str]] = []
        self.n_low = 0
        self._options = options
        self._detector = detector
        self._regions = regions
        self._found: list[tuple[int, np.ndarray, list[bytes]]] = []  # index, faces, their files

    def visit(self, index: int, rgb: np.ndarray) -> None:
        """Find the faces in a frame and cut them out; ``chosen`` decides which of them counts."""
        found = real_faces(self._detector.detect(rgb))
        faces = by_size(sure_of(found, self._options.min_score))
        n_low = len(found) - len(faces)
        self.n_low += n_low
        if self._regions is not None:
            face, reason = self._regions.choose(index, faces, rgb.shape)
            faces = faces[:0] if face is None else face[None]
        else:
            reason = "no_face"
            faces = [face for face in faces if face[2] * face[3] >= _MIN_AREA * faces[0][2] * faces[0][3]]
            faces = np.array(faces[:_MAX_FACES])
        if not len(faces):
            reason = "low_score" if n_low and reason == "no_face" else reason
            self.dropped.append((index, reason))
            return
        self._found.append((index, faces, [encoded_face(rgb, face, self._options) for face in faces]))

    def chosen(self) -> list[tuple[int, np.ndarray, bytes]]:
        """The face of the person whose video it is, for each frame with a face: index, face, image file."""
        numbers = tracks.choose([faces for _, faces, _ in self._found])
        return [
            (index, faces[number], files[number])
            for (index, faces, files), number in zip(self._found, numbers, strict=True)
        ]


def encoded_face(rgb: np.ndarray, face: np.ndarray, options: CropOptions) -> bytes:
    """The image file of one face.

    Args:
        rgb: (H, W, 3) uint8.
        face: in that image, as a ``Detector`` gives it.
        options: how to cut it out, and the file's format.
    """
    if options.align:
        crop = aligned_face(rgb, face[5:15].reshape(5, 2), options.margin, options.size)
    else:
        crop = face_crop(rgb, face, options.margin, options.size)
    bgr = cv2.cvtColor(crop, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(f".{options.image_format}", bgr, _PARAMETERS[options.image_format])
    return data.tobytes()
