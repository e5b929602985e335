"""One video to one folder of face crops, which appears whole or not at all."""

from __future__ import annotations

import os
import shutil
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
    n_declared, count = frame_counts(clip.source)
    n_present = count
    while True:
        _renew(part)
        planned = spaced_indices(count, options.n_frames)
        written: list[int] = []

        def visit(index: int, rgb: np.ndarray, written: list[int] = written) -> None:
            box = largest_box(detector.detect(rgb))
            if box is not None:
                _write_png(part / frame_name(index), face_crop(rgb, box, options.margin, options.size))
                written.append(index)

        n_decoded = visit_frames(clip.source, planned, visit)
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
        reason = "" if written else "no_face"
    return Outcome(
        clip.key,
        clip.folder,
        size,
        n_declared,
        n_decoded,
        tuple(planned),
        () if reason else tuple(written),
        reason,
    )


def _renew(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)


def _write_png(path: Path, rgb: np.ndarray) -> None:
    _, data = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    path.write_bytes(data)
