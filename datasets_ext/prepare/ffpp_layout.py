"""FaceForensics++ as distributed: where its videos lie and what their names say.

    <source>/original_sequences/youtube/<comp>/videos/NNN.mp4                     1000 reals, 000 … 999
    <source>/manipulated_sequences/<method>/<comp>/videos/NNN_MMM.mp4             1000 fakes a method

The ``videos`` level may be missing. ``<comp>`` is raw, c23 (light compression) or c40 (strong); the lossless one is
also called c0. A fake ``T_S`` is recording T (its background) with the face or the expression of S.
Source: the README of ondyari/FaceForensics. Licence: the authors' terms of use, by their form.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from roga_domainbed.errors import Problems

#: Environment → folder of the manipulation.
METHODS = {"DF": "Deepfakes", "F2F": "Face2Face", "FS": "FaceSwap", "NT": "NeuralTextures"}
REAL = "real"
#: Every class of videos: the reals, then the methods.
CLASSES = (REAL, *METHODS.values())

#: Compression → registered name of the dataset made from it.
DATASET_NAMES = {"c23": "FFPP", "c40": "FFPP_c40", "raw": "FFPP_raw"}
N_EXPECTED = 1000  # videos of each class

_ALIASES = {"c23": ("c23",), "c40": ("c40",), "raw": ("raw", "c0")}
_REALS = Path("original_sequences", "youtube")
_FAKES = Path("manipulated_sequences")
_SUFFIXES = {".mp4", ".avi", ".mov", ".mkv"}
_REAL_STEM = re.compile(r"\d{3}")
_FAKE_STEM = re.compile(r"\d{3}_\d{3}")


@dataclass
class Tree:
    """The videos of one compression.

    Attributes:
        videos: class → stem → file, stems sorted.
        notes: one sentence for everything that was passed over.
    """

    videos: dict[str, dict[str, Path]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def find(source: Path, compression: str, problems: Problems) -> Tree:
    """The videos of ``compression`` below ``source``; adds to ``problems`` if there are none, and says why."""
    tree = Tree()
    if not source.is_dir():
        problems.add(f"--source {str(source)!r} is not a folder")
        return tree
    if not (source / _REALS).is_dir() and not (source / _FAKES).is_dir():
        problems.add(_not_a_tree(source))
        return tree
    for name in CLASSES:
        tree.videos[name] = _class_videos(source, name, compression, tree.notes)
    if not any(tree.videos.values()):
        present = _compressions(source)
        problems.add(
            f"no {compression} videos below {str(source)!r}; there is {', '.join(present) or 'no video at all'}"
            + ("" if not present else ": choose with --compression")
        )
    others = [path.name for path in _folders(source / _FAKES) if path.name not in METHODS.values()]
    if others:
        tree.notes.append(f"not among the four methods, left out: {', '.join(others)}")
    return tree


def recording(stem: str) -> str:
    """Key of the recorded background: the target T of a fake ``T_S``, the number of a real."""
    return stem.split("_")[0]


def identities(stem: str) -> str:
    """The people in it, sorted, joined by ``+``: ``515+519`` for ``519_515``, ``004`` for a real."""
    return "+".join(sorted(set(stem.split("_"))))


def _class_videos(source: Path, name: str, compression: str, notes: list[str]) -> dict[str, Path]:
    pattern = _REAL_STEM if name == REAL else _FAKE_STEM
    for alias in _ALIASES[compression]:
        folder = _class_folder(source, name) / alias
        if (folder / "videos").is_dir():
            folder = folder / "videos"
        videos: dict[str, Path] = {}
        for path in _video_files(folder):
            if not pattern.fullmatch(path.stem):
                notes.append(f"{path.relative_to(source)}: the name is not that of a {name} video, left out")
            elif path.stem in videos:
                notes.append(f"{path.relative_to(source)}: second file of video {path.stem}, left out")
            else:
                videos[path.stem] = path
        if videos:
            return videos
    return {}


def _class_folder(source: Path, name: str) -> Path:
    return source / (_REALS if name == REAL else _FAKES / name)


def _compressions(source: Path) -> list[str]:
    found = []
    for compression in DATASET_NAMES:
        counts = {name: len(_class_videos(source, name, compression, [])) for name in CLASSES}
        if any(counts.values()):
            words = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
            found.append(f"{compression} ({words})")
    return found


def _not_a_tree(source: Path) -> str:
    inside = [path.name for path in _folders(source) if (path / _REALS).is_dir() or (path / _FAKES).is_dir()]
    hint = f"; did you mean {str(source / inside[0])!r}?" if inside else ""
    return (
        f"--source {str(source)!r} is not FaceForensics++ as distributed: there is neither "
        f"{_REALS.as_posix()}/ nor {_FAKES.as_posix()}/ in it{hint}"
    )


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _video_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    # A broken link is no file, yet it names a video that should be there: it is kept and reported as missing.
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".") and not path.is_dir()
    )
