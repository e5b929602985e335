"""Empirical risk minimization: one cross-entropy over all environments' minibatches together."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from roga_domainbed.engine import networks
from roga_domainbed.engine.algorithms._minibatches import number, pool
from roga_domainbed.engine.algorithms._steps import descend
from roga_domainbed.engine.algorithms.base import Algorithm
from roga_domainbed.optim.base import base_optimizer


class ERM(Algorithm):
    """Empirical risk minimization (Vapnik 1998).

    Attributes:
        featurizer: input to features of shape (B, ``featurizer.n_outputs``).
        classifier: features to logits.
        network: the two in sequence. It shares their weights, so each is in ``state_dict`` under two names;
            DomainBed's checkpoints have both, and ours stay readable by it.
        optimizer: over ``network``; Adam, or the one that the hparam ``optimizer`` names.
    """

    def __init__(
        self, input_shape: tuple[int, ...], num_classes: int, num_domains: int, hparams: dict[str, Any]
    ):
        super().__init__(input_shape, num_classes, num_domains, hparams)
        self.featurizer = networks.Featurizer(input_shape, hparams)
        self.classifier = networks.Classifier(
            self.featurizer.n_outputs, num_classes, hparams["nonlinear_classifier"]
        )
        self.network = nn.Sequential(self.featurizer, self.classifier)
        self.optimizer = base_optimizer(self.network.parameters(), hparams)

    def update(
        self,
        minibatches: list[tuple[torch.Tensor, torch.Tensor]],
        unlabeled: list[torch.Tensor] | None = None,
    ) -> dict[str, float]:
        """One step on the mean cross-entropy of all samples; see ``Algorithm.update``."""
        x, y = pool(minibatches)
        loss = F.cross_entropy(self.predict(x), y)
        self.descend(loss)
        return {"loss": number(loss)}

    def descend(self, loss: torch.Tensor) -> None:
        """One step of the optimizer down the gradient of the scalar ``loss``."""
        descend(loss, self.optimizer)

    def predict(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of shape (B, C)."""
        return self.network(x)
