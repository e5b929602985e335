"""The folder of one dataset: whose it is, who works in it now, and what of it may be removed.

'prepare' writes into an empty folder or into one with its own journal, and removes only files that it made. Whatever
else lies where a video's frames must go is named, and stays.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from datasets_ext import manifest
from datasets_ext.prepare import journal, report, report_page
from datasets_ext.prepare.outcome import Outcome
from roga_domainbed.errors import RogaError, shortened
from roga_domainbed.files import Busy, locked
from roga_domainbed.foreign import one_line

LOCK = ".prepare.lock"
STAGING = ".prepare.partial"

# Files directly in the folder, in the order in which they are removed: what is being removed never looks whole.
_FILES = (manifest.FILE, report.FILE, report_page.FILE)
RESERVED = {*_FILES, journal.FILE}  # no environment may have these names
_FRAME = re.compile(r"\d{4,}\.[a-z]+")  # of a video that no journal has: it was made just before a kill


@contextmanager
def held(root: Path) -> Iterator[None]:
    """Make ``root`` if it is not there, and keep other runs of 'prepare' out of it while the block runs.

    Another run is waited for. What it made is there when the block begins.

    Raises:
        RogaError: the folder has something in it and was not made by 'prepare'.
        OSError: it cannot be made.
    """
    _check_own(root)
    root.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(root / LOCK))
        except Busy:
            print(f"another 'prepare' is at work in {root}; waiting for it to end", file=sys.stderr)
            stack.enter_context(locked(root / LOCK, patience_s=math.inf))
        _check_own(root)  # again: another run, or something else, may have filled it in the meantime
        yield


def _check_own(root: Path) -> None:
    if (root.exists() or root.is_symlink()) and not root.is_dir():
        raise RogaError(f"{root} is not a folder: move it away or choose another --data_dir")
    for name in (LOCK, journal.FILE):
        if (root / name).exists() and not (root / name).is_file():
            raise RogaError(f"{root / name} is not a file: move {root} away or choose another --data_dir")
    marked = (root / journal.FILE).is_file()
    if root.is_dir() and not marked:
        made_first = {LOCK, STAGING, f"{journal.FILE}.part"}  # before a journal is there, or a disk was full
        others = sorted(set(os.listdir(root)) - made_first)
        if others:
            raise RogaError(
                f"{root} was not made by 'prepare' (it has no {journal.FILE}) and is not empty "
                f"({one_line(shortened(others))}): move it away or choose another --data_dir"
            )


def in_the_way(root: Path, folders: Mapping[str, Outcome | None]) -> list[str]:
    """What lies in the folders of some videos and is not theirs.

    Args:
        root: the dataset's folder.
        folders: folder of a video, relative to ``root`` → what was made in it; where that is not known, or nothing,
            whatever is named as a frame counts as made.
    """
    found = []
    for name, outcome in folders.items():
        path = root / name
        made = set(outcome.names()) if outcome and outcome.written else None
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            found.append(name)
        elif path.is_dir():
            found += [f"{name}/{file}" for file in sorted(os.listdir(path)) if not _is_own(path / file, made)]
    return found


def _is_own(path: Path, made: set[str] | None) -> bool:
    if path.is_dir() and not path.is_symlink():
        return False
    return bool(_FRAME.fullmatch(path.name)) if made is None else path.name in made


def refuse(root: Path, found: list[str]) -> None:
    """Raise ``RogaError`` if there is something in the way."""
    if found:
        what, them = ("a file", "it") if len(found) == 1 else (f"{len(found)} files", "them")
        raise RogaError(
            f"{root} has {what} that 'prepare' did not make, where it must write or remove "
            f"({one_line(shortened(found))}): move {them} away or choose another --data_dir; nothing was removed"
        )


def remove_made(root: Path, envs: Iterable[str], folders: Mapping[str, Outcome | None]) -> None:
    """Remove what 'prepare' made in ``root``, but nothing else. The journal stays: it marks the folder as ours.

    Args:
        root: the dataset's folder.
        envs: the environments that have a folder in it.
        folders: as in ``in_the_way``, of all videos.

    Raises:
        RogaError: the environments have other files in them, too; nothing was removed.
    """
    envs = [env for env in envs if (root / env).exists() or (root / env).is_symlink()]
    refuse(root, _others(root, envs, folders))
    for file in _FILES:
        (root / file).unlink(missing_ok=True)
    for env in envs:
        shutil.rmtree(root / env)


def _others(root: Path, envs: list[str], folders: Mapping[str, Outcome | None]) -> list[str]:
    found = in_the_way(root, folders)
    for env in envs:
        if (root / env).is_symlink() or not (root / env).is_dir():
            found.append(env)
            continue
        for where, inside, files in os.walk(root / env):
            name = Path(where).relative_to(root).as_posix()
            if name in folders:
                inside.clear()  # see ``in_the_way``
                continue
            links = [item for item in inside if os.path.islink(os.path.join(where, item))]
            found += [f"{name}/{file}" for file in (*files, *links) if f"{name}/{file}" not in folders]
    return found


def discard(folder: Path, outcome: Outcome | None, staging: Path) -> None:
    """Remove the folder of one video.

    Raises:
        RogaError: there are other files in it.
    """
    root, name = folder.parents[2], "/".join(folder.parts[-3:])
    refuse(root, in_the_way(root, {name: outcome}))
    # Renamed before it is removed: a kill in between must not leave a folder with some of its frames.
    if folder.is_dir():
        aside = staging / "discarded"
        os.rename(folder, aside)
        shutil.rmtree(aside)
