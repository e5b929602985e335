"""An environment with other labels: what training and selection are told under ``--label_noise``."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import torch

from roga_domainbed.input.environment import Environment, same_class_defines


class Relabelled(Environment):
    """``environment`` with ``labels`` in place of its own; everything else is the environment's.

    Images are read and kept by the environment, so no cache holds these labels.

    Args:
        environment: of any class.
        labels: (N,) int64 classes.
    """

    def __init__(self, environment: Environment, labels: np.ndarray):
        self._environment, self.labels = environment, labels
        self.videos, self.pixels_shape = environment.videos, environment.pixels_shape
        self.may_draw, self.in_memory = environment.may_draw, environment.in_memory
        # A subclass with a __getitem__ of its own has other samples than the pixels of the class above.
        if same_class_defines(environment, "pixels", "__getitem__"):
            self.recipe = environment.recipe

    def __len__(self) -> int:
        return len(self._environment)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self._environment[index][0], int(self.labels[index])

    @property
    def folder(self) -> str | os.PathLike | None:
        """The environment's."""
        return self._environment.folder

    @property
    def relative_paths(self) -> Sequence[str] | None:
        """The environment's."""
        return self._environment.relative_paths

    @property
    def evaluation(self) -> Environment:
        """The same samples and labels without augmentation."""
        view = self._environment.evaluation
        return self if view is self._environment else Relabelled(view, self.labels)

    def pixels(self, index: int) -> np.ndarray:
        """The environment's."""
        return self._environment.pixels(index)

    def file(self, index: int) -> str:
        """The environment's."""
        return self._environment.file(index)

    def n_wrong(self, indices: Sequence[int]) -> int:
        """How many of ``indices`` have another label than in the environment."""
        chosen = list(indices)
        return int((self.labels[chosen] != self._environment.labels_of(chosen)).sum())
