"""Which folders a run may write in, and which of the files there are its own.

A folder is a run's if it is empty, or if a training or a launcher, ours or DomainBed's, has worked in it. Any other is
somebody else's, whatever its files are called. Only files of the names below are ever replaced or removed.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable
from pathlib import Path

from roga_domainbed.errors import RogaError, shortened
from roga_domainbed.files import locked
from roga_domainbed.foreign import Malformed, check_regular, open_regular, parse_json
from roga_domainbed.launch.jobfile import CLAIM_FILE, JOB_FILE, LOCK_FILE, LOG_FILE, is_running, read_job_file
from roga_domainbed.results.records import DONE, DROPPED, ERRORS, LONGEST_LINE, RECORDS, SCORES, is_done

OUTPUT = "out.txt"
TRACE = "trace.json.gz"

_NAMES = [re.escape(name) for name in (DONE, DROPPED, RECORDS, SCORES, TRACE, OUTPUT, ERRORS, "model.pkl")]
#: What a training makes anew when it starts anew.
RESULTS = re.compile(rf"({'|'.join(_NAMES)}|model_step\d+\.pkl|checkpoint_\d+\.pt)(\.part)?")
DAMAGED = re.compile(r"damaged_checkpoint_\d+\.pt")
_JOB = re.compile(rf"{re.escape(LOCK_FILE)}|({re.escape(JOB_FILE)}|{LOG_FILE}|{CLAIM_FILE})(\.part)?")


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
            check_regular(path)
        except OSError as error:
            return f"has a {name} that is no file of a run: {error.strerror}"
    if len(own) == len(names) and not any(os.path.getsize(os.path.join(folder, name)) for name in own):
        return None  # nothing is there that could be lost
    if not _is_a_runs(Path(folder), names):
        return holds_no("run", names)
    return None


def holds_no(kind: str, names: Iterable[str]) -> str:
    """The end of a sentence about a folder with files called ``names`` that is somebody else's."""
    return (
        f"holds other files and no {kind} ({shortened(sorted(names))}): choose a new folder or an empty one"
    )


def delete_unfinished(folder: str) -> bool:
    """Delete the folder of a job that is not done and does not run now; whether it was there to delete.

    Raises:
        RogaError: it holds files that no run gives, or is no run's; nothing is deleted then.
        OSError: it cannot be deleted.
    """
    problem = run_folder_problem(folder)
    if problem is not None:
        raise RogaError(problem)
    others = other_files(os.listdir(folder))
    if others:
        raise RogaError(f"it holds other files too ({shortened(others)}); move them, then delete again")
    # Nobody starts the job while we hold this; minutes may lie between the list and the answer to the question.
    with locked(Path(folder, CLAIM_FILE), patience_s=math.inf):
        if is_done(folder) or is_running(folder):
            return False
        for name in os.listdir(folder):
            os.unlink(os.path.join(folder, name))
        os.rmdir(folder)
    return True


def _is_own(name: str) -> bool:
    return any(kind.fullmatch(name) for kind in (RESULTS, DAMAGED, _JOB))


def _is_a_runs(folder: Path, names: list[str]) -> bool:
    if names == [LOG_FILE]:  # a log alone is what another package's launcher leaves
        return True
    if LOCK_FILE in names or CLAIM_FILE in names or read_job_file(folder) is not None:
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
