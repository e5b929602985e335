"""Any videos or images, listed in a CSV file → a dataset of crops.

The columns ``path``, ``env``, ``label`` (0 or real, 1 or fake) and ``video`` are required. ``recording``,
``identities`` (joined by ``+``), ``split`` (train, val, test), ``method`` and, for images, ``frame`` are optional.
A line is a video file or an image; the images of one env, label and video are its frames. Their index is the column
``frame``, else the last number in the file's name, else the position in the list. A path may be relative to the list's
folder and have either separator. Wrong lines are skipped and named; a video that is no longer listed is removed from
the dataset. With ``--link`` images are taken as they are, for crops made elsewhere.
"""

from __future__ import annotations

import csv
import io
import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path, PureWindowsPath

from datasets_ext import manifest
from datasets_ext.prepare.folder import RESERVED
from datasets_ext.prepare.layout import (
    Layout,
    Video,
    as_frames,
    fault,
    joined,
    last_number,
    name_fault,
    shown,
    utf8,
)
from roga_domainbed.errors import Problems
from roga_domainbed.foreign import Malformed
from roga_domainbed.input.tree import IMAGE_SUFFIXES

COLUMNS = ("path", "env", "label", "video")
OPTIONAL_COLUMNS = ("recording", "identities", "split", "method", "frame")

_LABELS = {"0": manifest.REAL, "real": manifest.REAL, "1": manifest.FAKE, "fake": manifest.FAKE}
_CLASSES = ("real", "fake")
_LONGEST_TEXT = 1000  # bytes of a cell of the manifest
_LARGEST = 2**28  # bytes of a list: some million lines


@dataclass
class _Images:
    """A video whose lines are images.

    Attributes:
        video: from its first line.
        frames: file → index, or None if unknown; in the order of the list.
    """

    video: Video
    frames: dict[Path, int | None] = field(default_factory=dict)

    def whole(self) -> Video:
        """The video with its frames."""
        return replace(self.video, frames=as_frames(self.frames))


def read(path: str | os.PathLike, name: str, problems: Problems, only_images: bool = False) -> Layout:
    """The videos in the list.

    Args:
        path: the CSV file.
        name: of the dataset: its folder below ``--data_dir``.
        problems: collects what is wrong with these; wrong lines become notes of the layout.
        only_images: skip video files (``--link``).
    """
    path = Path(path)
    layout = Layout(name, path, (), {}, complete=True)
    wrong = name_fault(name)
    if wrong:
        problems.add(f"--name {name!r} {wrong}")
    rows = _rows(path, problems)
    faults: list[str] = []
    of_images: dict[str, _Images] = {}
    for line, row in rows:
        wrong = _fault(row, only_images) or _take(row, path.parent, layout, of_images)
        if wrong:
            faults.append(f"line {line} {wrong}")
    for found in of_images.values():
        layout.add(found.whole())
    _leave_out_both_labels(layout)
    envs = dict.fromkeys(env for video in layout.videos.values() for env in video.envs)
    layout.envs = tuple(envs)
    layout.expected = {f"{env} {word}": 0 for env in envs for word in _CLASSES}
    for video in layout.videos.values():
        layout.expected[video.group] += 1
    layout.note_names(faults, "lines are wrong, left out")
    if not rows or not layout.videos:
        if not problems.messages:
            reasons = "; ".join(layout.notes) or "it has no line below its first"
            problems.add(f"{path} lists no usable video: {reasons}")
    elif "recording" not in rows[0][1]:
        layout.notes.append(
            "the list has no column 'recording': each video counts as a recording of its own, so --split group may "
            "separate a fake from the video that it was made from"
        )
    return layout


def _take(row: dict[str, str], folder: Path, layout: Layout, of_images: dict[str, _Images]) -> str:
    """Add the line's video or image; returns what is wrong with it, empty if nothing."""
    video = _video(folder, row)
    is_image = video.source.suffix.lower() in IMAGE_SUFFIXES
    if video.key in layout.videos or (video.key in of_images and not is_image):
        return f"names {video.key} again"
    if not is_image:
        layout.add(video)
        return ""
    found = of_images.setdefault(video.key, _Images(video))
    if video != replace(found.video, source=video.source):
        return f"contradicts earlier lines of {video.key}"
    if video.source in found.frames:
        return f"names {row['path']} of {video.key} again"
    number = row.get("frame")
    found.frames[video.source] = int(number) if number else last_number(video.source)
    return ""


def _rows(path: Path, problems: Problems) -> list[tuple[int, dict[str, str]]]:
    """Line number and stripped fields of each line; empty, with a problem, if the file cannot be used."""
    reader = None
    try:
        text = utf8(path, _LARGEST)
        delimiter = max(",;\t", key=text.partition("\n")[0].count)
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
        fields = [field.strip().lower() for field in reader.fieldnames or ()]
        missing = [column for column in COLUMNS if column not in fields]
        if missing:
            problems.add(
                f"--list {str(path)!r} lacks the columns {', '.join(missing)}; its first line must name "
                f"{', '.join(COLUMNS)} and may name {', '.join(OPTIONAL_COLUMNS)}"
            )
            return []
        reader.fieldnames = fields
        return [(reader.line_num, _stripped(row)) for row in reader]
    except csv.Error as error:
        line = reader.line_num + 1 if reader else 1
        problems.add(f"--list {str(path)!r} cannot be read from line {line} on: {error}")
    except (Malformed, OSError) as error:
        problems.add(f"--list {str(path)!r} cannot be used: {fault(error)}")
    return []


def _stripped(row: dict) -> dict[str, str]:
    # csv fills missing fields with None and collects extra ones under the key None.
    return {key: (value or "").strip() for key, value in row.items() if key is not None}


def _fault(row: dict[str, str], only_images: bool) -> str:
    """What is wrong with the line; empty if nothing."""
    if row["label"].lower() not in _LABELS:
        return f"has the label {shown(row['label'])}, which is none of 0, real, 1, fake"
    if not row["path"] or "\0" in row["path"]:
        return "has no path"
    for column in ("env", "video"):
        wrong = name_fault(row[column])
        if wrong:
            return f"has the {column} {shown(row[column])}, which {wrong}"
    if row["env"] in RESERVED:
        return f"has the env {row['env']!r}, which is the name of a file of the dataset"
    for column in ("recording", "identities", "method"):
        text = row.get(column, "")
        if not text.isprintable() or len(text.encode()) > _LONGEST_TEXT:
            return (
                f"has the {column} {shown(text)}, which cannot be printed or is over {_LONGEST_TEXT:,} bytes"
            )
    if row.get("split", "").lower() not in ("", *manifest.SPLITS):
        return f"has the split {shown(row['split'])}, which is none of {', '.join(manifest.SPLITS)}"
    if not re.fullmatch(r"[0-9]{0,9}", row.get("frame", "")):
        return f"has the frame {shown(row['frame'])}, which is no index"
    if only_images and Path(row["path"]).suffix.lower() not in IMAGE_SUFFIXES:
        return "is not an image; --link takes images only"
    return ""


def _video(folder: Path, row: dict[str, str]) -> Video:
    label = _LABELS[row["label"].lower()]
    return Video(
        f"{row['env']} {_CLASSES[label]}",
        row["video"],
        _located(folder, row["path"]),
        (row["env"],),
        method=row.get("method") or _CLASSES[label],
        label=label,
        recording=row.get("recording") or row["video"],
        identities=joined(filter(None, (person.strip() for person in row.get("identities", "").split("+")))),
        split=row.get("split", "").lower(),
    )


def _located(folder: Path, path: str) -> Path:
    found = folder / path
    other = folder / PureWindowsPath(path).as_posix()
    return other if other != found and not found.exists() and other.exists() else found


def _leave_out_both_labels(layout: Layout) -> None:
    """Leave out files that are listed both as real and as fake."""
    labels: dict[Path, set[int]] = {}
    for video in layout.videos.values():
        for path in _files(video):
            labels.setdefault(path, set()).add(video.label)
    both = {path for path, found in labels.items() if len(found) > 1}
    layout.note_files(sorted(both), "files are listed as real and as fake, left out")
    for key, video in list(layout.videos.items()):
        if both.isdisjoint(_files(video)):
            continue
        left = tuple(item for item in video.frames or () if item[1] not in both)
        if left:
            layout.videos[key] = replace(video, frames=left)
        else:
            del layout.videos[key]


def _files(video: Video) -> list[Path]:
    return [video.source] if video.frames is None else [path for _, path in video.frames]
