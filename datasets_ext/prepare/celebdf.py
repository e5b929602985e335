"""Celeb-DF v1 and v2 as distributed → ``CelebDF1`` and ``CelebDF2``, one environment each.

    <source>/Celeb-real/id<A>_<NNNN>.mp4                  v2: 590 videos of celebrities
    <source>/YouTube-real/<NNNNN>.mp4                     v2: 300 of other people
    <source>/Celeb-synthesis/id<A>_id<B>_<NNNN>.mp4       v2: 5639; recording <NNNN> of A with the face of B
    <source>/List_of_testing_videos.txt                   v2: 518 lines "<label> <folder>/<file>", no header

In the list **1 is real and 0 is fake**, the opposite of all other datasets. The label comes from the folder and the
list is only checked against it. Videos not in the list are the train part; there is no official validation part.
Source: the README of yuezunli/celeb-deepfakeforensics; Li et al., CVPR 2020, arXiv:1909.12962. Licence: on request.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from datasets_ext import manifest
from datasets_ext.prepare.layout import (
    Layout,
    Video,
    did_you_mean,
    is_folder,
    joined,
    name_parts,
    one_line,
    read_lines,
    stem_of,
    subfolder,
    video_files,
    what_is_in,
)
from roga_domainbed.errors import Problems

GROUPS = ("Celeb-real", "YouTube-real", "Celeb-synthesis")
#: Version → name of the dataset.
DATASET_NAMES = {1: "CelebDF1", 2: "CelebDF2"}
LIST = "List_of_testing_videos.txt"

_NAMES = {
    "Celeb-real": re.compile(r"(?P<target>id\d+)_\d+"),
    "YouTube-real": re.compile(r"(?P<target>\d+)"),
    "Celeb-synthesis": re.compile(r"(?P<target>id\d+)_(?P<donor>id\d+)_(?P<take>\d+)"),
}
_FAKES = "Celeb-synthesis"
# v1 has 408 reals; papers say that 158 of them show celebrities.
EXPECTED = {1: (158, 250, 795), 2: (590, 300, 5639)}
_N_LISTED = {2: 518}
_TESTED = {2: (108, 70, 340)}  # in v2's list, in the order of the groups; v1's is unknown
_LINE = re.compile(r"([01])\s+(\S.*)")


@dataclass
class Tests:
    """The list: group → names, lines that cannot be read, and names whose label contradicts their folder."""

    names: dict[str, list[str]] = field(default_factory=lambda: {group: [] for group in _NAMES})
    odd_lines: list[str] = field(default_factory=list)
    contradictions: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return sum(map(len, self.names.values()))


def read(source: str | os.PathLike, version: int, problems: Problems) -> Layout:
    """The videos of version 1 or 2 below ``source``; none is a problem."""
    source = Path(source)
    env = DATASET_NAMES[version]
    layout = Layout(env, source, (env,), dict(zip(_NAMES, EXPECTED[version], strict=True)), searched=source)
    if not is_folder(source, problems):
        return layout
    places = {group: subfolder(source, group) for group in _NAMES}
    if not any(places.values()):
        hint = did_you_mean(source, lambda path: any(subfolder(path, group) for group in _NAMES))
        problems.add(
            f"--source {str(source)!r} is not Celeb-DF as distributed: it has none of the folders "
            f"{', '.join(_NAMES)}{hint}"
        )
        return layout
    tests = read_list(source, version, layout, problems)
    if tests is None:
        layout.notes.append(
            f"there is no {LIST}: the column 'split' is empty; put the list into the source and run again, no video "
            "is cropped again"
        )
    for group, folder in places.items():
        listed = None if tests is None else set(tests.names[group])

        def found(path: Path, group: str = group, listed: set[str] | None = listed) -> Video | None:
            split = "" if listed is None else "test" if path.stem in listed else "train"
            return video(env, group, path.stem, path, split)

        layout.add_files(group, video_files(folder), found)
    if not layout.videos:
        problems.add(
            f"--source {str(source)!r} has no Celeb-DF video: no Celeb-real/id<A>_<NNNN>.mp4, no "
            "YouTube-real/<NNNNN>.mp4 and no Celeb-synthesis/id<A>_id<B>_<NNNN>.mp4"
            + "".join(f"; {note}" for note in layout.notes[:10])
            + f". {what_is_in(source)}"
        )
    return layout


def video(env: str, group: str, name: str, source: Path, split: str) -> Video | None:
    """A video of the folder ``group``, read from its name; None if the name does not match."""
    match = _NAMES[group].fullmatch(name)
    if match is None:
        return None
    fake = group == _FAKES
    people = [match["target"], match["donor"]] if fake else [match["target"]]
    return Video(
        group,
        name,
        source,
        (env,),
        method=_FAKES if fake else "real",
        label=manifest.FAKE if fake else manifest.REAL,
        recording=f"{match['target']}_{match['take']}" if fake else name,
        identities=joined(people),
        split=split,
    )


def read_list(source: Path, version: int, layout: Layout, problems: Problems) -> Tests | None:
    """The list of testing videos in ``source``; None if there is none, or, as a problem, if it cannot be read."""
    same = (path for path in sorted(source.iterdir()) if path.name.casefold() == LIST.casefold())
    path = next(same, None)
    if path is None:
        return None
    lines = read_lines(path)
    if isinstance(lines, str):
        problems.add(f"{path} {lines}")
        return None
    tests = _parsed(lines)
    wanted = _N_LISTED.get(version)
    if wanted is not None and len(tests) != wanted:
        lacking = "" if tests.names["YouTube-real"] else "; it has none of YouTube-real"
        layout.notes.append(f"{LIST} names {len(tests)} videos; the official one has {wanted}{lacking}")
    layout.note_names(tests.odd_lines, f"lines of {LIST} are not '<0 or 1> <folder>/<file>', left out")
    layout.note_names(
        tests.contradictions, f"labels of {LIST} (1 real, 0 fake) contradict the folder, which decides"
    )
    layout.wanted = tests.names
    layout.expected_by_split = {
        group: {"train": whole - tested, "test": tested}
        for group, whole, tested in zip(GROUPS, EXPECTED[version], _TESTED.get(version, ()), strict=False)
    }
    return tests


def _parsed(lines: list[str]) -> Tests:
    tests = Tests()
    groups = {group.casefold(): group for group in _NAMES}
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line:
            continue
        match = _LINE.fullmatch(line)
        parts = name_parts(match[2]) if match else []
        group = next((groups[part.casefold()] for part in parts[:-1] if part.casefold() in groups), None)
        if group is None:
            shown = one_line(line if len(line) <= 60 else line[:57] + "...")
            tests.odd_lines.append(f"line {number} {shown!r}")
            continue
        name = stem_of(match[2])
        if (match[1] == "0") != (group == _FAKES):
            tests.contradictions.append(f"{group}/{name}")
        if name not in tests.names[group]:
            tests.names[group].append(name)
    return tests
