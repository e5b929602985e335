"""A PNG encoder whose bytes depend on the pixels alone.

Pillow and OpenCV hand the compression to whatever zlib they were built with (zlib, zlib-ng, libdeflate), and each
of them writes other bytes for the same pixels. Stored (uncompressed) deflate blocks leave nothing to choose, so
the checksum of a generated tree can be compared between machines. The price is about 12 kB for a frame of 64×64.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_STORED_MAX = 0xFFFF  # bytes in one stored block: its length field has 16 bits


def encode(pixels: np.ndarray) -> bytes:
    """The PNG file of an RGB image.

    Args:
        pixels: (H, W, 3) uint8.

    Raises:
        ValueError: for another shape or type.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"expected (H, W, 3) uint8, got {pixels.shape} {pixels.dtype}")
    height, width, _ = pixels.shape
    rows = np.zeros((height, 1 + 3 * width), np.uint8)  # first byte of a row: filter 0, none
    rows[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits, RGB, not interlaced
    return (
        _SIGNATURE
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", _zlib_stored(rows.tobytes()))
        + _chunk(b"IEND", b"")
    )


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _zlib_stored(data: bytes) -> bytes:
    blocks = [data[start : start + _STORED_MAX] for start in range(0, len(data), _STORED_MAX)]
    parts = [b"\x78\x01"]  # 32 kB window, fastest: the header zlib itself writes at level 0
    for number, block in enumerate(blocks, 1):
        parts.append(struct.pack("<BHH", number == len(blocks), len(block), len(block) ^ 0xFFFF))
        parts.append(block)
    parts.append(struct.pack(">I", zlib.adler32(data)))
    return b"".join(parts)
