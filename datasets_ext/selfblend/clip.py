"""The work of preparation: one photograph and one manipulation in, one folder of frames out."""

from __future__ import annotations

import os
import shutil
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from datasets_ext.prepare.clips import Clip, Outcome, frame_name
from datasets_ext.prepare.yunet import YuNet
from datasets_ext.selfblend.compress import through_h264
from datasets_ext.selfblend.face import Photograph, UnusablePhotograph, frames_of, open_photograph
from datasets_ext.selfblend.manipulate import MANIPULATIONS
from datasets_ext.selfblend.options import RATE_FACTORS, BlendOptions
from datasets_ext.selfblend.photographs import REAL
from roga_domainbed.seeds import generator


def make_clip(clip: Clip, options: BlendOptions, detector: YuNet, root: Path, staging: Path) -> Outcome:
    """Write the frames of ``clip`` to ``root / clip.folder``, whole or not at all; see ``faces.crop_clip``."""
    try:
        frames = make_frames(clip, options, detector)
    except UnusablePhotograph as error:
        return Outcome(clip.key, clip.folder, reason=error.reason, detail=str(error))
    part = staging / clip.key
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for index, frame in enumerate(frames):
        _, data = cv2.imencode(".png", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        (part / frame_name(index)).write_bytes(data)
    target = root / clip.folder
    target.parent.mkdir(parents=True, exist_ok=True)
    os.rename(part, target)
    indices = tuple(range(len(frames)))
    return Outcome(clip.key, clip.folder, clip.n_bytes(), len(frames), len(frames), indices, indices)


def make_frames(clip: Clip, options: BlendOptions, detector: YuNet) -> np.ndarray:
    """The frames of ``clip``: (F, S, S, 3) uint8 RGB.

    A fake is made from the very frames of its real: outside the face the two are equal, before compression.

    Raises:
        UnusablePhotograph: if the photograph, or the one that a face is taken from, does not show one face.
    """
    env = clip.key.split("/")[0]
    name = clip.folder.rsplit("/", 1)[1]
    photograph = _opened(clip.source, detector)
    moves = generator(options.seed, "selfblend frames", clip.source.stem)
    frames = frames_of(photograph, options.n_frames, options.margin, options.size, moves)
    if env == REAL:
        images = [frame.image for frame in frames]
    else:
        donor = None if clip.companion is None else _donor(clip.companion, detector)
        images = MANIPULATIONS[env](frames, generator(options.seed, "selfblend " + env, name), donor)
    pixels = np.stack([np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8) for image in images])
    rate_factor = RATE_FACTORS[options.compression]
    return pixels if rate_factor is None else through_h264(pixels, rate_factor)


@lru_cache(
    maxsize=2
)  # the clips of a photograph follow one another, and a large photograph takes long to decode
def _opened(path: Path, detector: YuNet) -> Photograph:
    return open_photograph(path, detector)


def _donor(path: Path, detector: YuNet) -> Photograph:
    try:
        return _opened(path, detector)
    except UnusablePhotograph as error:
        raise UnusablePhotograph("donor", f"{path.name}: {error.reason} {error}".rstrip()) from None
