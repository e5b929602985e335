"""Check a prepared tree against its manifest: every file present, readable, of its class, and no copy of another."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from datasets_ext import manifest
from datasets_ext.workers import map_files
from roga_domainbed.errors import shortened
from roga_domainbed.input.image_files import UnreadableImage, read_image
from roga_domainbed.input.tree import walk

_N_SHOWN = 20


@dataclass
class Verification:
    """The result of ``verify``.

    Attributes:
        folder: of the tree.
        n_rows: frames in the manifest.
        n_files: distinct files among them; environments may share a file by hard links.
        faults: kind of fault → all files, videos or sentences that have it.
        notes: other things worth knowing.
        sizes: (width, height) → number of files.
    """

    folder: Path
    n_rows: int = 0
    n_files: int = 0
    faults: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)

    def add(self, fault: str, names: Sequence[str]) -> None:
        """Record a fault; nothing if ``names`` is empty."""
        if names:
            self.faults[fault] = list(names)

    def text(self, most: int | None = _N_SHOWN) -> str:
        """The result as text.

        Args:
            most: the number of names after each fault; None for all.
        """
        lines = [
            f"{self.folder.name}: {self.n_rows} frames in the manifest, {self.n_files} files, {self.folder}"
        ]
        if self.sizes:
            sizes = ", ".join(f"{w}x{h}: {count}" for (w, h), count in self.sizes.most_common())
            lines.append(f"  size in pixels: {sizes}")
        for fault, names in self.faults.items():
            lines.append(f"  {fault}: {len(names)}")
            lines += [f"    {name}" for name in names[:most]]
            if most is not None and len(names) > most:
                lines.append(f"    … and {len(names) - most} more; --all names them")
        lines += [f"  note: {note}" for note in self.notes]
        if not self.faults:
            lines.append("  no fault: the files match the manifest")
        return "\n".join(lines)


def verify(folder: str | os.PathLike, environments: Sequence[str] = (), n_workers: int = 1) -> Verification:
    """Check every row and every file of the tree in ``folder``; nothing is changed.

    Args:
        folder: has a manifest; its name is the dataset's.
        environments: those that must exist, besides those in the manifest.
        n_workers: processes that read files.

    Raises:
        RogaError: there is no manifest, or it cannot be read.
    """
    folder = Path(folder)
    rows = manifest.read(folder)
    found = Verification(folder, len(rows))
    present = sorted(filter(manifest.is_folder_name, rows["env"].dropna().unique().tolist()))
    wanted = list(dict.fromkeys([*environments, *present]))
    found.add("the manifest is wrong", list(manifest.value_problems(rows, folder.name, wanted)))
    for fault, names in manifest.contradictions(rows).items():
        found.add(fault, names)
    rows = rows.assign(path=rows["path"].astype(str))
    on_disk = _files(folder, present, found)
    listed = set(rows["path"])
    found.add("missing on disk", sorted(listed - on_disk))
    found.add("not in the manifest", sorted(on_disk - listed))
    _decode_all(found, rows, sorted(listed & on_disk), n_workers)
    return found


def _files(folder: Path, environments: Sequence[str], found: Verification) -> set[str]:
    """All files below the environments' folders, relative to ``folder``, without hidden ones."""
    paths = set()
    for env in environments:
        for parent, names in walk(folder / env) if (folder / env).is_dir() else ():
            below = Path(parent).relative_to(folder).as_posix()
            paths.update(f"{below}/{name}" for name in names)
    others = [path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    others = sorted(set(others) - set(environments))
    if others:
        found.notes.append(f"folders that are not an environment of the manifest: {', '.join(others)}")
    return paths


def _decode_all(found: Verification, rows: pd.DataFrame, paths: list[str], n_workers: int) -> None:
    """Decode each file once, however many links it has, and compare the pixels."""
    names_of: dict[tuple[int, int], list[str]] = {}
    damaged = []
    for path in paths:
        try:
            status = os.stat(found.folder / path)
        except OSError as error:  # a link to nowhere
            damaged.append(f"{path}: {error.strerror}")
            continue
        names_of.setdefault((status.st_dev, status.st_ino), []).append(path)
    files = [names[0] for names in names_of.values()]
    found.n_files = len(files)
    answers = map_files(_inspect, [str(found.folder / path) for path in files], found.folder.name, n_workers)
    same: dict[bytes, list[str]] = {}
    for names, answer in zip(names_of.values(), answers, strict=True):
        if isinstance(answer, str):
            damaged += [f"{name}: {answer}" for name in names]
        else:
            size, digest = answer
            found.sizes[size] += 1
            same.setdefault(digest, []).extend(names)
    found.add("cannot be read", sorted(damaged))
    copies = [names for names in same.values() if len(names) > 1]
    if copies:
        _compare_copies(found, rows, copies)


def _inspect(path: str) -> tuple[tuple[int, int], bytes] | str:
    """(width, height) and a hash of the pixels, or what is wrong with the file."""
    try:
        pixels = read_image(path)
    except UnreadableImage as error:
        return error.reason
    content = repr(pixels.size).encode() + pixels.tobytes()
    return pixels.size, hashlib.blake2b(content, digest_size=16).digest()


def _compare_copies(found: Verification, rows: pd.DataFrame, copies: list[list[str]]) -> None:
    """Equal images must have one label and one split; environments may share their reals."""
    table = pd.DataFrame(
        ((path, index) for index, names in enumerate(copies) for path in names), columns=["path", "copy"]
    ).merge(rows.drop_duplicates("path"), on="path")
    for fault, column in (
        ("the same image as real and as fake", "label"),
        ("the same image in two splits", "split"),
    ):
        found.add(fault, list(_differing(table, column)))
    elsewhere = list(_differing(table, "recording"))
    if elsewhere:
        found.notes.append(
            f"{len(elsewhere)} images are in more than one recording, which a split by recording cannot know: "
            + shortened(elsewhere)
        )


def _differing(table: pd.DataFrame, column: str) -> Iterator[str]:
    """The copies with more than one value of ``column``, as ``path = path``: a path for each value, three at most."""
    distinct = table.sort_values("path").drop_duplicates(["copy", column])
    for _, paths in distinct.groupby("copy")["path"]:
        if len(paths) > 1:
            yield " = ".join(paths[:3]) + (" = …" if len(paths) > 3 else "")
