"""DeepFakeDetection (DFD), which comes in FaceForensics++'s download, → ``DFD``, ``DFD_c40`` or ``DFD_raw``.

Actors talk, walk and argue in 16 scenes. Often two are in the picture and one of them is forged. If a fake has a mask
video, the face that the mask marks is cut out, and frames without a marked face are dropped. Otherwise the largest face
is taken, which may be the untouched actor's. There is no official split.
Source: the README of ondyari/FaceForensics; Dufour and Gully, 2019. Licence: the authors' terms of use, by their form.
"""

from __future__ import annotations

import os
from pathlib import Path

from datasets_ext import manifest
from datasets_ext.prepare import ffpp_layout as names
from datasets_ext.prepare.ffpp import check_compression
from datasets_ext.prepare.layout import Layout, Video, joined
from roga_domainbed.errors import Problems

_PART = names.DFD
_METHOD = _PART.methods["DFD"]


def read(source: str | os.PathLike, compression: str, problems: Problems) -> Layout:
    """The videos of one compression; the arguments are those of ``ffpp.read``."""
    source = Path(source)
    check_compression(compression, problems)
    found, notes = names.find(source, _PART, compression, problems)
    masks = names.masks(source, _METHOD)
    layout = Layout(
        _PART.tree(compression),
        source,
        tuple(_PART.methods),
        dict(_PART.expected),
        compression,
        searched=source,
        notes=notes,
    )
    for group, videos in found.items():
        for stem, path in videos.items():
            layout.add(video(group, stem, path, masks.get(stem)))
    fakes = [fake for fake in layout.videos.values() if fake.label == manifest.FAKE]
    layout.note_names(
        [fake.name for fake in fakes if fake.mask is None],
        "fakes have no mask video: their largest face is taken, which may not be the forged one",
    )
    reals = found.get(names.REAL, {})
    layout.wanted = {names.REAL: sorted({fake.recording for fake in fakes} - set(reals))}
    return layout


def video(group: str, stem: str, source: Path, mask: Path | None = None) -> Video:
    """A video of the class ``group``, read from its name."""
    real = group == names.REAL
    match = _PART.stems[not real].fullmatch(stem)
    people = [match["target"]] if real else [match["target"], match["donor"]]
    return Video(
        group,
        stem,
        source,
        envs=tuple(_PART.methods),
        method=group,
        label=manifest.REAL if real else manifest.FAKE,
        recording=f"{match['target']}__{match['scene']}",
        identities=joined(people),
        mask=mask,
    )
