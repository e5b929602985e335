"""A video's folder while it is made: below the staging folder, to be renamed when all of it is there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from datasets_ext.prepare.clips import Outcome


def put_in_place(outcome: Outcome, part: Path, root: Path) -> Outcome:
    """Give the folder ``part`` the name that it has in the dataset, or take it away if nothing is to be kept."""
    if outcome.reason:
        shutil.rmtree(part)
        return outcome
    target = root / outcome.folder
    target.parent.mkdir(parents=True, exist_ok=True)
    os.rename(part, target)
    return outcome


def renew(folder: Path) -> None:
    """An empty folder of that name."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
