"""Which folders a run may write in, and which of the files there are its own.

A folder is a run's if it is empty, or if a training or a launcher, ours or DomainBed's, has worked in it. Any other is
somebody else's, whatever its files are called. Only files of the names below are ever replaced or removed.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from roga_domainbed.errors import shortened
from roga_domainbed.foreign import Malformed, check_regular, open_regular, parse_json
from roga_domainbed.launch.jobfile import LOCK_FILE, LOG_FILE, read_job_file
from roga_domainbed.results.records import DONE, DROPPED, ERRORS, LONGEST_LINE, RECORDS, SCORES

OUTPUT = "out.txt"
TRACE = "trace.json.gz"
TENSORBOARD = "tensorboard"

#: Folder of an experiment tracker → what the tracker gives the names of in it.
_OF_TRACKERS = {
    TENSORBOARD: re.compile(r"events\.out\.tfevents\.\d+\..+"),
    "wandb": re.compile(r"(offline-)?run-\d{8}_\d{6}-\w+|debug(-internal|-cli\..+|-core)?\.log"),
}

_NAMES = [re.escape(name) for name in (DONE, DROPPED, RECORDS, SCORES, TRACE, OUTPUT, ERRORS, "model.pkl")]
#: What a training makes anew when it starts anew.
RESULTS = re.compile(
    rf"({'|'.join(_NAMES)}|model_step\d+\.pkl|checkpoint_\d+\.pt|track_[a-z]+\.(log|json))(\.part)?"
    rf"|{'|'.join(_OF_TRACKERS)}"
)
DAMAGED = re.compile(r"damaged_checkpoint_\d+\.pt")
_CLAIM = "job.claim"  # of versions before leases
_JOB = re.compile(
    rf"{re.escape(LOCK_FILE)}|{re.escape(LOG_FILE)}|{re.escape(_CLAIM)}|job(\.\d+)?\.json((\..*)?\.part)?"
)


def other_files(names: Iterable[str]) -> list[str]:
    """Those of ``names`` that no training and no launcher gives to a file."""
    return sorted(name for name in names if not _is_own(name))


def run_folder_problem(folder: str | os.PathLike) -> str | None:
    """Why no run may write in ``folder``, as the end of a sentence; None if it may.

    Raises:
        OSError: the folder cannot be looked at.
    """
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return "is a link to nothing" if os.path.islink(folder) else None
    except NotADirectoryError:  # this, or one above it, which whoever makes the folder will meet
        return "is not a folder" if os.path.lexists(folder) else None
    own = sorted(filter(_is_own, names))
    for name in own:
        path = os.path.join(folder, name)
        try:
            if os.path.islink(path):  # what it leads to is somebody else's
                return f"has a {name} that is no file of a run: a link to {os.readlink(path)}"
            if name not in _OF_TRACKERS:
                check_regular(path)
            elif not os.path.isdir(path):
                return f"has a {name} that is no folder of a run"
        except FileNotFoundError:  # a temporary one, of whoever works there
            continue
        except OSError as error:
            return f"has a {name} that is no file of a run: {error.strerror}"
    if len(own) == len(names) and not any(_size(os.path.join(folder, name)) for name in own):
        return None  # nothing is there that could be lost
    if not _is_a_runs(Path(folder), names):
        return holds_no("run", names)
    return None


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except FileNotFoundError:
        return 0


def holds_no(kind: str, names: Iterable[str]) -> str:
    """The end of a sentence about a folder with files called ``names`` that is somebody else's."""
    return (
        f"holds other files and no {kind} ({shortened(sorted(names))}): choose a new folder or an empty one"
    )


def foreign_files(folder: str | os.PathLike) -> list[str]:
    """What lies in a run's folder, and in its trackers' folders, and is neither the run's nor theirs."""
    names = os.listdir(folder)
    others = other_files(names)
    for name in sorted(_OF_TRACKERS.keys() & set(names)):
        others += [os.path.join(name, inner) for inner in _others_within(os.path.join(folder, name))]
    return others


def remove_own(path: str | os.PathLike) -> None:
    """Remove a file of a run, or the folder of a tracker; what is not the tracker's stays in it.

    Raises:
        OSError: it cannot be removed.
    """
    if os.path.basename(path) not in _OF_TRACKERS:
        os.unlink(path)
        return
    others = _others_within(path)
    for name in set(os.listdir(path)).difference(others):
        inner = os.path.join(path, name)
        if os.path.isdir(inner):
            shutil.rmtree(inner)  # follows no link
        else:
            os.unlink(inner)
    if not others:
        os.rmdir(path)


def _others_within(path: str | os.PathLike) -> list[str]:
    """What lies in the folder of a tracker and is not the tracker's, by its name or because it is a link."""
    own = _OF_TRACKERS[os.path.basename(path)]
    return sorted(
        name
        for name in os.listdir(path)
        if not own.fullmatch(name) or os.path.islink(os.path.join(path, name))
    )


def _is_own(name: str) -> bool:
    return any(kind.fullmatch(name) for kind in (RESULTS, DAMAGED, _JOB))


def _is_a_runs(folder: Path, names: list[str]) -> bool:
    if names == [LOG_FILE]:  # a log alone is what another package's launcher leaves
        return True
    if LOCK_FILE in names or _CLAIM in names or read_job_file(folder) is not None:
        return True
    # DomainBed's, and finished ones of version 0.1.0
    return _begins_like_records(folder / RECORDS) or _begins_like_output(folder / OUTPUT)


def _begins_like_records(path: Path) -> bool:
    try:
        with open_regular(path) as file:
            first = parse_json(file.readline(LONGEST_LINE), dict)
    except (OSError, Malformed):
        return False
    return isinstance(first.get("args"), dict) and "step" in first


def _begins_like_output(path: Path) -> bool:
    try:
        with open_regular(path) as file:
            return file.read(64).startswith((b"Command:\n\t", b"Environment:\n\tPython: "))
    except OSError:
        return False
