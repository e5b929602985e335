"""Frames preprocessed by DeepfakeBench, with its JSON index → the same trees as from the videos.

    <source>/<Dataset>/…/frames/<video>/<frame index>.png
    <name>.json     dataset → label → split → [compression →] video → {"label", "frames": [path, …]}

The source is the benchmark's ``rgb`` folder, or the folder of one dataset in it. Several files of one dataset may be
given together, such as FF-DF.json and FF-F2F.json. Frames are copied or linked, so no pixel changes. Paths in the index
may have either separator and any prefix: everything before the dataset's own folder is replaced by the source.

The label comes from the index and must agree with the folder of the frames. Splits follow the rules of ``prepare``
where the index is known to be wrong:

- Celeb-DF: ``train`` contains every video, test videos included. Test is the authors' list if it is in the dataset's
  folder, else the index's ``test``; train is the rest.
- Celeb-DF, DFDCP: ``val`` repeats ``test``; DFDC: ``val`` is damaged. It is not read.
- DeepFakeDetection, UADFV: the three splits are the same videos. They get no split.
- FaceForensics++: the splits are the official ones; its own lists take precedence if they are found.

Source: the code of SCLBD/DeepfakeBench (arXiv:2307.01426).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar

from datasets_ext.prepare import celebdf, dfd, dfdc, dfdcp, ffpp, ffpp_splits, uadfv
from datasets_ext.prepare import ffpp_layout as names
from datasets_ext.prepare.deepfakebench_index import SPLITS, Entry, Index, Places, read_files
from datasets_ext.prepare.layout import Layout, Video, is_folder
from roga_domainbed.errors import Problems


def read(
    source: str | os.PathLike,
    files: Iterable[str | os.PathLike],
    compression: str | None,
    splits: str | os.PathLike | None,
    problems: Problems,
) -> Layout:
    """The videos that the index files name.

    Args:
        source: the folder that holds the dataset's folder, or that folder.
        files: index files of one dataset.
        compression: c23 (the default), c40 or raw, for datasets of FaceForensics++'s download; a problem for others.
        splits: folder of FaceForensics++'s train.json, val.json, test.json; searched for if None; a problem for others.
        problems: collects what is wrong with these; faults of single videos and frames become notes of the layout.
    """
    source = Path(source)
    is_folder(source, problems)
    level = names.COMPRESSION if compression is None else compression
    ffpp.check_compression(level, problems)
    contents = read_files(files, RULES, problems)
    kinds = {dataset: RULES[dataset](level) for dataset, _ in contents}
    trees = list(dict.fromkeys(rules.tree for rules in kinds.values()))
    if len(trees) > 1:
        problems.add(
            f"--json has files of {', '.join(trees)}: each becomes a dataset of its own; one command each"
        )
    for rules in kinds.values():
        if compression is not None and rules.compression is None:
            problems.add(f"--compression {compression}: {rules.tree} comes in one compression; leave it out")
        if splits is not None and not rules.has_lists:
            problems.add(
                f"--splits {str(splits)!r}: those lists are FaceForensics++'s, not {rules.tree}'s; leave it out"
            )
    problems.check()
    rules = kinds[contents[0][0]]
    places = Places(source, rules.root)
    index = Index(rules.believed, rules.compression, places)
    for _, labels in contents:
        index.add(labels, rules.labels)
    if rules.compression and rules.compression not in index.compressions:
        there = ", ".join(sorted(index.compressions)) or "no videos at all"
        problems.add(
            f"the index has no {rules.compression} videos; it has {there}: choose with --compression"
        )
        problems.check()
    layout = Layout(
        rules.tree,
        source,
        rules.envs or (rules.tree,),
        dict(rules.expected),
        rules.compression or "",
        searched=places.root,
    )
    rules.read_lists(places, index, splits, layout, problems)
    problems.check()
    for (label, name), entry in index.entries.items():
        video = _checked(rules, label, name, entry)
        if isinstance(video, Video):
            folder = next(iter(entry.frames.values())).parent if entry.frames else places.root / name
            layout.add(replace(video, source=folder, frames=tuple(sorted(entry.frames.items()))))
        else:
            index.fault(video, f"{label}/{name}")
    rules.finish(layout)
    _note(index, layout)
    if not layout.videos:
        problems.add(
            f"the index names no usable video of {rules.tree}: {'; '.join(layout.notes[:3]) or 'it is empty'}"
        )
    return layout


def _checked(rules: Rules, label: str, name: str, entry: Entry) -> Video | str:
    """The video, or why it is left out."""
    video = rules.video(label, name, entry)
    if not isinstance(video, Video):
        return video or "entries have a name that does not fit the dataset, left out"
    wanted = rules.folder(label, video)
    if not all(_contains(folder, wanted) for folder in entry.folders):
        return "videos have frames in the folder of another class or compression, left out"
    return video


def _contains(parts: tuple[str, ...], wanted: tuple[str, ...]) -> bool:
    """Whether ``parts`` contains the sequence ``wanted``, ignoring case; c0 is raw."""
    there, asked = ([{"c0": "raw"}.get(p.casefold(), p.casefold()) for p in some] for some in (parts, wanted))
    return any(there[i : i + len(asked)] == asked for i in range(len(there) - len(asked) + 1))


def _note(index: Index, layout: Layout) -> None:
    for kind, who in index.odd.items():
        layout.note_names(who, kind)
    for split, n in index.n_unread.items():
        layout.notes.append(
            f"{n} entries of the index's {split!r} were not read: in DeepfakeBench that split repeats the test part or "
            "is damaged"
        )


class Rules:
    """The rules of one dataset of the benchmark; a subclass each.

    Attributes:
        tree: the dataset that is made.
        root: its folder in the benchmark.
        labels: label in the index → 0 real, 1 fake.
        believed: the index's splits that are read.
        compression: that is read; None if the index has no compressions.
        has_lists: whether FaceForensics++'s train.json, val.json and test.json are its split.
        envs: as in ``Layout``; empty for one that has the name of the tree.
        expected: as in ``Layout``.
    """

    tree: str
    root: str
    labels: dict[str, int]
    believed: ClassVar[tuple[str, ...]] = SPLITS
    compression: str | None = None
    has_lists: bool = False
    envs: tuple[str, ...] = ()
    expected: dict[str, int | None]

    def read_lists(
        self,
        places: Places,
        index: Index,
        splits: str | os.PathLike | None,
        layout: Layout,
        problems: Problems,
    ) -> None:
        """Read the lists in the dataset's own folder."""

    def __init__(self, compression: str):
        """``compression`` is c23, c40 or raw; ignored by datasets that have none."""

    def video(self, label: str, name: str, entry: Entry) -> Video | str | None:
        """The video; None if the name does not fit the dataset, or a sentence about what else is wrong."""
        raise NotImplementedError

    def folder(self, label: str, video: Video) -> tuple[str, ...]:
        """The nested folders that its frames must be in."""
        return (video.group,)

    def finish(self, layout: Layout) -> None:
        """Add notes about all videos together."""


class _Ffpp(Rules):
    """FaceForensics++ and FaceShifter: the official split, from their lists, else from the index."""

    part = names.FFPP
    has_lists = True
    root = "FaceForensics++"
    groups: ClassVar = {
        "FF-real": names.REAL,
        **{f"FF-{env}": method for env, method in names.FFPP.methods.items()},
    }

    def __init__(self, compression: str):
        self.compression = compression
        self.labels = {label: int(group != names.REAL) for label, group in self.groups.items()}
        self.tree = self.part.tree(compression)
        self.envs = tuple(self.part.methods)
        self.expected = dict(self.part.expected)
        self._lists = ffpp_splits.Splits()
        self._splits_of: dict[str, set[str]] = {}  # id → splits of the index that have it

    def read_lists(self, places, index, splits, layout, problems):
        """Read train.json, val.json and test.json, or else the splits of each id in the index."""
        self._lists = ffpp_splits.find(places.root, None if splits is None else Path(splits), problems)
        layout.split_pairs = {name: len(pairs) for name, pairs in self._lists.pairs.items()}
        layout.notes += self._lists.notes
        if self._lists.folder is not None:
            layout.expected_by_split = {group: self._lists.n_videos() for group in layout.expected}
            return
        for (_, name), entry in index.entries.items():
            for number in name.split("_"):
                self._splits_of.setdefault(number, set()).update(entry.splits)
        layout.notes.append(
            "no split lists (train.json, val.json, test.json) were found: 'split' comes from the index"
        )
        torn = sorted(number for number, found in self._splits_of.items() if len(found) > 1)
        layout.note_names(
            torn, "ids are in several splits of the index: the 'split' of their videos is empty"
        )

    def video(self, label, name, entry):
        """See ``Rules``."""
        group = self.groups[label]
        if not self.part.stems[group != names.REAL].fullmatch(name):
            return None
        if self._lists.folder is not None:
            split = self._lists.of(name)
        else:
            found = set().union(*(self._splits_of[number] for number in name.split("_")))
            split = found.pop() if len(found) == 1 else ""
        return ffpp.video(self.part, group, name, Path(), split)

    def folder(self, label, video):
        """See ``Rules``."""
        return (*self.part.folder(video.group).parts, self.compression)


class _FaceShifter(_Ffpp):
    part = names.FACESHIFTER
    groups: ClassVar = {"FF-real": names.REAL, "FF-FH": "FaceShifter"}


class _Dfd(_Ffpp):
    """DeepFakeDetection: the index's three splits are the same videos."""

    part = names.DFD
    has_lists = False
    groups: ClassVar = {"DFD_real": names.REAL, "DFD_fake": "DeepFakeDetection"}

    def read_lists(self, places, index, splits, layout, problems):
        """There are none."""

    def video(self, label, name, entry):
        """See ``Rules``."""
        return dfd.video(self.groups[label], name, Path())

    def finish(self, layout):
        """See ``Rules``."""
        layout.notes.append(
            "DeepfakeBench takes the largest face, which in DeepFakeDetection may not be the forged one; 'prepare dfd' "
            "uses the masks"
        )


class _CelebDF(Rules):
    """Celeb-DF: the index's train part contains the test videos too."""

    believed = ("train", "test")

    def __init__(self, compression: str, version: int):
        self.version = version
        self.tree = celebdf.DATASET_NAMES[self.version]
        self.root = f"Celeb-DF-v{self.version}"
        self.labels = {f"CelebDFv{self.version}_real": 0, f"CelebDFv{self.version}_fake": 1}
        self.expected = dict(zip(celebdf.GROUPS, celebdf.EXPECTED[self.version], strict=True))
        self._listed: set[str] | None = None

    def read_lists(self, places, index, splits, layout, problems):
        """Read the list of testing videos if there is one; note the test videos in the index's train part."""
        tests = celebdf.read_list(places.root, self.version, layout, problems)
        if tests is None:
            layout.notes.append(f"there is no {celebdf.LIST}: the test part comes from the index's 'test'")
        else:
            self._listed = {name for group in tests.names.values() for name in group}
        shared = [
            f"{label}/{name}"
            for (label, name), entry in index.entries.items()
            if "train" in entry.splits and self._is_test(name, entry)
        ]
        layout.note_names(shared, "videos of the index's 'train' are test videos; their 'split' is test")

    def video(self, label, name, entry):
        """See ``Rules``; the folder of a real follows from its name."""
        split = "test" if self._is_test(name, entry) else "train"
        groups = celebdf.GROUPS[2:] if self.labels[label] else celebdf.GROUPS[:2]
        found = (celebdf.video(self.tree, group, name, Path(), split) for group in groups)
        return next(filter(None, found), None)

    def _is_test(self, name: str, entry: Entry) -> bool:
        return "test" in entry.splits if self._listed is None else name in self._listed


class _Dfdcp(Rules):
    tree = root = dfdcp.DATASET_NAME
    labels: ClassVar = {"DFDCP_Real": 0, "DFDCP_FakeA": 1, "DFDCP_FakeB": 1}
    groups: ClassVar = {
        "DFDCP_Real": "original_videos",
        "DFDCP_FakeA": "method_A",
        "DFDCP_FakeB": "method_B",
    }
    believed = ("train", "test")
    expected: ClassVar = dfdcp.EXPECTED

    def video(self, label, name, entry):
        """See ``Rules``."""
        video = dfdcp.video(self.groups[label], name, Path())
        split = "test" if "test" in entry.splits else "train"  # in both: not trained on
        return video and replace(video, split=split)


class _Dfdc(Rules):
    """DFDC: originals come from the ``metadata.json`` beside the frames, if there is one."""

    tree = root = dfdc.DATASET_NAME
    labels: ClassVar = {"DFDC_Real": 0, "DFDC_Fake": 1}
    believed = ("train", "test")
    expected: ClassVar = dfdc.EXPECTED

    def __init__(self, compression: str):
        self._entries_of: dict[Path, tuple[dict[str, dfdc.Entry], set[str]]] = {}
        self._layout: Layout | None = None

    def read_lists(self, places, index, splits, layout, problems):
        """Keep the layout, for notes about the label files."""
        self._layout = layout

    def video(self, label, name, entry):
        """See ``Rules``."""
        labelled, contradicted = self._label_files(entry)
        own = labelled.get(name)
        if name in contradicted or (own and own.label != self.labels[label]):
            return "videos have another label in metadata.json or labels.csv, left out"
        split = "test" if "test" in entry.splits else "train"
        original = own.original if own else ""
        return dfdc.video(name, Path(), dfdc.Entry(self.labels[label], split, original))

    def folder(self, label, video):
        """None: DFDC's folders mix the classes."""
        return ()

    def finish(self, layout):
        """See ``Rules``."""
        present = {video.group: [video.name] for video in layout.videos.values()}
        layout.expected = dfdc.asked_for(present)
        layout.note_names(
            [
                video.name
                for video in layout.videos.values()
                if video.group == "train fake" and video.recording == video.name
            ],
            "fakes of the train parts have no original in a metadata.json, each counts as a recording of its own",
        )

    def _label_files(self, entry: Entry) -> tuple[dict[str, dfdc.Entry], set[str]]:
        if not entry.frames:
            return {}, set()
        part = next(iter(entry.frames.values())).parents[2]  # <part>/frames/<video>/<frame>.png
        if part not in self._entries_of:
            self._entries_of[part] = dfdc.entries_of(part, self._layout)
        return self._entries_of[part]


class _Uadfv(Rules):
    """UADFV: the index's three splits are the same videos."""

    tree = root = uadfv.DATASET_NAME
    labels: ClassVar = {"UADFV_Real": 0, "UADFV_Fake": 1}
    expected: ClassVar = uadfv.EXPECTED

    def video(self, label, name, entry):
        """See ``Rules``."""
        return uadfv.video("fake" if self.labels[label] else "real", name, Path())


#: Dataset name in the index → its rules.
RULES: dict[str, Callable[[str], Rules]] = {
    **dict.fromkeys(("FaceForensics++", "FF-DF", "FF-F2F", "FF-FS", "FF-NT"), _Ffpp),
    "FaceShifter": _FaceShifter,
    "DeepFakeDetection": _Dfd,
    "Celeb-DF-v1": partial(_CelebDF, version=1),
    "Celeb-DF-v2": partial(_CelebDF, version=2),
    "DFDC": _Dfdc,
    "DFDCP": _Dfdcp,
    "UADFV": _Uadfv,
}
