"""The work of preparation: one photograph and one manipulation in, one folder of frames out."""

from __future__ import annotations

import os
import shutil
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


class Blender:
    """What ``BlendOptions.MAKER`` names: called with a clip, it makes the folder of that clip."""

    def __init__(self, options: BlendOptions):
        self._options = options
        self._detector = YuNet()
        self._latest: tuple[Path, Photograph] | None = None

    def __call__(self, clip: Clip, root: Path, staging: Path) -> Outcome:
        """Write the frames of ``clip`` to ``root / clip.folder``, which appears whole or not at all.

        A fault of a photograph is an outcome; a fault of the disk is an ``OSError``.
        """
        try:
            frames = self.frames(clip)
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
        return Outcome(clip.key, clip.folder, clip.source_bytes(), len(frames), len(frames), indices, indices)

    def frames(self, clip: Clip) -> np.ndarray:
        """The frames of ``clip``: (F, S, S, 3) uint8 RGB.

        A fake is made from the very frames of its real: outside the face the two are equal, before compression.

        Raises:
            UnusablePhotograph: if the photograph, or the one that a face is taken from, does not show one face.
        """
        options = self._options
        env = clip.key.split("/")[0]
        photograph = self._open(clip.source)
        moves = generator(options.seed, "selfblend frames", clip.source.stem)
        frames = frames_of(photograph, options.n_frames, options.margin, options.size, moves)
        if env == REAL:
            images = [frame.image for frame in frames]
        else:
            donor = self._open_donor(clip.donor) if clip.donor else None
            rng = generator(options.seed, f"selfblend {env}", clip.folder.rsplit("/", 1)[1])
            images = MANIPULATIONS[env](frames, rng, donor)
        pixels = np.stack([np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8) for image in images])
        rate_factor = RATE_FACTORS[options.compression]
        return pixels if rate_factor is None else through_h264(pixels, rate_factor)

    def _open(self, path: Path) -> Photograph:
        # The clips of a photograph follow one another, and a large photograph takes long to decode.
        if self._latest is None or self._latest[0] != path:
            self._latest = path, open_photograph(path, self._detector)
        return self._latest[1]

    def _open_donor(self, path: Path) -> Photograph:
        try:
            return open_photograph(path, self._detector)
        except UnusablePhotograph as error:
            raise UnusablePhotograph("donor", f"{path.name}: {error.reason} {error}".rstrip()) from None
