"""Small videos with a bright square for a face, a detector that finds it, and a tree of them like FF++.

A test file that imports this is skipped without the extra 'prepare'.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from datasets_ext.prepare.detectors import DetectorInfo

av = pytest.importorskip("av", reason="preparing videos needs the extra 'prepare'")
cv2 = pytest.importorskip("cv2", reason="preparing videos needs the extra 'prepare'")

WIDTH, HEIGHT, SIDE = 96, 64, 20
SQUARES = DetectorInfo("squares", target="prepare_videos:SquareDetector")


class SquareDetector:
    """A box for each patch of what is bright."""

    n_calls = 0

    def detect(self, rgb: np.ndarray) -> np.ndarray:
        SquareDetector.n_calls += 1
        bright = (rgb.mean(axis=2) > 80).astype(np.uint8)
        _, _, patches, _ = cv2.connectedComponentsWithStats(bright)
        return np.array([[*patch[:4], 1.0] for patch in patches[1:] if patch[4] >= SIDE]).reshape(-1, 5)


class SlowSquareDetector(SquareDetector):
    """The same, in a hundredth of a second a frame, so that a run can be killed in the middle."""

    def detect(self, rgb: np.ndarray) -> np.ndarray:
        time.sleep(0.01)
        return super().detect(rgb)


def level(index: int) -> int:
    """Brightness of the square in frame ``index``, so that a crop tells which frame it is from."""
    return 110 + 6 * index


def write_video(
    path: Path, n_frames: int = 12, no_face: tuple[int, ...] = (), bystander: bool = False
) -> Path:
    """Write ``n_frames`` key frames over noise, index in front, so that a cut file still decodes in part.

    A bystander is a second, smaller square, all white.
    """
    noise = np.random.default_rng(0)
    images = []
    for index in range(n_frames):
        image = noise.integers(0, 40, (HEIGHT, WIDTH, 1), dtype=np.uint8).repeat(3, axis=2)
        if index not in no_face:
            image[20 : 20 + SIDE, 40 : 40 + SIDE] = level(index)
        if bystander:
            image[8:20, 8:20] = 255
        images.append(image)
    return encode(path, images)


def write_mask(path: Path, marked: list[str | None], scale: int = 1) -> Path:
    """Write a video of what is forged, frame by frame: ``face``, ``bystander``, ``corner`` (nobody's) or nothing."""
    places = {"face": (24, 36, 44, 56), "bystander": (9, 19, 9, 19), "corner": (50, 64, 80, 96)}
    images = []
    for name in marked:
        image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        if name:
            top, bottom, left, right = places[name]
            image[top:bottom, left:right] = 255
        images.append(image.repeat(scale, axis=0).repeat(scale, axis=1))
    return encode(path, images)


def encode(path: Path, images: list[np.ndarray]) -> Path:
    """Write (H, W, 3) images as a video of key frames, index in front."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream(
            "libx264", rate=25, options={"crf": "10", "g": "1", "preset": "ultrafast"}
        )
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        for image in images:
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def real_folder(source: Path, comp: str = "c23") -> Path:
    return source / "original_sequences" / "youtube" / comp / "videos"


def fake_folder(source: Path, method: str, comp: str = "c23") -> Path:
    return source / "manipulated_sequences" / method / comp / "videos"


def counts(report) -> dict:
    """Class → videos expected, found and prepared."""
    return {count.name: (count.expected, count.found, count.prepared) for count in report.classes}


def dropped(report) -> dict[str, str]:
    """Key → reason of the videos that were dropped."""
    return {outcome.key: outcome.reason for outcome in report.outcomes if outcome.reason}


def small_tree(source: Path) -> Path:
    """Reals 000 and 003; both fakes of Deepfakes, one of Face2Face and NeuralTextures, none of FaceSwap."""
    write_video(real_folder(source) / "000.mp4")
    write_video(real_folder(source) / "003.mp4", no_face=(0,))
    write_video(fake_folder(source, "Deepfakes") / "000_003.mp4")
    write_video(fake_folder(source, "Deepfakes") / "003_000.mp4")
    write_video(fake_folder(source, "Face2Face") / "000_003.mp4")
    write_video(fake_folder(source, "NeuralTextures").parent / "003_000.mp4")  # without the level videos/
    return source
