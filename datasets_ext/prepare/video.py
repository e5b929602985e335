"""Reading videos: in sequence, from the first frame to the last, without relying on the container's frame count.

Seeking is slower than decoding everything once a few frames a second are wanted, and different builds of the decoder
land on different frames. A container's frame count is only what its writer claimed.

Pixels are those that FFmpeg shows: its own filters turn and mirror a frame as the file says and make it RGB. Where
pixels are not square, the frame is stretched until they are, as a player does.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import av
import numpy as np
from av.sidedata.sidedata import Type as SideData
from av.stream import Disposition
from PIL import Image

from datasets_ext.prepare.sampling import spaced_indices
from roga_domainbed.foreign import open_regular
from roga_domainbed.input.image_files import truncated_is_an_error

_MOST_PIXELS = 2**26  # of a frame: 8,192 × 8,192; a small file can claim a frame that fills the memory
_MOST_STRETCHED = 4  # pixels this many times as wide as high, or as high as wide, are a fault of the file
_SQUARE = 0.01  # encoders leave ratios such as 1216:1215 behind; scaling by them would only blur
_HEAD = 1024  # bytes; in so many of a video some are control characters
_PICTURES = Disposition.attached_pic | Disposition.timed_thumbnails
_DURATION_IN_HEADER = ("matroska", "flv", "asf", "mov")  # formats that say so; FFmpeg guesses it for others
_SLACK_S = 0.2  # the last packet need not say how long it lasts

# FFmpeg's filters for the signs of a display matrix a b / c d, which takes a pixel (x, y) to (ax + cy, bx + dy).
_UPRIGHT: dict[tuple[int, int, int, int], tuple[tuple[str, str], ...]] = {
    (1, 0, 0, 1): (),
    (-1, 0, 0, 1): (("hflip", ""),),
    (1, 0, 0, -1): (("vflip", ""),),
    (-1, 0, 0, -1): (("hflip", ""), ("vflip", "")),
    (0, 1, -1, 0): (("transpose", "clock"),),
    (0, -1, 1, 0): (("transpose", "cclock"),),
    (0, 1, 1, 0): (("transpose", "cclock_flip"),),
    (0, -1, -1, 0): (("transpose", "clock_flip"),),
}


class UnreadableVideo(Exception):
    """The file cannot be decoded as a video; the text is the reason."""


def frame_counts(path: Path) -> tuple[int, int]:
    """The frames announced and the frames present, without decoding.

    Frames that the container's edit list cuts out of the presentation are in neither count.

    Returns:
        The container's own count, and the number of packets in the file. Where the container has no count (Matroska,
        WebM) but a duration, and the packets end early, the first is the number that would fill that duration; it is 0
        if nothing was announced. Frames are planned from the second; only decoding gives the true number
        (``visit_frames``).

    Raises:
        UnreadableVideo: as ``visit_frames``.
    """
    with _opened(path) as film:
        return film.counts()


def frame_times(path: Path, count: int) -> list[float] | None:
    """When each frame of a video is shown, in seconds from the first one, without decoding.

    Args:
        path: the video file.
        count: the frames that decode, see ``visit_frames``.

    Returns:
        ``count`` times, ascending; None if the file does not say, or holds another number of frames than decode: which
        of them fell out is not known then.

    Raises:
        UnreadableVideo: as ``visit_frames``.
    """
    with _opened(path) as film:
        times = film.times()
    if times is None or len(times) != count or count == 0:
        return None
    times = sorted(times)
    return [time - times[0] for time in times]


def visit_frames(path: Path, wanted: Collection[int], visit: Callable[[int, np.ndarray], None]) -> int:
    """Decode the whole video once and call ``visit(index, rgb)`` for the wanted frames, in order.

    Indices count the frames that decode, from 0, in presentation order. Damaged packets and frames that the decoder
    marks as corrupt are skipped.

    Args:
        path: the video file.
        wanted: the indices to visit.
        visit: gets the index and (H, W, 3) uint8 RGB, upright, of square pixels.

    Returns:
        The number of frames that decode.

    Raises:
        UnreadableVideo: the file is not a regular one, cannot be opened, has no video in it, or says of its pixels what
            cannot be.
    """
    wanted = frozenset(wanted)
    count = 0
    with _opened(path) as film:
        for picture in film.pictures():
            if count in wanted:
                visit(count, picture())
            count += 1
    return count


@dataclass(frozen=True)
class Decoded:
    """The result of decoding a video.

    Attributes:
        n_declared: frames that the container announces; 0 if it announces nothing.
        n_present: packets in the file.
        count: frames that decode.
        planned: indices of the chosen frames.
    """

    n_declared: int
    n_present: int
    count: int
    planned: list[int]

    @property
    def is_short(self) -> bool:
        """Whether fewer frames decode than were announced."""
        return self.count < self.n_declared

    @property
    def is_truncated(self) -> bool:
        """Whether less than half of what was announced decodes."""
        return 2 * self.count < max(self.n_declared, self.n_present)


def visit_spaced_frames(path: Path, n_frames: int, begin: Callable[[list[int]], Any]) -> tuple[Any, Decoded]:
    """Pass ``n_frames`` evenly spaced frames of a video, the first and the last included, to a visitor.

    Args:
        path: the video file.
        n_frames: the most frames.
        begin: makes a visitor for the frames of those indices: its ``visit(index, rgb)`` gets each of them as in
            ``visit_frames``. It is called again if the number of frames that decode is not the number of packets; the
            first visitor is then discarded.

    Returns:
        The visitor that saw the right frames, and the result of decoding.

    Raises:
        UnreadableVideo: as ``visit_frames``.
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


class _Film(Protocol):
    def counts(self) -> tuple[int, int]:
        """As ``frame_counts``."""

    def times(self) -> list[float] | None:
        """Of each frame in the file, in seconds and in any order; None if one has none."""

    def pictures(self) -> Iterator[Callable[[], np.ndarray]]:
        """For each frame that decodes, what gives its pixels."""


@contextmanager
def _opened(path: Path) -> Iterator[_Film]:
    try:
        file = open_regular(path)
    except OSError as error:
        raise UnreadableVideo(_words(error)) from None
    with file:
        head = file.read(_HEAD)
        file.seek(0)
        if head.startswith(b"GIF8"):
            with truncated_is_an_error():
                yield _Gif(file)
            return
        # FFmpeg reads playlists, which are text, and opens the files that they name.
        is_text = not any(byte < 9 or 13 < byte < 32 for byte in head)
        if head and (is_text or head.startswith((b"ffconcat", b"#EXTM3U")) or b"<MPD" in head):
            raise UnreadableVideo("it is text or a playlist")
        try:
            # A file, not its name: FFmpeg takes "concat:…" or "http:…" for an order. Without options: with some, PyAV
            # before 18 crashes on formats that show their streams late.
            container = av.open(_Named(file), metadata_errors="replace")
        except (av.FFmpegError, OSError, ValueError) as error:
            raise UnreadableVideo(_words(error)) from None
        with container:
            yield _Container(container, os.fstat(file.fileno()).st_size)


class _Named:
    """A file for FFmpeg, which looks at the name's suffix; the rest of a name may be no text."""

    def __init__(self, file: BinaryIO):
        self.name = "video" + os.path.splitext(file.name)[1].encode("ascii", "ignore").decode()
        self.read, self.tell, self._file = file.read, file.tell, file

    def seek(self, offset: int, whence: int) -> int:
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError):
            return -1  # a damaged file leads to before its begin; PyAV would print a traceback


class _Container:
    """A video that FFmpeg reads."""

    def __init__(self, container: av.container.InputContainer, n_bytes: int):
        # A cover picture is a video stream, too. Players show the stream that is marked as the default.
        streams = [stream for stream in container.streams.video if not stream.disposition & _PICTURES]
        if not streams:
            cover = " but a cover picture" if container.streams.video else ""
            raise UnreadableVideo(f"there is no video stream in it{cover}")
        shown = [stream for stream in streams if stream.disposition & Disposition.default]
        self._container, self._stream = container, (shown or streams)[0]
        context = self._stream.codec_context
        if context is None:
            raise UnreadableVideo("it is in a format that this build of FFmpeg cannot decode")
        _check_size(context.width or 0, context.height or 0)
        context.options = {"max_pixels": str(_MOST_PIXELS)}
        context.thread_count = 1  # videos are decoded in parallel processes already

    def counts(self) -> tuple[int, int]:
        stream = self._stream
        n_packets, n_cut_out, begin_s, end_s, last_s = 0, 0, math.inf, -math.inf, 0.0
        for packet in self._packets(every_stream=True):  # sound may go on after the last frame
            if packet.pts is not None:
                at_s = float(packet.pts * packet.time_base)
                last_s = max(last_s, at_s + float((packet.duration or 0) * packet.time_base))
            if packet.stream.index == stream.index:
                n_packets += 1
                n_cut_out += packet.is_discard
                if packet.pts is not None:
                    begin_s, end_s = min(begin_s, at_s), max(end_s, at_s)
        n_present = n_packets - n_cut_out
        rate = (n_packets - 1) / (end_s - begin_s) if end_s > begin_s else float(stream.average_rate or 0)
        n_lacking = round(self._lacking_s(last_s) * rate)
        announced = max(0, stream.frames - n_cut_out)
        return max(announced, n_present + n_lacking) if n_lacking else announced, n_present

    def times(self) -> list[float] | None:
        shown = [packet for packet in self._packets() if not packet.is_discard]
        if any(packet.pts is None for packet in shown):
            return None
        return [float(packet.pts * packet.time_base) for packet in shown]

    def _lacking_s(self, last_s: float) -> float:
        """Seconds between the end of the last packet and that of the duration that the file announces."""
        if not self._container.format.name.startswith(_DURATION_IN_HEADER):
            return 0.0
        lacking_s = (self._container.duration or 0) / av.time_base - last_s
        return lacking_s if lacking_s > _SLACK_S else 0.0

    def pictures(self) -> Iterator[Callable[[], np.ndarray]]:
        as_shown = _AsShown(self._stream)
        for frame in self._frames():
            yield lambda frame=frame: as_shown(frame)

    def _packets(self, every_stream: bool = False) -> Iterator[av.Packet]:
        packets = self._container.demux(*() if every_stream else (self._stream,))
        while True:
            try:
                packet = next(packets)
            except (StopIteration, av.FFmpegError, OSError):  # the second: the file ends inside a packet
                return
            except IndexError:  # of PyAV: a stream comes up in the middle of a damaged file
                return
            if packet.size:  # demux ends with an empty packet, which means flush
                yield packet

    def _frames(self) -> Iterator[av.VideoFrame]:
        for packet in (*self._packets(), None):  # None flushes the decoder
            try:
                decoded = self._stream.codec_context.decode(packet)
            except av.FFmpegError:
                continue
            for frame in decoded:
                if not frame.is_corrupt:
                    yield frame


class _AsShown:
    """Frames as FFmpeg shows them: upright, RGB, of square pixels."""

    def __init__(self, stream: av.VideoStream):
        self._stream = stream
        self._kind: tuple | None = None
        self._graph: av.filter.Graph | None = None

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        """(H, W, 3) uint8."""
        matrix = frame.side_data.get(SideData.DISPLAYMATRIX)
        matrix = bytes(matrix) if matrix is not None else b""
        kind = (frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range, matrix)
        try:
            if kind != self._kind:  # it may change in the middle of a video
                self._graph, self._kind = self._filters(frame, matrix), kind
            self._graph.push(frame)
            return self._graph.pull().to_ndarray()
        except (av.FFmpegError, ValueError) as error:
            raise UnreadableVideo(f"its pixels cannot be made RGB: {_words(error)}") from None

    def _filters(self, frame: av.VideoFrame, matrix: bytes) -> av.filter.Graph:
        graph = av.filter.Graph()
        nodes = [
            graph.add_buffer(self._stream, frame.width, frame.height, frame.format),
            *(graph.add(*step) for step in (*self._squared(frame), *_turned(matrix), ("format", "rgb24"))),
            graph.add("buffersink"),
        ]
        graph.link_nodes(*nodes).configure()
        return graph

    def _squared(self, frame: av.VideoFrame) -> list[tuple[str, str]]:
        ratio = self._stream.sample_aspect_ratio or Fraction(1)
        if abs(ratio - 1) <= _SQUARE:
            return []
        if not 1 / _MOST_STRETCHED <= ratio <= _MOST_STRETCHED:
            raise UnreadableVideo(f"its pixels would be {ratio.numerator}:{ratio.denominator} wide and high")
        return [("scale", f"{max(1, round(frame.width * ratio))}:{frame.height}")]


def _turned(matrix: bytes) -> tuple[tuple[str, str], ...]:
    """The filters that make a frame with this display matrix upright.

    Raises:
        UnreadableVideo: it turns by less than a quarter.
    """
    if not matrix:
        return ()
    a, b, _, c, d = np.frombuffer(matrix, "=i4")[:5].astype(np.float64)
    # Scales are ignored, as FFmpeg ignores them.
    values = np.array([a, b, c, d]) / np.repeat([np.hypot(a, b) or 1, np.hypot(c, d) or 1], 2)
    if not values.any():
        return ()
    signs = tuple(map(round, values.tolist()))
    if signs not in _UPRIGHT or not np.allclose(values, signs, atol=0.02):  # FFmpeg's degree
        raise UnreadableVideo("it is to be shown turned by a part of a quarter turn, or sheared")
    return _UPRIGHT[signs]


def _check_size(width: int, height: int) -> None:
    if width * height > _MOST_PIXELS:
        raise UnreadableVideo(f"its frames would have {width:,} × {height:,} pixels")


class _Gif:
    """A GIF. FFmpeg takes one whose frames have no delays for a single frame; Pillow reads every kind."""

    def __init__(self, file: BinaryIO):
        header = file.read(10)
        _check_size(*(int.from_bytes(header[place : place + 2], "little") for place in (6, 8)))
        file.seek(0)
        try:
            self._image = Image.open(file)
        except MemoryError:
            raise
        except Exception:  # Pillow's decoders fail each in a way of its own
            raise UnreadableVideo("it begins as a GIF and is none") from None

    def counts(self) -> tuple[int, int]:
        n = sum(1 for _ in self._shown())
        return n, n

    def times(self) -> list[float] | None:
        delays_ms = [self._image.info.get("duration", 0) for _ in self._shown()]
        if not all(delays_ms):
            return None
        return [end_ms / 1000 for end_ms in accumulate(delays_ms[:-1], initial=0)]

    def pictures(self) -> Iterator[Callable[[], np.ndarray]]:
        for _ in self._shown():
            try:
                rgba = self._image.convert("RGBA")
            except MemoryError:
                raise
            except Exception:  # the file ends inside a frame
                return
            yield lambda rgba=rgba: np.asarray(
                Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
            )

    def _shown(self) -> Iterator[None]:
        number = 0
        while True:
            try:
                self._image.seek(number)
            except MemoryError:
                raise
            except Exception:  # there are no more, or it is damaged
                return
            yield
            number += 1


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
