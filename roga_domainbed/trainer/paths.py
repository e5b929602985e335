"""Which file each sample of an environment is, where it is one."""

from __future__ import annotations

import os
from typing import Any


def files_of(environment: Any) -> tuple[str, list[str]] | None:
    """The dataset's folder, and the samples' files relative to it, with forward slashes.

    Ours say so themselves, in ``folder`` and ``paths``; torchvision's image folders, which upstream's environments
    are, have absolute ones in ``samples``, below the environment's folder ``root``. None for samples that are no files.
    """
    if hasattr(environment, "paths"):
        return os.fspath(environment.folder), environment.paths
    if not (hasattr(environment, "samples") and hasattr(environment, "root")):
        return None
    folder = os.path.dirname(os.path.abspath(environment.root))
    return folder, [
        os.path.relpath(os.path.abspath(path), folder).replace(os.sep, "/") for path, _ in environment.samples
    ]
