"""The DFDC preview as distributed → ``DFDCP``, one environment.

    <source>/original_videos/<P>/<P>_<L>_<nnn>.mp4                       1131 videos of the person P
    <source>/method_{A,B}/<T>/<T>_<L>/<W>_<T>_<L>_<nnn>.mp4              4119; T's recording with the face of W
    <source>/dataset.json                                                path → label, set (train or test), …

The source may also be the folder that contains ``dfdc_preview_set/``. Videos are found at any depth. The label comes
from the top folder; if the json contradicts it, the video is left out. Both methods may have a video of the same name,
so a fake's key begins with its method. There is no official validation part.
Source: Dolhansky et al., arXiv:1910.08854.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from datasets_ext import manifest
from datasets_ext.prepare.layout import (
    Layout,
    Video,
    is_folder,
    joined,
    name_parts,
    read_json_object,
    stem_of,
    subfolder,
    what_is_in,
)
from roga_domainbed.errors import Problems
from roga_domainbed.input import tree

DATASET_NAME = "DFDCP"
LIST = "dataset.json"

#: Group → videos. How many of the 4119 fakes belong to which method is not published.
EXPECTED: dict[str, int | None] = {"original_videos": 1131, "method_A": None, "method_B": None}

_REALS = "original_videos"
_GROUPS = (_REALS, "method_A", "method_B")
_REAL_STEM = re.compile(r"(?P<target>\d+)_[A-Za-z]+_\d+")
_FAKE_STEM = re.compile(r"(?P<donor>\d+)_(?P<recording>(?P<target>\d+)_[A-Za-z]+_\d+)")
_SPLITS = {"train", "val", "test"}


def read(source: str | os.PathLike, problems: Problems) -> Layout:
    """The videos below ``source``; none is a problem."""
    source = Path(source)
    layout = Layout(DATASET_NAME, source, (DATASET_NAME,), dict(EXPECTED), searched=source)
    if not is_folder(source, problems):
        return layout
    root = subfolder(source, "dfdc_preview_set") or source
    entries = _read_list(root, layout)
    for group in _GROUPS:
        _add_group(group, root, entries, layout)
    if not layout.videos:
        problems.add(
            f"--source {str(source)!r} has no DFDC-preview video: no {_REALS}/…/<P>_<L>_<nnn>.mp4 and no "
            f"method_A/… or method_B/…/<W>_<T>_<L>_<nnn>.mp4, neither in it nor in its dfdc_preview_set/"
            + "".join(f"; {note}" for note in layout.notes[:10])
            + f". {what_is_in(source)}"
        )
    return layout


def _add_group(group: str, root: Path, entries: dict[tuple[str, str], dict], layout: Layout) -> None:
    strange, contradicted, unlisted = [], [], []
    for path in _files_below(root, group):
        found = video(group, path.stem, path)
        if found is None:
            strange.append(path)
            continue
        entry = entries.get((group, path.stem))
        if entry is None:
            unlisted.append(path)
            entry = {}
        label = str(entry.get("label", "")).lower()
        if label in ("real", "fake") and (label == "real") != (group == _REALS):
            contradicted.append(path)
            continue
        split = str(entry.get("set", "")).lower()
        layout.add(replace(found, split=split if split in _SPLITS else ""))
    layout.note_files(strange, f"files whose name is not that of a {group} video, left out")
    layout.note_files(contradicted, f"videos of {group} have the other label in {LIST}, left out")
    if entries:
        layout.note_files(unlisted, f"videos of {group} are not in {LIST}, their 'split' is empty")


def video(group: str, stem: str, source: Path) -> Video | None:
    """A video of the folder ``group``, read from its stem; None if the stem does not match."""
    real = group == _REALS
    match = (_REAL_STEM if real else _FAKE_STEM).fullmatch(stem)
    if match is None:
        return None
    return Video(
        group,
        _name(group, stem),
        source,
        (DATASET_NAME,),
        method="real" if real else group,
        label=manifest.REAL if real else manifest.FAKE,
        recording=stem if real else match["recording"],
        identities=match["target"] if real else joined([match["target"], match["donor"]]),
    )


def _name(group: str, stem: str) -> str:
    return stem if group == _REALS else f"{group}-{stem}"


def _files_below(root: Path, group: str) -> list[Path]:
    folder = subfolder(root, group)
    others = filter(None, (subfolder(root, other) for other in _GROUPS if other != group))
    return [] if folder is None else list(map(Path, tree.files_below(folder, tree.VIDEO_SUFFIXES, others)))


def _read_list(root: Path, layout: Layout) -> dict[tuple[str, str], dict[str, Any]]:
    """(top folder, stem) → the list's entry."""
    path = root / LIST
    value = read_json_object(path) if os.path.lexists(path) else "is missing"
    if isinstance(value, str):
        layout.notes.append(
            f"{LIST} {value}; labels come from the folders and the column 'split' is empty: fix it and run again, no "
            "video is cropped again"
        )
        return {}
    groups = {group.casefold(): group for group in _GROUPS}
    entries, odd = {}, []
    for key, entry in value.items():
        group = next((groups[part.casefold()] for part in name_parts(key) if part.casefold() in groups), None)
        if group is None or not isinstance(entry, dict):
            odd.append(key)
        else:
            entries[group, stem_of(key)] = entry
    layout.expected_by_split = {_REALS: {"train": 855, "test": 276}}
    layout.note_names(odd, f"entries of {LIST} name no video of {', '.join(_GROUPS)}, left out")
    for group in _GROUPS:
        layout.wanted[group] = [_name(group, stem) for top, stem in entries if top == group]
    return entries
