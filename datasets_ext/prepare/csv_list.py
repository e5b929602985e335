"""Any videos, listed in a CSV file, → a dataset of crops.

The columns ``path``, ``env``, ``label`` (0 or real, 1 or fake) and ``video`` are needed; ``recording``,
``identities`` (joined by ``+``), ``split`` (train, val, test) and ``method`` are used where they are there. One line is
one video file; a path may be relative to the list's folder and have either separator. A line that is wrong is left out
and named; a video that is no longer listed is taken away.
"""

from __future__ import annotations

import csv
import os
from pathlib import Path, PureWindowsPath

from datasets_ext import manifest
from datasets_ext.prepare.layout import Layout, Video, joined
from roga_domainbed.errors import Problems

COLUMNS = ("path", "env", "label", "video")
OPTIONAL_COLUMNS = ("recording", "identities", "split", "method")

_LABELS = {"0": manifest.REAL, "real": manifest.REAL, "1": manifest.FAKE, "fake": manifest.FAKE}
_CLASSES = ("real", "fake")
_N_BYTES = 200  # file systems allow 255 in a name


def read(path: str | os.PathLike, name: str, problems: Problems) -> Layout:
    """The videos in the list.

    Args:
        path: the CSV file.
        name: of the dataset: its folder below ``--data_dir``.
        problems: gets what is wrong with these; faults of single lines are notes of the layout.
    """
    path = Path(path)
    layout = Layout(name, path, (), {}, complete=True)
    fault = _name_fault(name)
    if fault:
        problems.add(f"--name {name!r} {fault}")
    rows = _rows(path, problems)
    faults: list[str] = []
    for line, row in rows:
        fault = _fault(row)
        if fault:
            faults.append(f"line {line} {fault}")
            continue
        video = _video(path.parent, row)
        if video.key in layout.videos:
            faults.append(f"line {line} names {video.key} again")
        else:
            layout.add(video)
    _leave_out_both_labels(layout)
    envs = dict.fromkeys(env for video in layout.videos.values() for env in video.envs)
    layout.envs = tuple(envs)
    layout.expected = {f"{env} {word}": 0 for env in envs for word in _CLASSES}
    for video in layout.videos.values():
        layout.expected[video.group] += 1
    layout.note_names(faults, "lines are wrong, left out")
    if not rows or not layout.videos:
        if not problems.messages:
            problems.add(f"{path} lists no usable video" + (f": {'; '.join(faults[:3])}" if faults else ""))
    elif "recording" not in rows[0][1]:
        layout.notes.append(
            "the list has no column 'recording': each video counts as a recording of its own, so a fake and what it "
            "was made from can stand on two sides of --split group"
        )
    return layout


def _rows(path: Path, problems: Problems) -> list[tuple[int, dict[str, str]]]:
    """Line number and stripped fields of each line; empty, with a problem, if the file is no such list."""
    if not path.is_file():
        problems.add(f"--list {str(path)!r} is not a file")
        return []
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            delimiter = max(",;\t", key=first.count)
            reader = csv.DictReader(file, delimiter=delimiter)
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
    except (UnicodeDecodeError, csv.Error) as error:
        problems.add(f"--list {str(path)!r} cannot be read as a CSV file in UTF-8: {error}")
        return []


def _stripped(row: dict) -> dict[str, str]:
    # A line with too few fields has None in the others; one with too many has them under the key None.
    return {key: (value or "").strip() for key, value in row.items() if key is not None}


def _fault(row: dict[str, str]) -> str:
    """Why the line cannot be used; empty if it can."""
    if row["label"].lower() not in _LABELS:
        return f"has the label {row['label']!r}, which is none of 0, real, 1, fake"
    if not row["path"] or "\0" in row["path"]:
        return "has no path"
    for column in ("env", "video"):
        fault = _name_fault(row[column])
        if fault:
            return f"has the {column} {row[column]!r}, which {fault}"
    if row.get("split", "").lower() not in ("", *manifest.SPLITS):
        return f"has the split {row['split']!r}, which is none of {', '.join(manifest.SPLITS)}"
    return ""


def _name_fault(name: str) -> str:
    """Why ``name`` cannot be that of a folder, here and on other systems; empty if it can."""
    if not name:
        return "is empty"
    if name.startswith(".") or any(character in '/\\:*?"<>|' for character in name) or not name.isprintable():
        return "cannot be the name of a folder"
    return "is too long for a folder's name" if len(name.encode()) > _N_BYTES else ""


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
    """Leave out files that are listed as real and as fake: one of the two is wrong, and nobody can say which."""
    labels: dict[Path, set[int]] = {}
    for video in layout.videos.values():
        labels.setdefault(video.source, set()).add(video.label)
    both = sorted(path for path, found in labels.items() if len(found) > 1)
    layout.note_files(both, "files are listed as real and as fake, left out")
    for key in [key for key, video in layout.videos.items() if len(labels[video.source]) > 1]:
        del layout.videos[key]
