"""An environment in memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from roga_domainbed.input.environment import Environment


class TensorEnvironment(Environment):
    """Images in one tensor; nothing random happens on reading.

    Args:
        images: (N, …), of any type.
        labels: (N,) class indices.
        read: from a stored image to a float tensor; None if they are the same. A module-level function or a
            partial of one, because loader processes may have to pickle it.
    """

    may_draw = False

    def __init__(
        self,
        images: torch.Tensor,
        labels: np.ndarray,
        read: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ):
        self.images = images
        self.labels = np.asarray(labels, dtype=np.int64)
        self._read, self.in_memory = read, read is None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = self.images[index]
        return (image if self._read is None else self._read(image)), int(self.labels[index])
