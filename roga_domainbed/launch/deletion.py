"""The folder of a job that is not done, deleted without taking it from anybody who works in it."""

from __future__ import annotations

import contextlib
import os

from roga_domainbed.errors import RogaError, shortened
from roga_domainbed.launch.folders import foreign_files, remove_own, run_folder_problem
from roga_domainbed.launch.lease import claim


def delete_unfinished(folder: str) -> bool:
    """Delete the folder of a job that is not done and does not run now; whether it was there to delete.

    Raises:
        RogaError: it holds files that no run gives, or is no run's; nothing is deleted then.
        OSError: it cannot be deleted.
    """
    problem = run_folder_problem(folder)
    if problem is not None:
        raise RogaError(problem)
    others = foreign_files(folder)
    if others:
        raise RogaError(f"it holds other files too ({shortened(others)}); move them, then delete again")
    # Nobody starts the job while we hold it; minutes may lie between the list and the answer to the question.
    lease = claim(folder, ("delete",), retry=True, delete=True)
    if lease is None:
        return False
    for name in os.listdir(folder):
        if name != os.path.basename(lease.path):
            remove_own(os.path.join(folder, name))
    os.unlink(lease.path)
    with contextlib.suppress(OSError):  # somebody has begun the job anew in this instant
        os.rmdir(folder)
    return True
