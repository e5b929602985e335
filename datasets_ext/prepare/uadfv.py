"""UADFV as distributed → ``UADFV``, one environment.

    <source>/real/<NNNN>.mp4            49 videos
    <source>/fake/<NNNN>_fake.mp4       49, each made from the real of its number

There is no list and no official split. All fakes are said to show the same celebrity; as nobody has published that by
video, and as it would join all of them into one group, identities hold the number of the recording alone.
Source: Yang, Li and Lyu, ICASSP 2019, arXiv:1811.00661. Licence: on request.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from datasets_ext import manifest
from datasets_ext.prepare.layout import Layout, Video, folders, is_folder, subfolder, video_files
from roga_domainbed.errors import Problems

DATASET_NAME = "UADFV"

_NAMES = {"real": re.compile(r"(\d+)"), "fake": re.compile(r"(\d+)(?:_fake)?")}


def read(source: str | os.PathLike, problems: Problems) -> Layout:
    """The videos below ``source``; adds to ``problems`` if there are none."""
    source = Path(source)
    layout = Layout(DATASET_NAME, source, (DATASET_NAME,), dict.fromkeys(_NAMES, 49))
    if not is_folder(source, problems):
        return layout
    numbers: dict[str, set[str]] = {group: set() for group in _NAMES}
    for group, pattern in _NAMES.items():
        strange = []
        for path in video_files(subfolder(source, group)):
            match = pattern.fullmatch(path.stem)
            if match is None:
                strange.append(path)
                continue
            numbers[group].add(match[1])
            layout.add(
                Video(
                    group,
                    path.stem,
                    path,
                    (DATASET_NAME,),
                    method="real" if group == "real" else "FakeApp",
                    label=manifest.REAL if group == "real" else manifest.FAKE,
                    recording=match[1],
                    identities=match[1],
                )
            )
        layout.note_files(strange, f"files whose name is not that of a {group} video, left out")
    if not layout.videos:
        inside = [path.name for path in folders(source) if subfolder(path, "real") or subfolder(path, "fake")]
        hint = f"; did you mean {str(source / inside[0])!r}?" if inside else ""
        problems.add(f"--source {str(source)!r} has no UADFV video in real/ and fake/{hint}")
    layout.wanted = {
        "real": sorted(numbers["fake"] - numbers["real"]),
        "fake": [f"{number}_fake" for number in sorted(numbers["real"] - numbers["fake"])],
    }
    return layout
