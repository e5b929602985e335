"""Your own pictures and videos in plain folders → a dataset.

    <source>/<environment>/<real>/…        for example  faces/blur/real/ann.png
    <source>/<environment>/<fake>/…                     faces/blur/fake/ann.png

The folders in the source are the environments; a source that has the class folders itself is one environment. The name
of a folder says which class it is (real, original, genuine, bona fide, …; fake, synthetic, forged, spoof, not_real, …),
or --real NAME and --fake NAME say it. An image that lies in a class folder is a video of its own; images in a folder
within it are the frames of one video. Their index is the last number in a file's name, else the position in the folder.
Videos of one name, in whichever class and environment, count as one recording, so that --split group keeps a fake with
what it was made from. Without --link, faces are cut out of images and videos; with it, images are taken as they are.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

from datasets_ext.class_folders import class_folders, names_below
from datasets_ext.prepare.folder import RESERVED
from datasets_ext.prepare.identities import Rule, identity_rule
from datasets_ext.prepare.layout import Layout, Video, as_frames, is_folder, joined, last_number, name_fault
from roga_domainbed.catalog import DATASETS
from roga_domainbed.errors import Problems, RogaError, shortened
from roga_domainbed.foreign import one_line, quoted
from roga_domainbed.input.classes import REAL_AND_FAKE
from roga_domainbed.input.tree import IMAGE_SUFFIXES, MEDIA_SUFFIXES, files_below

#: Parts of a dataset, in lower case: folders of these names are no environments.
_PARTS = {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}


def read(
    source: str | os.PathLike,
    name: str | None,
    real: Collection[str],
    fake: Collection[str],
    identity: str | None,
    problems: Problems,
    only_images: bool = False,
) -> Layout:
    """The videos in the folders.

    Args:
        source: the folder of the environments, or of the classes of one environment.
        name: of the dataset: its folder below ``--data_dir``; None for the source's.
        real: class folders that are real, where names do not say so; with ``fake``, only what is said counts.
        fake: those that are fake.
        identity: ``--identity``, applied to paths below a class folder; None for unknown people.
        problems: collects what is wrong with these.
        only_images: leave out video files (``--link``).
    """
    source = Path(source)
    layout = Layout(name or source.resolve().name, source, (), {}, complete=True, searched=source)
    wrong = name_fault(layout.dataset)
    if wrong:
        problems.add(f"--name {layout.dataset!r} {wrong}")
    elif layout.dataset in DATASETS and not DATASETS.get(layout.dataset).is_tree:
        problems.add(f"{layout.dataset!r} is a dataset that 'roga-domainbed list' shows: give --name another")
    rule = None if identity is None else identity_rule(identity, problems)
    if not is_folder(source, problems):
        return layout
    found = _environments(source, real, fake, problems)
    for env, (folder, classes) in found.items():
        _add_environment(layout, env, folder, classes, rule, only_images)
    if found and not layout.videos:
        reasons = "".join(f"; {note}" for note in layout.notes)
        problems.add(
            f"--source {str(source)!r} has no {'images' if only_images else 'images or videos'}{reasons}"
        )
    layout.envs = tuple(dict.fromkeys(video.envs[0] for video in layout.videos.values()))
    layout.expected = dict(Counter(video.group for video in layout.videos.values()))
    _note_recordings(layout)
    if rule is not None:
        unknown = [video.source for video in layout.videos.values() if not video.identities]
        layout.note_files(unknown, f"files or folders do not say who is in them by --identity {identity}")
    return layout


def _environments(
    source: Path, real: Collection[str], fake: Collection[str], problems: Problems
) -> dict[str, tuple[Path, dict[str, int]]]:
    """As ``class_folders``; empty, with problems, if they cannot be used."""
    known = names_below(source)
    for option, names in (("--real", real), ("--fake", fake)):
        absent = [name for name in names if name not in known]
        if absent:
            problems.add(f"{option} {' '.join(absent)}: no such folder; there are {quoted(known, 10)}")
    for name in set(real) & set(fake):
        problems.add(f"{name!r} cannot be both --real and --fake")
    if problems.messages:
        return {}
    try:
        found = class_folders(source, real, fake, "--source")
    except RogaError as error:
        problems.add(str(error))
        return {}
    if all(name.lower() in _PARTS for name in found):
        problems.add(
            f"--source {str(source)!r}: {quoted(found)} are parts of a dataset, not environments. Give each "
            "environment a folder; 'prepare csv' takes official parts, in its column split"
        )
    for name in found:
        wrong = name_fault(name) or ("is the name of a file of the dataset" if name in RESERVED else "")
        if wrong:
            problems.add(f"--source {str(source)!r}: the environment {name!r} {wrong}")
    return found


@dataclass(frozen=True)
class _Found:
    """A video in a class folder.

    Attributes:
        path: of the file, or of the folder of images, relative to the class folder.
        images: the images of a folder, or the image itself; empty for a video file.
    """

    path: PurePath
    images: tuple[Path, ...] = ()


def _add_environment(
    layout: Layout,
    env: str,
    folder: Path,
    classes: dict[str, int],
    rule: Rule | None,
    only_images: bool,
) -> None:
    suffixes = IMAGE_SUFFIXES if only_images else MEDIA_SUFFIXES
    several = {label for label, number in Counter(classes.values()).items() if number > 1}
    odd = []
    for name, label in classes.items():
        inside = folder / name
        others = [folder / other for other in classes if other != name]
        videos = list(_videos(inside, list(map(Path, files_below(inside, suffixes, others)))))
        stems = Counter(video.path.with_suffix("") for video in videos)
        for video in videos:
            plain = video.path.with_suffix("") if stems[video.path.with_suffix("")] == 1 else video.path
            recording = "__".join(plain.parts)
            called = f"{name}__{recording}" if label in several else recording
            if name_fault(called):
                odd.append(inside / video.path)
                continue
            people = (
                {rule(path.relative_to(inside)) for path in video.images or (inside / video.path,)}
                if rule
                else ()
            )
            layout.add(
                Video(
                    f"{env} {REAL_AND_FAKE[label]}",
                    called,
                    inside / video.path,
                    (env,),
                    method=name if label else REAL_AND_FAKE[label],
                    label=label,
                    recording=recording,
                    identities=joined(filter(None, people)),
                    frames=as_frames({path: last_number(path) for path in video.images})
                    if video.images
                    else None,
                )
            )
    layout.note_files(odd, "files have names that no folder can have on every system, left out")


def _videos(inside: Path, paths: list[Path]) -> Iterator[_Found]:
    frames: dict[PurePath, list[Path]] = defaultdict(list)
    for path in paths:
        relative = path.relative_to(inside)
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            yield _Found(relative)
        elif relative.parent == PurePath("."):
            yield _Found(relative, (path,))
        else:
            frames[relative.parent].append(path)
    for folder, images in frames.items():
        yield _Found(folder, tuple(images))


def _note_recordings(layout: Layout) -> None:
    places: dict[str, set[str]] = defaultdict(set)
    for video in layout.videos.values():
        places[video.recording].add(video.group)
    shared = [recording for recording, groups in places.items() if len(groups) > 1]
    if shared:
        layout.notes.append(
            f"files of one name in several folders count as one recording ({one_line(shortened(shared))}: "
            f"{len(shared)} in all); give unrelated files other names"
        )
    else:
        layout.notes.append(
            "no name is in two folders, so each video counts as a recording of its own: --split group may separate a "
            "fake from what it was made from, unless both have one name"
        )
