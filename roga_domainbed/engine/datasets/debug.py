"""Random images with random labels: whole runs in seconds, for tests."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from roga_domainbed.engine.datasets.base import MultipleDomainDataset
from roga_domainbed.engine.datasets.tensors import TensorEnvironment
from roga_domainbed.seeds import generator

_SAMPLES = 16  # of each environment


class _Debug(MultipleDomainDataset):
    """Three environments of 16 standard-normal images with labels 0 and 1.

    The content is a constant. Upstream draws it from the run's random state, so there two jobs of one trial
    see different data.
    """

    ENVIRONMENTS = ["0", "1", "2"]
    INPUT_SHAPE: tuple[int, ...]

    def __init__(self, root: str | os.PathLike | None, test_envs: Sequence[int], hparams: dict[str, Any]):
        self.input_shape = self.INPUT_SHAPE
        self.num_classes = 2
        self.datasets = []
        for index in range(len(self.ENVIRONMENTS)):
            draw = generator(0, "debug images", *self.INPUT_SHAPE, index)
            images = draw.standard_normal((_SAMPLES, *self.INPUT_SHAPE), dtype=np.float32)
            labels = draw.integers(0, self.num_classes, _SAMPLES)
            self.datasets.append(TensorEnvironment(torch.from_numpy(images), labels))


class Debug28(_Debug):
    """Debug images of 28×28, for the small network."""

    INPUT_SHAPE = (3, 28, 28)


class Debug224(_Debug):
    """Debug images of 224×224, for ResNets."""

    INPUT_SHAPE = (3, 224, 224)
