"""DFDC as distributed → ``DFDC``, one environment: any of the 50 train parts, the validation and the test videos.

    <source>/dfdc_train_part_<n>/<ten letters>.mp4 and metadata.json     file → label REAL or FAKE, original
    <source>/test/[videos/]<name>.mp4 and labels.csv                     filename, label: 1 is fake
    <source>/test/[videos/]<name>.mp4 and metadata.json                  file → is_fake 0 or 1

Any folder with a ``metadata.json`` or a ``labels.csv`` is a part: the source itself, or one below it. Labels come from
these files only: a video that they do not name, or name with two different labels, is left out. The people are not
published; a fake's recording is its ``original``. Few copies have the validation videos.
Source: Dolhansky et al., arXiv:2006.07397.
"""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from datasets_ext import manifest
from datasets_ext.prepare.layout import (
    Layout,
    Video,
    fault,
    is_folder,
    read_json_object,
    stem_of,
    utf8,
    video_files,
    what_is_in,
)
from roga_domainbed.errors import Problems, shortened
from roga_domainbed.foreign import Malformed
from roga_domainbed.input import tree

DATASET_NAME = "DFDC"
METADATA, LABELS = "metadata.json", "labels.csv"

#: Group → videos in the whole dataset.
EXPECTED = {
    "train real": 19154,
    "train fake": 100000,
    "val real": 2000,
    "val fake": 2000,
    "test real": 2500,
    "test fake": 2500,
}
_LONGEST = 200  # characters of the name of an original
_SPLITS = {"train": "train", "validation": "val", "val": "val", "test": "test"}
_WORDS = {"real": manifest.REAL, "0": manifest.REAL, "fake": manifest.FAKE, "1": manifest.FAKE}


@dataclass(frozen=True)
class Entry:
    """One video in a label file."""

    label: int
    split: str
    original: str = ""


def read(source: str | os.PathLike, problems: Problems) -> Layout:
    """The videos below ``source``; none is a problem."""
    source = Path(source)
    layout = Layout(DATASET_NAME, source, (DATASET_NAME,), dict(EXPECTED), searched=source)
    if not is_folder(source, problems):
        return layout
    parts = list(_parts(source))
    without_original: list[Path] = []
    for part in parts:
        _add_part(part, layout, without_original)
    layout.note_files(
        without_original, "fakes of the train parts have no original, each counts as a recording of its own"
    )
    if not parts:
        problems.add(
            f"--source {str(source)!r} is not DFDC as distributed: neither it nor a folder below it has a {METADATA} "
            f"or a {LABELS} with the labels. {what_is_in(source)}"
        )
    elif not layout.videos:
        reasons = "; ".join(layout.notes[:10]) or "the videos that they name are missing"
        parts_read = shortened(map(layout.place, parts))
        problems.add(
            f"no video with a label in {str(source)!r}, by the {METADATA} or {LABELS} of {parts_read}: {reasons}. "
            f"{what_is_in(source)}"
        )
    layout.expected = asked_for(layout.wanted)
    return layout


def _parts(source: Path) -> Iterator[Path]:
    for folder, _ in tree.walk(source):
        if any(os.path.lexists(os.path.join(folder, name)) for name in (METADATA, LABELS)):
            yield Path(folder)


def _add_part(part: Path, layout: Layout, without_original: list[Path]) -> None:
    entries, contradicted = entries_of(part, layout)
    unlabelled, denied = [], []
    for path in video_files(part):
        entry = entries.get(path.stem)
        if path.stem in contradicted:
            denied.append(path)
        elif entry is None:
            unlabelled.append(path)
        else:
            if entry.split == "train" and entry.label == manifest.FAKE and not entry.original:
                without_original.append(path)
            layout.add(video(path.stem, path, entry))
    layout.note_files(unlabelled, "videos have no label, left out")
    layout.note_files(denied, "videos have two different labels, left out")
    for stem, entry in entries.items():
        layout.wanted.setdefault(_group(entry), []).append(stem)


def video(name: str, source: Path, entry: Entry) -> Video:
    """The video of an entry."""
    real = entry.label == manifest.REAL
    return Video(
        _group(entry),
        name,
        source,
        (DATASET_NAME,),
        method="real" if real else "DFDC",
        label=entry.label,
        recording=name if real else entry.original or name,
        split=entry.split,
    )


def _group(entry: Entry) -> str:
    return f"{entry.split} {'real' if entry.label == manifest.REAL else 'fake'}"


def asked_for(wanted: dict[str, list[str]]) -> dict[str, int | None]:
    """The published counts of those splits that the source has; few copies have all of them."""
    there = Counter(group.split()[0] for group, names in wanted.items() if names)
    shown = {group: number for group, number in EXPECTED.items() if group.split()[0] in there}
    return shown or dict(EXPECTED)


def entries_of(part: Path, layout: Layout) -> tuple[dict[str, Entry], set[str]]:
    """Stem → entry, and the stems that have two different labels in the part's files."""
    found: dict[str, Entry] = {}
    contradicted: set[str] = set()
    for path, read_file in ((part / METADATA, _metadata), (part / LABELS, _labels)):
        if not os.path.lexists(path):
            continue
        odd: list[str] = []
        for stem, entry in read_file(path, layout, odd):
            if stem in found and found[stem].label != entry.label:
                contradicted.add(stem)
            found.setdefault(stem, entry)
        layout.note_names(odd, f"entries of {layout.place(path)} have no label, left out")
    return {stem: entry for stem, entry in found.items() if stem not in contradicted}, contradicted


def _metadata(path: Path, layout: Layout, odd: list[str]) -> Iterator[tuple[str, Entry]]:
    value = read_json_object(path)
    if isinstance(value, str):
        layout.notes.append(f"{layout.place(path)} {value}; it gives no labels")
        return
    for name, entry in value.items():
        fields = entry if isinstance(entry, dict) else {}
        is_test = "label" not in fields
        label = _label(fields.get("is_fake") if is_test else fields.get("label"))
        original = stem_of(str(fields.get("original") or ""))
        if label is None or not stem_of(name) or not original.isprintable() or len(original) > _LONGEST:
            odd.append(name)
            continue
        split = _SPLITS.get(str(fields.get("split", "")).lower(), "test" if is_test else "train")
        yield stem_of(name), Entry(label, split, original)


def _labels(path: Path, layout: Layout, odd: list[str]) -> Iterator[tuple[str, Entry]]:
    reader = None
    try:
        reader = csv.DictReader(io.StringIO(utf8(path), newline=""))
        if not {"filename", "label"} <= set(reader.fieldnames or ()):
            layout.notes.append(f"{layout.place(path)} lacks the columns filename, label; it gives no labels")
            return
        for row in reader:
            label = _label(row["label"])
            if label is None or not stem_of(row["filename"] or ""):
                odd.append(f"line {reader.line_num} ({row['filename'] or 'no name'})")
            else:
                yield stem_of(row["filename"]), Entry(label, "test")
    except csv.Error as error:
        line = reader.line_num + 1 if reader else 1
        layout.notes.append(f"{layout.place(path)} cannot be read from line {line} on: {error}")
    except (Malformed, OSError) as error:
        layout.notes.append(f"{layout.place(path)} cannot be used: {fault(error)}; it gives no labels")


def _label(value: object) -> int | None:
    """0 or 1 for REAL, FAKE, 0, 1, false, true, as text or not; None for anything else, such as 0.5."""
    if isinstance(value, bool | float) and value in (0, 1):
        value = int(value)
    return _WORDS.get(str(value).strip().lower())
