"""Which file each sample of an environment is, where it is one."""

from __future__ import annotations

import os
from typing import Any


def files_of(environment: Any) -> tuple[str, list[str]] | None:
    """The dataset's folder, and the samples' files relative to it, with forward slashes.

    Ours say so themselves, in ``folder`` and ``relative_paths``; torchvision's image folders, which upstream's
    environments are, have absolute ones in ``samples``, below the environment's folder ``root``. None for samples that
    are no files.
    """
    if hasattr(environment, "relative_paths"):
        return os.fspath(environment.folder), environment.relative_paths
    if not (hasattr(environment, "samples") and hasattr(environment, "root")):
        return None
    folder = os.path.dirname(os.path.normpath(environment.root))
    return folder, [
        os.path.normpath(path).removeprefix(folder).replace(os.sep, "/").lstrip("/")
        for path, _ in environment.samples
    ]
