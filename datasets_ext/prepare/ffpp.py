"""FaceForensics++ as distributed → ``FFPP``, ``FFPP_c40`` or ``FFPP_raw``: crops, manifest and report.

Each environment has its own fakes and all reals: the four manipulations share their originals. FaceShifter, a fifth
manipulation of the same reals, has the same names and the same official split; it becomes a dataset of its own.
"""

from __future__ import annotations

import os
from pathlib import Path

from datasets_ext import manifest
from datasets_ext.prepare import ffpp_layout as names
from datasets_ext.prepare import ffpp_splits
from datasets_ext.prepare.layout import Layout, Video
from roga_domainbed.errors import Problems, unknown_name


def read(
    source: str | os.PathLike,
    compression: str,
    splits: str | os.PathLike | None,
    problems: Problems,
    part: names.Part = names.FFPP,
) -> Layout:
    """The videos of one compression.

    Args:
        source: the folder with ``original_sequences`` and ``manipulated_sequences``.
        compression: c23, c40 or raw.
        splits: the folder of train.json, val.json and test.json; searched for below ``source`` if None.
        problems: collects what is wrong with these.
        part: the four methods, or FaceShifter.
    """
    source = Path(source)
    check_compression(compression, problems)
    found, notes = names.find(source, part, compression, problems)
    lists = ffpp_splits.find(source, None if splits is None else Path(splits), problems)
    layout = Layout(
        part.tree(compression),
        source,
        tuple(part.methods),
        dict(part.expected),
        compression,
        wanted=_wanted(part, found, lists),
        split_pairs={name: len(pairs) for name, pairs in lists.pairs.items()},
        searched=source,
        notes=notes + lists.notes,
    )
    for group, videos in found.items():
        for stem, path in videos.items():
            layout.add(video(part, group, stem, path, lists.of(stem)))
    if lists.folder is None:
        layout.notes.append(
            "no split lists (train.json, val.json, test.json) were found: the column 'split' is empty; run again "
            "with --splits DIR, no video is cropped again"
        )
    else:
        layout.expected_by_split = {group: lists.n_videos() for group in layout.expected}
        unlisted = [video.key for video in layout.videos.values() if not video.split]
        layout.note_names(unlisted, "videos are in no split list, their 'split' is empty")
    return layout


def video(part: names.Part, group: str, stem: str, source: Path, split: str) -> Video:
    """A video of the class ``group``, read from its name."""
    real = group == names.REAL
    return Video(
        group,
        stem,
        source,
        envs=tuple(env for env, method in part.methods.items() if real or method == group),
        method=group,
        label=manifest.REAL if real else manifest.FAKE,
        recording=names.recording(stem),
        identities=names.identities(stem),
        split=split,
    )


def check_compression(compression: str, problems: Problems) -> None:
    """Raise ``RogaError`` if there is no such compression."""
    if compression not in names.COMPRESSIONS:
        problems.add(unknown_name("compression", compression, names.COMPRESSIONS))
        problems.check()


def _wanted(
    part: names.Part, found: dict[str, dict[str, Path]], lists: ffpp_splits.Splits
) -> dict[str, list[str]]:
    """Class → stems that should exist: reals by number; fakes from the lists, else from the other methods."""
    methods = list(part.methods.values())
    fakes = lists.fakes() or sorted({stem for method in methods for stem in found.get(method, ())})
    wanted = {names.REAL: [f"{number:03d}" for number in range(part.n_expected[0])]}
    return wanted | dict.fromkeys(methods, fakes)
