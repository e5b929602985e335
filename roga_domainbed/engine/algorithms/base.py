"""The interface of algorithms to the trainer: a module with ``update`` and ``predict``."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from roga_domainbed.catalog.hparams import HParam


class Algorithm(nn.Module):
    """A domain-generalization algorithm.

    Attributes:
        HPARAMS: the hyper-parameters of this algorithm alone, in the order they get in ``hparams``; those that
            depend on the dataset are in ``dataset_hparams``.
    """

    HPARAMS: tuple[HParam, ...] = ()

    def __init__(
        self, input_shape: tuple[int, ...], num_classes: int, num_domains: int, hparams: dict[str, Any]
    ):
        """Store the hyper-parameters.

        Args:
            input_shape: shape of one input without the batch axis, for example ``(3, 224, 224)``.
            num_classes: number of classes, at least 2.
            num_domains: number of training environments.
            hparams: name to value; the same dict is written into every record.
        """
        super().__init__()
        self.hparams = hparams

    @classmethod
    def dataset_hparams(cls, dataset: str) -> tuple[HParam, ...]:
        """Hyper-parameters that depend on the dataset; they come after lr, weight decay and batch size.

        One with the name of an earlier declaration replaces it, in its place.
        """
        return ()

    def update(
        self,
        minibatches: list[tuple[torch.Tensor, torch.Tensor]],
        unlabeled: list[torch.Tensor] | None = None,
    ) -> dict[str, float]:
        """Take one step.

        Args:
            minibatches: one ``(x, y)`` for each training environment, on the model's device; ``y`` is int64 of
                shape (B,).
            unlabeled: inputs of the test environments for domain adaptation, else None.

        Returns:
            What to record, as Python numbers or as scalar tensors on a GPU; the trainer averages them between two
            records.
        """
        raise NotImplementedError

    def predict(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of shape (B, C) for inputs of shape (B, *input_shape)."""
        raise NotImplementedError
