"""Frames through H.264 and back, in memory."""

from __future__ import annotations

import io

import av
import numpy as np


def through_h264(frames: np.ndarray, rate_factor: int) -> np.ndarray:
    """Encode ``frames`` as an mp4 video and decode it.

    FaceForensics++ compresses whole images with H.264 at the constant rate factors 23 (c23) and 40 (c40); here the
    crops are compressed. With one thread and a fixed preset the result depends on the build of x264 only.

    Args:
        frames: (F, S, S, 3) uint8 RGB; S is even.
        rate_factor: x264's crf, 0 to 51.

    Returns:
        The same shape and type.
    """
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream(
            "libx264", rate=25, options={"crf": str(rate_factor), "preset": "medium"}
        )
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    file.seek(0)
    with av.open(file) as container:
        container.streams.video[0].codec_context.thread_count = 1
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
