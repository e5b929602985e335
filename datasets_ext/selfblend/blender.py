"""One photograph and one manipulation to the frames of one video."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from datasets_ext.prepare.layout import Video
from datasets_ext.prepare.outcome import Outcome, frame_name
from datasets_ext.prepare.yunet import YuNet
from datasets_ext.selfblend.compress import through_h264
from datasets_ext.selfblend.face import Photograph, UnusablePhotograph, frames_of, open_photograph
from datasets_ext.selfblend.manipulate import MANIPULATIONS
from datasets_ext.selfblend.options import RATE_FACTORS, BlendOptions
from datasets_ext.selfblend.photographs import REAL
from roga_domainbed.seeds import generator

_LEAST_SCORE = 0.7  # of a face in a photograph


class Blender:
    """The maker of ``BlendOptions``: holds the detector, and the latest photograph, between videos."""

    def __init__(self, options: BlendOptions):
        self._options = options
        self._detector = YuNet(_LEAST_SCORE)
        self._latest: tuple[Path, Photograph] | None = None

    def __call__(self, video: Video, folder: Path) -> Outcome:
        """Write the frames of ``video`` into ``folder``.

        A fault of a photograph is an outcome; a fault of the disk is an ``OSError``.
        """
        try:
            frames = self.frames(video)
        except UnusablePhotograph as error:
            return Outcome(video.key, reason=error.reason, detail=str(error))
        for index, frame in enumerate(frames):
            _, data = cv2.imencode(".png", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
            (folder / frame_name(index)).write_bytes(data)
        indices = tuple(range(len(frames)))
        return Outcome(video.key, "", video.source_bytes(), len(frames), len(frames), indices, indices)

    def frames(self, video: Video) -> np.ndarray:
        """The frames of ``video``: (F, S, S, 3) uint8 RGB.

        A fake is made from the frames of its real: outside the face the two are equal, before compression.

        Raises:
            UnusablePhotograph: the photograph, or the one of the other face in a swap, does not show one face.
        """
        options = self._options
        photograph = self._open(video.source)
        moves = generator(options.seed, "selfblend frames", video.source.stem)
        frames = frames_of(photograph, options.n_frames, options.margin, options.size, moves)
        if video.group == REAL:
            images = [frame.image for frame in frames]
        else:
            donor = self._open_donor(video.donor) if video.donor else None
            rng = generator(options.seed, f"selfblend {video.group}", video.name)
            images = MANIPULATIONS[video.group](frames, rng, donor)
        pixels = np.stack([np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8) for image in images])
        rate_factor = RATE_FACTORS[options.compression]
        return pixels if rate_factor is None else through_h264(pixels, rate_factor)

    def _open(self, path: Path) -> Photograph:
        # The videos of a photograph follow one another, and a large photograph takes long to decode.
        if self._latest is None or self._latest[0] != path:
            self._latest = path, open_photograph(path, self._detector)
        return self._latest[1]

    def _open_donor(self, path: Path) -> Photograph:
        try:
            return open_photograph(path, self._detector)
        except UnusablePhotograph as error:
            raise UnusablePhotograph("donor", f"{path.name}: {error.reason} {error}".rstrip()) from None
