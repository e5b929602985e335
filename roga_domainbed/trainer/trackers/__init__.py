"""Experiment trackers: TensorBoard, Weights & Biases and MLflow, for runs that ask for them with ``--track``.

``results.jsonl`` stays the only source of a run's numbers. Each tracker is a process of its own that reads this file as
it grows. Whatever a tracker does, waits for or dies of, the training neither waits nor ends with it, nor do its threads
and random numbers meet those of the training. A resumed run sends what its tracker lacks, from the same file.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable

from roga_domainbed.errors import MissingExtra

#: Name → the module with its ``Tracker``.
MODULES = {
    "tensorboard": "roga_domainbed.trainer.trackers.to_tensorboard",
    "wandb": "roga_domainbed.trainer.trackers.to_wandb",
    "mlflow": "roga_domainbed.trainer.trackers.to_mlflow",
}
#: As users write them; each is also its package's name.
NAMES = tuple(MODULES)


def problems(names: Iterable[str]) -> list[str]:
    """A sentence for each of the trackers whose package is not installed; nothing is imported."""
    return [
        str(MissingExtra(name, "track", f"--track {name}"))
        for name in dict.fromkeys(names)
        if name in NAMES and not _is_installed(name)
    ]


def _is_installed(package: str) -> bool:
    spec = importlib.util.find_spec(package)
    # A folder ./wandb, where W&B keeps its runs, is found too: as a package without code.
    return spec is not None and spec.origin is not None
