"""The base class of datasets: environments in a fixed order, and how long to train on them."""

from __future__ import annotations

import os

from roga_domainbed.errors import RogaError
from roga_domainbed.input.environment import Environment


class MultipleDomainDataset:
    """Environments under one name; ``dataset[i]`` is environment i.

    Attributes:
        N_STEPS: steps to train for by default.
        CHECKPOINT_FREQ: steps between two records by default.
        N_WORKERS: loader processes by default.
        ENVIRONMENTS: names of the environments, the columns of result tables.
        INPUT_SHAPE: shape of an image where the class fixes it.
        input_shape: shape of an image, a tuple.
        num_classes: number of classes, the same in all environments.
        datasets: the environments.
    """

    N_STEPS = 5001
    CHECKPOINT_FREQ = 100
    N_WORKERS = 8
    ENVIRONMENTS: list[str] | None = None
    INPUT_SHAPE: tuple[int, ...] | None = None

    input_shape: tuple[int, ...]
    num_classes: int
    datasets: list[Environment]

    def __getitem__(self, index: int) -> Environment:
        return self.datasets[index]

    def __len__(self) -> int:
        return len(self.datasets)


class NoDataDirectory(RogaError, ValueError):
    """A dataset on disk was asked for without ``--data_dir``.

    Also a ``ValueError``, which is what DomainBed raises.
    """


def require_root(root: str | os.PathLike | None, dataset: str) -> str:
    """``root`` as a string, or ``NoDataDirectory`` that names the dataset."""
    if root is None:
        raise NoDataDirectory(f"{dataset} lies on disk: give the folder that holds it with --data_dir")
    return os.fspath(root)
