"""Which file each sample of an environment is, where it is one."""

from __future__ import annotations

import os
from typing import Any


def relative_paths(environment: Any) -> list[str] | None:
    """The files of ``environment``'s samples, relative to the dataset's folder, with forward slashes.

    Ours say so themselves, in ``paths``; torchvision's image folders, which upstream's environments are, have
    absolute ones in ``samples``, below the environment's folder ``root``. None for samples that are no files.
    """
    if hasattr(environment, "paths"):
        return environment.paths
    if not (hasattr(environment, "samples") and hasattr(environment, "root")):
        return None
    folder = os.path.dirname(os.path.abspath(environment.root))
    return [
        os.path.relpath(os.path.abspath(path), folder).replace(os.sep, "/") for path, _ in environment.samples
    ]
