"""The one way to walk a tree of images and videos. Importing this loads neither torch nor Pillow.

Links are followed. Each real folder is listed once, so a link to a folder above ends there; where a folder is reached
by its own path and by a link, its own path counts. Hidden files and folders, named pipes, sockets and devices are left
out. A broken link stays in the list: it names a file that should be there, and reading it says so.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterable, Iterator, Sequence

from roga_domainbed.errors import shortened

#: Suffixes of what counts as an image, and as a video, in lower case; other files are skipped.
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
VIDEO_SUFFIXES = tuple(".3gp .avi .flv .gif .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ogv .ts .webm .wmv".split())
MEDIA_SUFFIXES = IMAGE_SUFFIXES + VIDEO_SUFFIXES


def names_in(folder: str | os.PathLike) -> tuple[list[str], list[str]]:
    """Names of the folders and of the files in ``folder``, each sorted; without links to it or to a folder above it.

    Raises:
        OSError: it cannot be listed.
    """
    folders, files, links = [], [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if _is_folder(entry):
                (links if entry.is_symlink() else folders).append(entry.name)
            elif _is_file(entry):
                files.append(entry.name)
    if links:
        above = {_identity(folder), *map(_identity, _above(folder))}
        folders += [name for name in links if _identity(os.path.join(folder, name)) not in above]
    return sorted(folders), sorted(files)


def walk(folder: str | os.PathLike, besides: Iterable[str | os.PathLike] = ()) -> list[tuple[str, list[str]]]:
    """Every folder in and below ``folder``, itself included, with the names of its files; sorted by path.

    Args:
        folder: where to start.
        besides: folders that no link leads into, because they have another meaning: those of the other classes.

    Raises:
        OSError: a folder cannot be listed: what is in it would be left out silently.
    """
    folder = os.fspath(folder)
    closed = [os.path.join(path, "") for path in map(os.path.realpath, besides)]
    seen = {_identity(above) for above in _above(folder)}
    found: list[tuple[str, list[str]]] = []
    waiting, links = [folder], []
    while waiting or links:
        # Links come last, in order: a folder's own path comes before them, however they are called.
        where = waiting.pop() if waiting else heapq.heappop(links)
        identity = _identity(where)
        if identity in seen:
            continue
        seen.add(identity)
        folders, files = names_in(where)
        found.append((where, files))
        for path in (os.path.join(where, name) for name in folders):
            if not os.path.islink(path):
                waiting.append(path)
            elif not os.path.join(os.path.realpath(path), "").startswith(tuple(closed)):
                heapq.heappush(links, path)
    return sorted(found)


def files_below(
    folder: str | os.PathLike, suffixes: tuple[str, ...], besides: Iterable[str | os.PathLike] = ()
) -> list[str]:
    """All files in and below ``folder`` with one of ``suffixes``; folders in the order of their paths, files by name.

    Raises:
        OSError: as ``walk``.
    """
    return [
        os.path.join(where, name)
        for where, names in walk(folder, besides)
        for name in names
        if name.lower().endswith(suffixes)
    ]


def left_over(
    folder: str | os.PathLike, taken: Iterable[str | os.PathLike], suffixes: tuple[str, ...] = MEDIA_SUFFIXES
) -> list[str]:
    """Files in and below ``folder`` that are none of ``taken``, whatever links lead to those; a second name is a file.

    A reader that found labels for ``taken`` says with this how many media files it found no label for.

    Raises:
        OSError: as ``walk``.
    """
    known = set(map(os.path.realpath, taken))
    return [path for path in files_below(folder, suffixes) if os.path.realpath(path) not in known]


def counted(paths: Sequence[str]) -> str:
    """``5: 'a/1.png', 'a/2.png', 'a/3.png', …``, for a note about files."""
    return f"{len(paths)}: {shortened(map(repr, paths))}"


def _above(folder: str) -> Iterator[str]:
    path = os.path.realpath(folder)
    while path != os.path.dirname(path):
        path = os.path.dirname(path)
        yield path


def _identity(folder: str | os.PathLike) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_file(entry: os.DirEntry) -> bool:
    try:
        return entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path))
    except OSError:
        return entry.is_symlink()
