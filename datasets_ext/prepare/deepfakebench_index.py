"""DeepfakeBench's JSON index: dataset → label → split → [compression →] video → {"label", "frames": [path, …]}.

Its known irregularities are handled: empty or unsorted lists of frames, backslashes and prefixes of another machine in
paths, records in place of videos. Whatever cannot be read is left out and counted.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from datasets_ext.prepare.layout import name_parts, read_json_object, subfolder
from roga_domainbed.errors import Problems, unknown_name
from roga_domainbed.foreign import one_line
from roga_domainbed.input.tree import IMAGE_SUFFIXES

SPLITS = ("train", "val", "test")

_LARGEST = 2**30  # bytes of an index; that of DFDC names a hundred thousand videos, frame by frame
_COMPRESSIONS = {"raw": "raw", "c0": "raw", "c23": "c23", "c40": "c40"}
_FRAME_INDEX = re.compile(r"[0-9]{1,9}")


@dataclass
class Entry:
    """One video in the index.

    Attributes:
        splits: that list it.
        frames: index → file, which need not exist.
        folders: of its frames, as parts of the path below the dataset's own folder.
    """

    splits: set[str] = field(default_factory=set)
    frames: dict[int, Path] = field(default_factory=dict)
    folders: set[tuple[str, ...]] = field(default_factory=set)


def read_files(
    files: Iterable[str | os.PathLike], known: Iterable[str], problems: Problems
) -> list[tuple[str, dict[str, Any]]]:
    """(dataset, label → …) of every file; a file that is not an index of a known dataset is a problem."""
    known = list(known)
    found = []
    for path in map(Path, files):
        value = read_json_object(path, _LARGEST)
        if isinstance(value, str):
            problems.add(f"--json {str(path)!r} {value}")
            continue
        if not value:
            problems.add(f"--json {str(path)!r} is empty")
        for dataset, labels in value.items():
            if dataset not in known:
                problems.add(f"--json {str(path)!r}: {unknown_name('dataset', dataset, known)}")
            elif not isinstance(labels, dict):
                problems.add(
                    f"--json {str(path)!r}: {dataset} must hold labels; found {one_line(f'{labels!s:.40}')}"
                )
            else:
                found.append((dataset, labels))
    return found


class Index:
    """The index files of one dataset, read together.

    Args:
        believed: splits that are read.
        compression: that is read; None if the index has no compressions.
        places: finds the frames.

    Attributes:
        entries: (label, video) → its entry.
        compressions: those that have videos.
        n_unread: split that is not read → number of its entries.
        odd: kind of fault → names.
    """

    def __init__(self, believed: Iterable[str], compression: str | None, places: Places):
        self.entries: dict[tuple[str, str], Entry] = {}
        self.compressions: set[str] = set()
        self.n_unread: Counter[str] = Counter()
        self.odd: dict[str, list[str]] = {}
        self._believed = tuple(believed)
        self._compression = compression
        self._places = places

    def add(self, labels: dict[str, Any], known: Iterable[str]) -> None:
        """Add the ``known`` labels of one file."""
        for label, by_split in labels.items():
            if label not in known or not isinstance(by_split, dict):
                self.fault("labels are none of this dataset's, left out", label)
                continue
            for split, level in by_split.items():
                where = f"{label}/{split}"
                if split not in self._believed:
                    self._pass_over(split, level, where)
                    continue
                for name, record in self._videos(level, where):
                    self._add_record(label, split, name, record)

    def fault(self, kind: str, name: str) -> None:
        """Record one thing that is left out."""
        names = self.odd.setdefault(kind, [])
        if name not in names[-1:]:  # the frames of a video come one after the other
            names.append(name)

    def _pass_over(self, split: str, level: object, where: str) -> None:
        if split not in SPLITS:
            self.fault("levels are no split, left out", where)
        elif isinstance(level, dict) and level:
            self.n_unread[split] += len(level)

    def _videos(self, level: object, where: str) -> Iterator[tuple[str, Any]]:
        if not isinstance(level, dict):
            self.fault("splits hold no videos, left out", where)
            return
        if self._compression is None:
            yield from level.items()
            return
        for key, videos in level.items():
            compression = _COMPRESSIONS.get(key)
            if compression is None or not isinstance(videos, dict):
                self.fault("levels are no compression, left out", f"{where}/{key}")
                continue
            if videos:
                self.compressions.add(compression)
            if compression == self._compression:
                yield from videos.items()

    def _add_record(self, label: str, split: str, name: str, record: object) -> None:
        frames = record.get("frames") if isinstance(record, dict) else None
        if not isinstance(frames, list):
            self.fault("entries are no record of a video, left out", f"{label}/{split}/{name}")
        elif name_parts(name) != [name] or name == "..":  # it becomes a folder
            self.fault("entries have a name that cannot be a folder's, left out", f"{label}/{split}/{name}")
        elif record.get("label", label) != label:
            self.fault("videos have another label inside their record, left out", f"{label}/{name}")
        else:
            entry = self.entries.setdefault((label, name), Entry())
            entry.splits.add(split)
            for text in frames:
                self._add_frame(entry, label, name, text)

    def _add_frame(self, entry: Entry, label: str, name: str, text: object) -> None:
        parts = tuple(name_parts(text)) if isinstance(text, str) else ()
        file = Path(parts[-1] if parts else "")
        inside = self._places.inside(parts[:-1])
        if (
            not inside
            or not self._places.is_below(parts)
            or "\0" in text
            or file.suffix.lower() not in IMAGE_SUFFIXES
        ):
            self.fault("videos name frames that are no image files, those are left out", f"{label}/{name}")
        elif not _FRAME_INDEX.fullmatch(file.stem):
            self.fault("videos name images that no frame index names, those are left out", f"{label}/{name}")
        elif inside[-1] != name:
            self.fault("videos name frames of another video, those are left out", f"{label}/{name}")
        else:
            entry.folders.add(inside)
            entry.frames.setdefault(int(file.stem), self._places.folder(parts[:-1]) / file.name)


class Places:
    """Finds the index's frames on this machine.

    Args:
        source: the folder that contains the dataset's folder, or that folder itself.
        root: name of that folder, ignoring case.
    """

    def __init__(self, source: Path, root: str):
        self._source = source
        self._root = root.casefold()
        self.folder = cache(self._folder)
        self._existing = cache(self._find_existing)

    @property
    def root(self) -> Path:
        """The dataset's own folder; the source itself if that has no such folder."""
        return subfolder(self._source, self._root) or self._source

    def inside(self, parts: tuple[str, ...]) -> tuple[str, ...]:
        """The parts below the dataset's own folder (the last part of that name); all if there is none."""
        starts = [i for i, part in enumerate(parts) if part.casefold() == self._root]
        return parts[starts[-1] + 1 :] if starts else parts

    def is_below(self, parts: tuple[str, ...]) -> bool:
        """Whether the path stays below the dataset's own folder, wherever that begins."""
        starts = [i for i, part in enumerate(parts) if part.casefold() == self._root]
        return ".." not in parts[starts[0] if starts else 0 :]

    def _folder(self, parts: tuple[str, ...]) -> Path:
        """The folder on this machine; if there is none, the one where it should be."""
        starts = [i for i, part in enumerate(parts) if part.casefold() == self._root]
        tails = [parts[i + 1 :] for i in starts] or [parts]
        existing = (self._existing(tail) for tail in tails)
        return next(filter(None, existing), self.root.joinpath(*tails[-1]))

    def _find_existing(self, parts: tuple[str, ...]) -> Path | None:
        # Folder by folder, cached: copies differ in case, and thousands of videos share the first folders.
        if not parts:
            return self.root
        above = self._existing(parts[:-1])
        if above is None:
            return None
        exact = above / parts[-1]
        if exact.is_dir():
            return exact
        return None if above.name in ("frames", "images") else subfolder(above, parts[-1])
