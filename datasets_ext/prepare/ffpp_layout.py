"""FaceForensics++'s download, with FaceShifter and DeepFakeDetection: where the videos are, what their names mean.

    <source>/original_sequences/youtube/<comp>/videos/NNN.mp4                     1000 reals, 000 … 999
    <source>/manipulated_sequences/<method>/<comp>/videos/NNN_MMM.mp4             1000 fakes a method
    <source>/original_sequences/actors/<comp>/videos/<A>__<scene>.mp4             363 reals of DeepFakeDetection
    <source>/manipulated_sequences/DeepFakeDetection/<comp>/videos/<T>_<S>__<scene>__<code>.mp4     3068 fakes
    <source>/manipulated_sequences/DeepFakeDetection/masks/videos/<the same>.mp4  their masks

The ``videos`` level may be missing. ``<comp>`` is raw (also called c0; lossless), c23 (light compression) or c40
(strong). A fake ``T_S`` is recording T (the background) with the face or the expression of S.
Source: the README of ondyari/FaceForensics. Licence: the authors' terms of use, by their form.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from datasets_ext.prepare.layout import (
    did_you_mean,
    folders,
    is_folder,
    joined,
    one_line,
    video_files,
    what_is_in,
)
from roga_domainbed.errors import Problems, shortened

REAL = "real"
COMPRESSIONS = ("c23", "c40", "raw")
COMPRESSION = "c23"  # the default

_ALIASES = {"c23": ("c23",), "c40": ("c40",), "raw": ("raw", "c0")}
_ORIGINALS, _FAKES = Path("original_sequences"), Path("manipulated_sequences")


@dataclass(frozen=True)
class Part:
    """One dataset of the download.

    Attributes:
        name: of the tree that is made from c23; for other compressions that is appended.
        command: its name in ``prepare``.
        reals: folder of its real videos.
        methods: environment → folder of the manipulation.
        n_expected: real videos, and fakes of each method.
        stems: patterns of the names of a real and of a fake.
    """

    name: str
    command: str
    reals: str
    methods: dict[str, str]
    n_expected: tuple[int, int]
    stems: tuple[re.Pattern, re.Pattern]

    @property
    def classes(self) -> tuple[str, ...]:
        """Every class of videos: the reals, then the methods."""
        return (REAL, *self.methods.values())

    @property
    def expected(self) -> dict[str, int]:
        """Class → videos that the published dataset has."""
        reals, fakes = self.n_expected
        return {REAL: reals} | dict.fromkeys(self.methods.values(), fakes)

    def tree(self, compression: str) -> str:
        """Name of the dataset made from ``compression``."""
        return self.name if compression == "c23" else f"{self.name}_{compression}"

    def folder(self, name: str) -> Path:
        """The folder of a class, relative to the source, without the compression."""
        return _ORIGINALS / self.reals if name == REAL else _FAKES / name


_NUMBERS = re.compile(r"\d{3}"), re.compile(r"\d{3}_\d{3}")
FFPP = Part(
    "FFPP",
    "ffpp",
    "youtube",
    {"DF": "Deepfakes", "F2F": "Face2Face", "FS": "FaceSwap", "NT": "NeuralTextures"},
    (1000, 1000),
    _NUMBERS,
)
FACESHIFTER = Part(
    "FaceShifter", "faceshifter", "youtube", {"FaceShifter": "FaceShifter"}, (1000, 1000), _NUMBERS
)
DFD = Part(
    "DFD",
    "dfd",
    "actors",
    {"DFD": "DeepFakeDetection"},
    (363, 3068),
    (
        re.compile(r"(?P<target>\d+)__(?P<scene>[\w-]+)"),
        re.compile(r"(?P<target>\d+)_(?P<donor>\d+)__(?P<scene>[\w-]+)__[0-9A-Za-z]{8}"),
    ),
)
PARTS = {part.name: part for part in (FFPP, FACESHIFTER, DFD)}


def find(
    source: Path, part: Part, compression: str, problems: Problems
) -> tuple[dict[str, dict[str, Path]], list[str]]:
    """The videos of ``compression`` below ``source``; none is a problem, with the reason.

    Returns:
        Class → stem → file, stems sorted; and what was skipped, a sentence each.
    """
    if not is_folder(source, problems):
        return {}, []
    if not (source / _ORIGINALS / part.reals).is_dir() and not (source / _FAKES).is_dir():
        problems.add(_not_a_tree(source, part))
        return {}, []
    notes: list[str] = []
    videos = {name: _class_videos(source, part, name, compression, notes) for name in part.classes}
    if not any(videos.values()):
        present = _compressions(source, part)
        problems.add(
            f"no {compression} videos below {str(source)!r}: {_looked_for(part, compression)}. "
            + (f"There is {', '.join(present)}: choose with --compression" if present else what_is_in(source))
        )
    if part is FFPP:
        others = [path.name for path in folders(source / _FAKES) if path.name not in part.classes]
        if others:
            notes.append(
                f"not among the four methods, left out: {one_line(', '.join(map(_with_command, others)))}"
            )
    return videos, notes


def masks(source: Path, method: str) -> dict[str, Path]:
    """Stem → mask video; one mask serves all compressions."""
    return {path.stem: path for path in video_files(source / _FAKES / method / "masks") if path.is_file()}


def recording(stem: str) -> str:
    """Key of the recorded background: the target T of a fake ``T_S``, the number of a real."""
    return stem.split("_")[0]


def identities(stem: str) -> str:
    """The people in it, sorted, joined by ``+``: ``515+519`` for ``519_515``, ``004`` for a real."""
    return joined(stem.split("_"))


def _class_videos(source: Path, part: Part, name: str, compression: str, notes: list[str]) -> dict[str, Path]:
    pattern = part.stems[name != REAL]
    for alias in _ALIASES[compression]:
        videos: dict[str, Path] = {}
        strange, again = [], []
        for path in video_files(source / part.folder(name) / alias):
            if not pattern.fullmatch(path.stem):
                strange.append(path)
            elif path.stem in videos:
                again.append(path)
            else:
                videos[path.stem] = path
        for paths, what in (
            (strange, f"files whose name is not that of a {name} video"),
            (again, "second files of a video"),
        ):
            if paths:
                named = one_line(shortened(path.relative_to(source) for path in paths))
                notes.append(f"{len(paths)} {what}, left out: {named}")
        if videos:
            return videos
    return {}


def _compressions(source: Path, part: Part) -> list[str]:
    found = []
    for compression in COMPRESSIONS:
        counts = {name: len(_class_videos(source, part, name, compression, [])) for name in part.classes}
        if any(counts.values()):
            words = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
            found.append(f"{compression} ({words})")
    return found


def _not_a_tree(source: Path, part: Part) -> str:
    reals = _ORIGINALS / part.reals
    hint = did_you_mean(source, lambda path: (path / reals).is_dir() or (path / _FAKES).is_dir())
    return (
        f"--source {str(source)!r} is not FaceForensics++ as distributed: it has neither {reals.as_posix()}/ nor "
        f"{_FAKES.as_posix()}/ ({_looked_for(part, '<compression>')}){hint}"
    )


def _looked_for(part: Part, compression: str) -> str:
    """The places of a real and of a fake, in words."""
    real, fake = ("NNN.mp4", "NNN_MMM.mp4") if part is not DFD else ("<A>__<scene>.mp4", "<T>_<S>__….mp4")
    method = shortened(part.methods.values(), 4)
    return (
        f"looked for reals in {part.folder(REAL).as_posix()}/{compression}/videos/{real} and for fakes of {method} in "
        f"{_FAKES.as_posix()}/<method>/{compression}/videos/{fake}"
    )


def _with_command(method: str) -> str:
    commands = [part.command for part in PARTS.values() if method in part.classes]
    return f"{method} (see 'prepare {commands[0]}')" if commands else method
