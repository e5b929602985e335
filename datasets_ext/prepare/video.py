"""Reading videos: in sequence, from the first frame to the last, without relying on the container's frame count.

Seeking is slower than decoding everything once a few frames a second are wanted, and different builds of the decoder
land on different frames. A container's frame count is only what its writer claimed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np

from datasets_ext.prepare.sampling import spaced_indices


class UnreadableVideo(Exception):
    """The file cannot be decoded as a video; the text is the decoder's reason."""


def frame_counts(path: Path) -> tuple[int, int]:
    """The frames announced and the frames present, without decoding.

    Frames that the container's edit list cuts out of the presentation are in neither count.

    Returns:
        The container's own count (0 if it has none) and the number of packets in the file. Frames are planned from the
        second; only decoding gives the true number (``visit_frames``).

    Raises:
        UnreadableVideo: if the file cannot be opened or has no video in it.
    """
    with _opened(path) as (container, stream):
        cut_out = [packet.is_discard for packet in _packets(container, stream)]
        return max(0, stream.frames - sum(cut_out)), len(cut_out) - sum(cut_out)


def visit_frames(path: Path, wanted: Collection[int], visit: Callable[[int, np.ndarray], None]) -> int:
    """Decode the whole video once and call ``visit(index, rgb)`` for the wanted frames, in order.

    Indices count the frames that decode, from 0, in presentation order. Damaged packets and frames that the decoder
    marks as corrupt are skipped.

    Args:
        path: the video file.
        wanted: the indices to visit.
        visit: gets the index and (H, W, 3) uint8 RGB, upright.

    Returns:
        The number of frames that decode.

    Raises:
        UnreadableVideo: if the file cannot be opened or has no video in it.
    """
    wanted = frozenset(wanted)
    count = 0
    with _opened(path) as (container, stream):
        for frame in _frames(container, stream):
            if count in wanted:
                visit(count, _upright_rgb(frame))
            count += 1
    return count


@dataclass(frozen=True)
class Decoded:
    """The result of decoding a video.

    Attributes:
        n_declared: frames that the container announces; 0 if it has no count.
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


def visit_spaced_frames(path: Path, n_frames: int, begin: Callable[[list[int]], Any]) -> tuple[Any, Decoded]:
    """Pass ``n_frames`` evenly spaced frames of a video, the first and the last included, to a visitor.

    Args:
        path: the video file.
        n_frames: the most frames.
        begin: makes a visitor for the frames of those indices: its ``visit(index, rgb)`` gets each of them, (H, W, 3)
            uint8 RGB, upright. It is called again if the number of frames that decode
            is not the number of packets; the first visitor is then discarded.

    Returns:
        The visitor that saw the right frames, and the result of decoding.

    Raises:
        UnreadableVideo: if the file cannot be opened or has no video in it.
    """
    n_declared, n_present = frame_counts(path)
    count = n_present
    while True:
        planned = spaced_indices(count, n_frames)
        visitor = begin(planned)
        n_decoded = visit_frames(path, planned, visitor.visit)
        if n_decoded == count:
            return visitor, Decoded(n_declared, n_present, count, planned)
        # Fewer (or more) frames decode than there are packets, so the plan ended at the wrong frame. Decoding is
        # deterministic: a second pass, planned with the true count, is right.
        count = n_decoded


@contextmanager
def _opened(path: Path) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    try:
        container = av.open(str(path))
    except (av.FFmpegError, OSError) as error:
        raise UnreadableVideo(_words(error)) from None
    with container:
        if not container.streams.video:
            raise UnreadableVideo("there is no video stream in it")
        stream = container.streams.video[0]
        # videos are decoded in parallel processes already
        stream.codec_context.thread_count = 1
        yield container, stream


def _packets(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.Packet]:
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, av.FFmpegError):  # the second: the file ends inside a packet
            return
        if packet.size:  # demux ends with an empty packet, which means flush
            yield packet


def _frames(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
    for packet in (*_packets(container, stream), None):  # None flushes the decoder
        try:
            decoded = stream.codec_context.decode(packet)
        except av.FFmpegError:
            continue
        for frame in decoded:
            if not frame.is_corrupt:
                yield frame


def _upright_rgb(frame: av.VideoFrame) -> np.ndarray:
    rgb = frame.to_ndarray(format="rgb24")
    quarter_turns = round(frame.rotation / 90)
    return np.ascontiguousarray(np.rot90(rgb, quarter_turns)) if quarter_turns % 4 else rgb


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
