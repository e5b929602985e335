"""Where decoded images are kept: in memory, in a memory-mapped file, or nowhere."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from roga_domainbed.errors import RogaError
from roga_domainbed.files import locked, replacing
from roga_domainbed.input.images import Images
from roga_domainbed.processes import usable_cpus

FORMAT = 2  # 1 had the pixels of version 0.1.0, which were not upright
MEMORY_SHARE = 4  # a quarter of what is free: a sweep runs several jobs on one machine
AUTO, OFF = "auto", "off"


class KeptImages:
    """Decodes each image of an environment at its first access and keeps it.

    Args:
        read: index → (H, W, 3) uint8.
        n: how many there are.
        shape: (H, W, 3) if all have the same shape. They are then kept in one array, which takes memory as it is
            written: kept one by one, images leave gaps between them, several times their size, that nothing else fits
            in.
    """

    def __init__(self, read: Callable[[int], np.ndarray], n: int, shape: tuple[int, int, int] | None):
        self._read = read
        self._kept = [None] * n if shape is None else np.empty((n, *shape), np.uint8)
        self._is_kept = np.zeros(n, bool)

    def get(self, index: int) -> np.ndarray:
        """The image, (H, W, 3) uint8; not to be written to."""
        if not self._is_kept[index]:
            self._kept[index] = self._read(index)
            self._is_kept[index] = True
        return self._kept[index]


class Decoder:
    """Decodes at each access.

    Attributes:
        kind: ``none``, for the records.
    """

    kind = "none"

    def __init__(self, environments: Sequence[Images]):
        self._read = [images.read for images in environments]

    def get(self, env: int, index: int) -> np.ndarray:
        """The image, (H, W, 3) uint8; not to be written to."""
        return self._read[env](index)


class Memory(Decoder):
    """Keeps every image that was read."""

    kind = "memory"

    def __init__(self, environments: Sequence[Images]):
        self._kept = [KeptImages(images.read, len(images.labels), images.shape) for images in environments]

    def get(self, env: int, index: int) -> np.ndarray:
        """The image, (H, W, 3) uint8; not to be written to."""
        return self._kept[env].get(index)


class Packed(Decoder):
    """Reads from a file of all decoded images, one after the other, with an index of their offsets and sizes.

    The operating system caches as much of the file as fits, and the jobs of a machine share it.
    """

    kind = "file"

    def __init__(self, environments: Sequence[Images], path: Path):
        super().__init__(environments)
        with np.load(path.with_suffix(".npz")) as index:
            self._places = [(index[f"offset{env}"], index[f"shape{env}"]) for env in range(len(environments))]
        # copy-on-write: torch refuses to look at memory that may not be written
        self._bytes = np.memmap(path, dtype=np.uint8, mode="c")

    def get(self, env: int, index: int) -> np.ndarray:
        """The image, (H, W, 3) uint8; not to be written to."""
        offsets, shapes = self._places[env]
        height, width = map(int, shapes[index])
        if not height:  # could not be read when the file was made: reading it raises the reason
            return super().get(env, index)
        start = int(offsets[index])
        return np.asarray(self._bytes[start : start + 3 * height * width]).reshape(height, width, 3)


def open_store(environments: Sequence[Images], cache: str, name: str) -> Decoder:
    """The store that ``cache`` names.

    Args:
        environments: of the run.
        cache: ``auto`` keeps images in memory if all of them need at most a quarter of what is available, and decodes
            at each access otherwise; ``off`` always decodes at each access; anything else is the folder of a packed
            file, which is made if it is not there yet.
        name: prefix of the packed file's name.
    """
    if cache == OFF:
        return Decoder(environments)
    if cache == AUTO:
        fits = sum(e.nbytes for e in environments) * MEMORY_SHARE <= available_memory()
        return Memory(environments) if fits else Decoder(environments)
    return Packed(environments, packed_file(environments, Path(cache), name))


def packed_file(environments: Sequence[Images], folder: Path, name: str) -> Path:
    """The packed file of these images in ``folder``, made first if necessary, by one process at a time.

    Its name has a hash of the content, so a changed tree gets another file.

    Raises:
        RogaError: the folder cannot be written or is too small.
    """
    digest = hashlib.sha256(json.dumps([FORMAT, *(e.key() for e in environments)]).encode()).hexdigest()[:16]
    path = folder / f"{name}-{digest}.pixels"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if path.exists():
            return path
        with locked(path.with_suffix(".lock"), patience_s=math.inf):
            if not path.exists():
                _pack(environments, path)
    except OSError as error:
        raise RogaError(f"--cache {str(folder)!r} cannot be used: {error.strerror or error}") from None
    return path


def _pack(environments: Sequence[Images], path: Path) -> None:
    needed = sum(e.nbytes for e in environments)
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise RogaError(
            f"--cache {str(path.parent)!r} has {free / 2**30:.1f} GiB free and the decoded images need about "
            f"{needed / 2**30:.1f}: choose another folder, or --cache off"
        )
    index: dict[str, np.ndarray] = {}
    with replacing(path, durable=True) as partial:
        with open(partial, "wb") as file, ThreadPoolExecutor(usable_cpus()) as pool:
            for env, images in enumerate(environments):
                offsets, shapes = [], []
                for pixels in _decoded(images, pool):
                    offsets.append(file.tell())
                    shapes.append(pixels.shape[:2])
                    file.write(np.ascontiguousarray(pixels).data)
                index[f"offset{env}"] = np.array(offsets, np.int64)
                index[f"shape{env}"] = np.array(shapes, np.int32)
        np.savez(path.with_suffix(".npz"), **index)  # first: the packed file must never be without its index


def _decoded(images: Images, pool: ThreadPoolExecutor):
    """All images in order, decoded by several threads, a chunk at a time to save memory."""

    def read(index: int) -> np.ndarray:
        try:
            return images.read(index)
        except RogaError:
            return np.empty((0, 0, 3), np.uint8)

    chunk = 256
    for start in range(0, len(images.labels), chunk):
        yield from pool.map(read, range(start, min(start + chunk, len(images.labels))))


def available_memory() -> int:
    """Bytes that a process may take without swapping: of the machine, or of the control group if that has less."""
    available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                available = 1024 * int(line.split()[1])
    except OSError:
        pass
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        if limit != "max":
            available = min(available, max(0, int(limit) - used))
    except (OSError, ValueError):
        pass
    return available
