"""One video to one folder of face crops, which appears whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from datasets_ext.prepare.clips import Clip, CropOptions, Outcome, frame_name
from datasets_ext.prepare.crop import face_crop, largest_box
from datasets_ext.prepare.detectors import Detector
from datasets_ext.prepare.sampling import spaced_indices
from datasets_ext.prepare.video import UnreadableVideo, frame_counts, visit_frames


def crop_clip(clip: Clip, options: CropOptions, detector: Detector, root: Path, staging: Path) -> Outcome:
    """Write the crops of ``clip`` to ``root / clip.folder``.

    They are written below ``staging`` first, on the same file system, and the folder is renamed when all are
    there. The target must not exist. A fault of the video is an outcome; a fault of the disk is an ``OSError``.
    """
    try:
        size = clip.source.stat().st_size
    except FileNotFoundError:
        return Outcome(clip.key, clip.folder, reason="missing")
    except OSError as error:  # a link to itself, a folder that may not be entered
        return Outcome(clip.key, clip.folder, reason="unreadable", detail=error.strerror or str(error))
    if size == 0:
        return Outcome(clip.key, clip.folder, reason="empty")
    part = staging / clip.key
    try:
        outcome = _write_crops(clip, size, options, detector, part)
    except UnreadableVideo as error:
        return Outcome(clip.key, clip.folder, size, reason="unreadable", detail=str(error))
    if outcome.reason:
        shutil.rmtree(part)
        return outcome
    target = root / clip.folder
    target.parent.mkdir(parents=True, exist_ok=True)
    os.rename(part, target)
    return outcome


def _write_crops(clip: Clip, size: int, options: CropOptions, detector: Detector, part: Path) -> Outcome:
    written: list[int] = []

    def begin() -> None:
        _renew(part)
        written.clear()

    def visit(index: int, rgb: np.ndarray) -> None:
        box = largest_box(detector.detect(rgb))
        if box is not None:
            _write_png(part / frame_name(index), face_crop(rgb, box, options.margin, options.size))
            written.append(index)

    decoded = visit_spaced_frames(clip.source, options.n_frames, begin, visit)
    if decoded.count == 0:
        reason = "unreadable"
    elif decoded.is_truncated:
        reason = "truncated"
    else:
        reason = "" if written else "no_face"
    return Outcome(
        clip.key,
        clip.folder,
        size,
        decoded.n_declared,
        decoded.count,
        tuple(decoded.planned),
        () if reason else tuple(written),
        reason,
    )


@dataclass(frozen=True)
class Decoded:
    """What came of decoding a video.

    Attributes:
        n_declared: frames that the container announces; 0 where it has no count.
        n_present: packets in the file.
        count: frames that decode.
        planned: indices of the chosen frames.
    """

    n_declared: int
    n_present: int
    count: int
    planned: list[int]

    @property
    def is_truncated(self) -> bool:
        """Whether less than half of what was announced decodes."""
        return 2 * self.count < max(self.n_declared, self.n_present)


def visit_spaced_frames(
    source: Path, n_frames: int, begin: Callable[[], None], visit: Callable[[int, np.ndarray], None]
) -> Decoded:
    """Visit ``n_frames`` evenly spaced frames of a video, the first and the last among them.

    Args:
        source: the video file.
        n_frames: how many, at most.
        begin: called before each pass. There is a second one where other frames decode than there are packets: what
            was visited before it does not count.
        visit: gets a frame's index and (H, W, 3) uint8 RGB, upright.

    Raises:
        UnreadableVideo: the file cannot be opened or has no video in it.
    """
    n_declared, n_present = frame_counts(source)
    count = n_present
    while True:
        begin()
        planned = spaced_indices(count, n_frames)
        n_decoded = visit_frames(source, planned, visit)
        if n_decoded == count:
            return Decoded(n_declared, n_present, count, planned)
        # Fewer (or more) frames decode than there are packets, so the plan ended in the wrong place.
        # Decoding is deterministic: a second pass, planned with the true count, ends right.
        count = n_decoded


def _renew(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)


def _write_png(path: Path, rgb: np.ndarray) -> None:
    _, data = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    path.write_bytes(data)
