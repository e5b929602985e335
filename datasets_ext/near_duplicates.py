"""Frames that look alike, found by a perceptual hash: copies that the manifest does not know of.

The hash is pHash, as in the package ImageHash: shrink the grey image to 32 × 32, take the 8 × 8 lowest frequencies of
its cosine transform, and set a bit for each that is above their median. It is kept as one 64-bit integer so that many
can be searched. Resizing, recompressing or brightening an image changes few bits; two unrelated images differ in about
32.
Source: Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image
from scipy.fft import dctn

from datasets_ext.workers import map_files
from roga_domainbed.errors import RogaError, shortened
from roga_domainbed.input.image_files import UnreadableImage, read_image

BITS = 64
#: Beyond this distance unrelated faces start to match.
LARGEST_DISTANCE = 16

_SIDE = 32
_CHUNK = 1 << 22  # candidate pairs compared at a time
_ONES = np.array([value.bit_count() for value in range(1 << 16)], dtype=np.uint8)


def perceptual_hash(image: Image.Image) -> int:
    """The 64 bits of an image, as an unsigned integer."""
    grey = image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    low = dctn(np.asarray(grey, dtype=np.float64), type=2)[:8, :8]
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes(), "big")


def hash_files(paths: Sequence[str | os.PathLike], n_workers: int) -> np.ndarray:
    """(N,) uint64, the hash of each file; a progress bar on stderr.

    Raises:
        RogaError: some files cannot be read; it has their number and three names.
    """
    paths = list(map(str, paths))
    hashes = list(map_files(_hash_file, paths, "hashing frames", n_workers))
    damaged = sorted(path for path, value in zip(paths, hashes, strict=True) if value is None)
    if damaged:
        raise RogaError(
            f"{len(damaged)} frames cannot be read: {shortened(map(repr, damaged))}; "
            "'roga-domainbed data verify' names all"
        )
    return np.array(hashes, dtype=np.uint64)


def _hash_file(path: str) -> int | None:
    try:
        return perceptual_hash(read_image(path))
    except UnreadableImage:
        return None


def nearest(hashes: np.ndarray, among: np.ndarray, max_distance: int) -> tuple[np.ndarray, np.ndarray]:
    """For each of ``hashes`` the nearest ``among`` (of equals the first), if at most ``max_distance`` bits differ.

    Two numbers that differ in d bits agree in at least one of d + 1 bands of bits, so only numbers that agree in a
    band are compared.

    Args:
        hashes: (N,) uint64.
        among: (M,) uint64.
        max_distance: 0 … ``LARGEST_DISTANCE``.

    Returns:
        (N,) index into ``among``, −1 where none is near enough, and (N,) number of differing bits, 65 there.
    """
    found, distance = np.full(len(hashes), -1), np.full(len(hashes), BITS + 1)
    edges = np.linspace(0, BITS, max_distance + 2).astype(int)
    for low, high in itertools.pairwise(edges):
        shift, mask = np.uint64(low), np.uint64((1 << int(high - low)) - 1)
        bands, wanted = (among >> shift) & mask, (hashes >> shift) & mask
        order = np.argsort(bands, kind="stable")
        starts = np.searchsorted(bands[order], wanted, "left")
        counts = np.searchsorted(bands[order], wanted, "right") - starts
        for some in _chunks(counts):
            own = np.repeat(some, counts[some])
            ends = np.cumsum(counts[some])
            offsets = np.arange(len(own)) - np.repeat(ends - counts[some], counts[some])
            candidates = order[np.repeat(starts[some], counts[some]) + offsets]
            apart = _differing_bits(hashes[own] ^ among[candidates])
            near = apart <= max_distance
            own, candidates, apart = own[near], candidates[near], apart[near]
            best = np.lexsort((candidates, apart, own))  # the first of each own is its best
            own, first = np.unique(own[best], return_index=True)
            candidates, apart = candidates[best][first], apart[best][first]
            better = (apart < distance[own]) | ((apart == distance[own]) & (candidates < found[own]))
            found[own[better]], distance[own[better]] = candidates[better], apart[better]
    return found, distance


def _chunks(counts: np.ndarray) -> Iterator[np.ndarray]:
    """Indices of the hashes that have candidates, in runs of about ``_CHUNK`` candidates."""
    some = np.flatnonzero(counts)
    if len(some):
        yield from np.split(some, np.flatnonzero(np.diff(np.cumsum(counts[some]) // _CHUNK)) + 1)


def _differing_bits(values: np.ndarray) -> np.ndarray:
    return _ONES[values.view(np.uint16).reshape(-1, 4)].sum(axis=1)
