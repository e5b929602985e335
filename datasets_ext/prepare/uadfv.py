"""UADFV as distributed → ``UADFV``, one environment.

    <source>/real/<NNNN>.mp4            49 videos
    <source>/fake/<NNNN>_fake.mp4       49, each made from the real of its number

There is no list and no official split. All fakes show the face of one donor, so a detector may only learn that face:
test on this dataset, do not train on it. ``identities`` has the recording's number only: the donor is not published by
video and would join all fakes into one group.
Source: Yang, Li and Lyu, ICASSP 2019, arXiv:1811.00661. Licence: on request.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from datasets_ext import manifest
from datasets_ext.prepare.layout import Layout, Video, did_you_mean, is_folder, subfolder, video_files
from roga_domainbed.errors import Problems

DATASET_NAME = "UADFV"

_NAMES = {"real": re.compile(r"(\d+)"), "fake": re.compile(r"(\d+)(?:_fake)?")}
EXPECTED = dict.fromkeys(_NAMES, 49)


def read(source: str | os.PathLike, problems: Problems) -> Layout:
    """The videos below ``source``; none is a problem."""
    source = Path(source)
    layout = Layout(DATASET_NAME, source, (DATASET_NAME,), dict(EXPECTED), searched=source)
    if not is_folder(source, problems):
        return layout
    for group in _NAMES:
        layout.add_files(
            group,
            video_files(subfolder(source, group)),
            lambda path, group=group: video(group, path.stem, path),
        )
    if not layout.videos:
        hint = did_you_mean(source, lambda path: any(subfolder(path, group) for group in _NAMES))
        problems.add(
            f"--source {str(source)!r} has no UADFV video: no real/<NNNN>.mp4 and no fake/<NNNN>_fake.mp4{hint}"
        )
    numbers = {
        group: {video.recording for video in layout.videos.values() if video.group == group}
        for group in _NAMES
    }
    layout.wanted = {
        "real": sorted(numbers["fake"] - numbers["real"]),
        "fake": [f"{number}_fake" for number in sorted(numbers["real"] - numbers["fake"])],
    }
    return layout


def video(group: str, name: str, source: Path) -> Video | None:
    """A video of the folder ``group``, read from its name; None if the name does not match."""
    match = _NAMES[group].fullmatch(name)
    if match is None:
        return None
    real = group == "real"
    return Video(
        group,
        name,
        source,
        (DATASET_NAME,),
        method="real" if real else "FakeApp",
        label=manifest.REAL if real else manifest.FAKE,
        recording=match[1],
        identities=match[1],
    )
