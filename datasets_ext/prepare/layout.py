"""The videos of a dataset and their metadata: what its reader contributes to the preparation.

A reader (the ``read`` of ``ffpp``, ``dfd``, ``csv_list``, …) turns a folder as distributed, an index or a list into a
``Layout``. Everything after that is in ``driver`` and the same for all. A reader decodes nothing and writes nothing.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from roga_domainbed.errors import Problems, shortened
from roga_domainbed.foreign import Malformed, one_line, read_bytes, read_json
from roga_domainbed.foreign.files import LARGEST
from roga_domainbed.input import tree

_N_BYTES = 200  # file systems allow 255 in a name
_LAST_NUMBER = re.compile(r"(\d{1,9})\D*$")


@dataclass(frozen=True)
class Video:
    """One video and its metadata.

    Attributes:
        group: its class in the report, for example ``Deepfakes``; without a slash.
        name: of its folder, and its key in the manifest; unique within (environment, label).
        source: the file; the folder, or the first file, of a video that comes as images.
        envs: environments that it belongs to; crops are made in the first, the others get links.
        method: manipulation that made it; ``real`` for a real one.
        label: 0 real, 1 fake.
        recording: key of the recorded background, shared by a fake and what it was made from.
        identities: the people in it, sorted, joined by ``+``; empty if unknown.
        split: official part; empty if there is none.
        frames: (frame index, image file), ascending, of a video that comes as images; None for a video file.
        mask: video of the forged region, if there is one.
        donor: photograph of the other face, of a swap that is made from photographs.
    """

    group: str
    name: str
    source: Path
    envs: tuple[str, ...]
    method: str
    label: int
    recording: str
    identities: str = ""
    split: str = ""
    frames: tuple[tuple[int, Path], ...] | None = None
    mask: Path | None = None
    donor: Path | None = None

    @property
    def key(self) -> str:
        """``<group>/<name>``: unique in the dataset."""
        return f"{self.group}/{self.name}"

    def files(self) -> list[Path]:
        """All files that it is made from."""
        if self.frames is not None:
            return [path for _, path in self.frames]
        return [path for path in (self.source, self.mask, self.donor) if path]

    def source_bytes(self) -> int:
        """Size of all files that it is made from; images that are not there count nothing.

        Raises:
            OSError: one of the other files cannot be read, or none of the images is there.
        """
        if self.frames is not None:
            sizes = [path.stat().st_size for _, path in self.frames if path.is_file()]
            if self.frames and not sizes:
                raise FileNotFoundError(f"no image of {self.key} is there")
            return sum(sizes)
        return sum(path.stat().st_size for path in self.files())


@dataclass
class Layout:
    """The videos of one dataset.

    Attributes:
        dataset: name of the dataset and its folder.
        source: that was read.
        envs: environments, in the order of the registered dataset.
        expected: group → number of videos in the published dataset; None if unknown.
        compression: raw, c23 or c40; empty if there is none.
        videos: those found, by key.
        wanted: group → names that should exist, from lists or from the other classes.
        expected_by_split: group → split → number of videos, if the published dataset has a split.
        split_pairs: split → pairs in the official lists (FaceForensics++).
        complete: whether videos of an earlier run that are not here are removed.
        searched: the folder that is searched, with all below, for media files without a label; None searches the
            folders that have a video, without those below.
        notes: what was skipped, and other remarks, a sentence each.
    """

    dataset: str
    source: Path
    envs: tuple[str, ...]
    expected: dict[str, int | None]
    compression: str = ""
    videos: dict[str, Video] = field(default_factory=dict)
    wanted: dict[str, list[str]] = field(default_factory=dict)
    expected_by_split: dict[str, dict[str, int]] = field(default_factory=dict)
    split_pairs: dict[str, int] = field(default_factory=dict)
    complete: bool = False
    searched: Path | None = None
    notes: list[str] = field(default_factory=list)

    def add(self, video: Video) -> None:
        """Add ``video``; if there is one with its key already, note it and keep the first."""
        if not video.name.isprintable():  # control characters, and bytes that are not text
            self.notes.append(f"{self.place(video.source)}: the name cannot be printed, left out")
        elif video.key in self.videos:
            self.notes.append(f"{self.place(video.source)}: second file of video {video.key}, left out")
        else:
            self.videos[video.key] = video

    def add_files(self, group: str, paths: Iterable[Path], video: Callable[[Path], Video | None]) -> None:
        """Add ``video(path)`` of each path; those for which it is None are noted by name."""
        strange = []
        for path in paths:
            found = video(path)
            if found is None:
                strange.append(path)
            else:
                self.add(found)
        self.note_files(strange, f"files whose name is not that of a {group} video, left out")

    def place(self, path: Path) -> str:
        """``path`` for messages: relative to the source, or to a list's folder, if it is inside."""
        base = self.source.parent if self.source.is_file() else self.source
        return one_line(path.relative_to(base).as_posix() if path.is_relative_to(base) else str(path))

    def note_files(self, paths: Iterable[Path], what: str) -> None:
        """Add a note about ``paths``: their number, ``what`` is the matter with them, and the first three."""
        self.note_names([self.place(path) for path in paths], what)

    def note_names(self, names: list[str], what: str) -> None:
        """``note_files`` for names."""
        if names:
            self.notes.append(f"{len(names)} {what}: {one_line(shortened(names))}")

    def unlabelled(self, mark: str) -> dict[str, list[str]]:
        """Folder, as ``place`` names it → the media files in it that belong to no video.

        Args:
            mark: name of a file; what is in and below a folder that has one was made from a source and is none.

        Raises:
            OSError: a folder cannot be listed.
        """
        taken = {path for video in self.videos.values() for path in video.files()}
        if self.searched is not None:
            left = map(Path, tree.left_over(self.searched, taken))
        else:
            known = set(map(os.path.realpath, taken))
            beside = {path.parent for path in taken if path.parent.is_dir()}
            names = ((folder, name) for folder in sorted(beside) for name in tree.names_in(folder)[1])
            left = (
                folder / name
                for folder, name in names
                if name.lower().endswith(tree.MEDIA_SUFFIXES) and os.path.realpath(folder / name) not in known
            )
        found: dict[str, list[str]] = {}
        is_made: dict[Path, bool] = {}
        for path in left:
            folder = path.parent
            if folder not in is_made:
                is_made[folder] = any((above / mark).exists() for above in (folder, *folder.parents[:3]))
            if not is_made[folder]:
                found.setdefault(self.place(folder), []).append(one_line(path.name))
        return found


def is_folder(source: Path, problems: Problems) -> bool:
    """Whether ``source`` is a folder; if not, that is a problem."""
    if not source.is_dir():
        problems.add(f"--source {str(source)!r} is not a folder")
    return source.is_dir()


def did_you_mean(source: Path, is_it: Callable[[Path], bool]) -> str:
    """The end of a message about a wrong source: the first folder in it that would be right, if there is one."""
    inside = next(filter(is_it, folders(source)), None)
    return f"; did you mean {str(inside)!r}?" if inside else f". {what_is_in(source)}"


def what_is_in(source: Path) -> str:
    """A sentence for a refusal: the folders in ``source``, and how many media files are in and below it."""
    names = [path.name for path in folders(source) if not path.name.startswith(".")]
    inside = f"the folders {one_line(shortened(sorted(names), 6))}" if names else "no folders"
    try:
        suffixes = Counter(os.path.splitext(path)[1].lower() for path in tree.left_over(source, ()))
    except OSError as error:
        return f"It has {inside}; {error.filename} cannot be listed: {error.strerror}"
    media = ", ".join(f"{number} {suffix}" for suffix, number in suffixes.most_common(3))
    return f"It has {inside}, and in all {media or 'no videos and no images'}"


def subfolder(folder: Path, name: str) -> Path | None:
    """The folder ``name`` in ``folder``, ignoring case: copies of datasets differ in it."""
    same = [path for path in folders(folder) if path.name.casefold() == name.casefold()]
    return next((path for path in same if path.name == name), same[0] if same else None)


def folders(folder: Path) -> list[Path]:
    """The folders in ``folder``, sorted; none if it does not exist."""
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def video_files(folder: Path | None) -> list[Path]:
    """The video files in ``folder``, or in its ``videos/`` if that exists, sorted.

    Broken links are kept: they name a video that should exist, and are reported when they are opened.
    """
    if folder is None or not folder.is_dir():
        return []
    inner = folder / "videos"
    return sorted(path for path in (inner if inner.is_dir() else folder).iterdir() if is_video(path))


def is_video(path: Path) -> bool:
    """Whether ``path`` has a video's suffix and is neither hidden nor a folder."""
    return path.suffix.lower() in tree.VIDEO_SUFFIXES and not path.name.startswith(".") and not path.is_dir()


def name_parts(path: str) -> list[str]:
    """The parts of a path in a list or JSON file, with either separator."""
    return [part for part in path.strip().replace("\\", "/").split("/") if part not in ("", ".")]


def stem_of(path: str) -> str:
    """The stem of a file name in a list or JSON file."""
    parts = name_parts(path)
    stem = Path(parts[-1]).stem if parts else ""
    # JSON may contain lone surrogates, which a manifest cannot.
    return stem.encode("utf-8", "backslashreplace").decode()


def name_fault(name: str) -> str:
    """Why ``name`` cannot name a folder, on any operating system; empty if it can."""
    if not name:
        return "is empty"
    odd = name.startswith(".") or name.endswith((".", " ")) or not name.isprintable()
    if odd or any(character in '/\\:*?"<>|' for character in name):
        return "cannot be the name of a folder"
    return "is too long for a folder's name" if len(name.encode()) > _N_BYTES else ""


def last_number(path: Path) -> int | None:
    """The last number in the name of a frame's file, its index; None if there is none."""
    match = _LAST_NUMBER.search(path.stem)
    return int(match[1]) if match else None


def as_frames(images: Mapping[Path, int | None]) -> tuple[tuple[int, Path], ...]:
    """The frames of a video that comes as images: by index, or by position if an index is unknown or repeated."""
    indices = list(images.values())
    if None in indices or len(set(indices)) < len(indices):
        return tuple(enumerate(images))
    return tuple(sorted((index, path) for path, index in images.items()))


def joined(people: Iterable[str]) -> str:
    """Identities as the manifest has them: sorted, without repetition, joined by ``+``."""
    return "+".join(sorted(set(people)))


def read_json_object(path: Path, at_most: int = LARGEST) -> dict[str, Any] | str:
    """The object in a JSON file of ``at_most`` so many bytes, or the end of a sentence about why it cannot be used."""
    try:
        return read_json(path, dict, at_most)
    except (Malformed, OSError) as error:
        return f"cannot be used: {fault(error)}"


def read_lines(path: Path) -> list[str] | str:
    """The lines of a text file, or the end of a sentence about why it cannot be used."""
    try:
        return utf8(path).splitlines()
    except (Malformed, OSError) as error:
        return f"cannot be used: {fault(error)}"


def utf8(path: Path, at_most: int = LARGEST) -> str:
    """The content of a text file of ``at_most`` so many bytes.

    Raises:
        OSError: it cannot be read, or is no regular file.
        Malformed: it is not UTF-8; the message names the line.
    """
    content = read_bytes(path, at_most)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Malformed(
            f"line {line} is not UTF-8 (byte {content[error.start]:#04x}): save it as UTF-8"
        ) from None


def shown(text: str) -> str:
    """A value from a file for a message, in quotes and cut where it is long."""
    return repr(text if len(text) <= 60 else text[:57] + "...")


def fault(error: Malformed | OSError) -> str:
    """What is wrong with a file, without its name."""
    return getattr(error, "strerror", None) or str(error)
