"""SelfReg: self-supervised contrastive regularization without negative pairs."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from roga_domainbed.engine.algorithms._minibatches import number, pool
from roga_domainbed.engine.algorithms._mixing import mixing_weight
from roga_domainbed.engine.algorithms.erm import ERM
from roga_domainbed.engine.lib.misc import Minibatch

_FEATURE_WEIGHT = 0.3
_MIXING_ALPHA = 0.5


class SelfReg(ERM):
    """SelfReg (Kim, Park, Kim and Lee, ICCV 2021, arXiv:2104.09841).

    Each sample is drawn to another of its class, from any environment, and to a mixture of two of them: in its
    logits, and in its features against the other's features behind a projection. Both terms count at most as much
    as the cross-entropy, and less once that is below 1.

    Attributes:
        cdpl: the class-specific domain perturbation layer, which projects features. As in DomainBed its weights
            stay as they were drawn: no optimizer has them. The paper trains them.
    """

    def __init__(
        self, input_shape: tuple[int, ...], num_classes: int, num_domains: int, hparams: dict[str, Any]
    ):
        super().__init__(input_shape, num_classes, num_domains, hparams)
        width = self.featurizer.n_outputs
        hidden = width if width == 2048 else 2 * width
        self.cdpl = nn.Sequential(
            nn.Linear(width, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, width),
            nn.BatchNorm1d(width),
        )

    def update(
        self, minibatches: list[Minibatch], unlabeled: list[torch.Tensor] | None = None
    ) -> dict[str, float]:
        """One step; see ``Algorithm.update``."""
        x, y = pool(minibatches)
        weight = mixing_weight(_MIXING_ALPHA)
        y, order = y.sort()
        features = self.featurizer(x[order])
        projected = self.cdpl(features)
        logits = self.classifier(features)
        first, second = (partners.to(y.device) for partners in two_partners(y))

        def distance_to(targets: torch.Tensor, projected_targets: torch.Tensor) -> torch.Tensor:
            return F.mse_loss(logits, targets) + _FEATURE_WEIGHT * F.mse_loss(features, projected_targets)

        individual = distance_to(logits[first], projected[first])
        mixed = distance_to(
            weight * logits[first] + (1 - weight) * logits[second],
            weight * projected[first] + (1 - weight) * projected[second],
        )
        risk = F.cross_entropy(logits, y)
        loss = risk + min(risk.item(), 1.0) * (weight * individual + (1 - weight) * mixed)
        self.descend(loss)
        return {"loss": number(loss)}


def two_partners(y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Two (B,) permutations within the classes of the sorted labels ``y`` (B,): the two partners of each sample."""
    first, second = [], []
    start = 0
    for count in y.unique_consecutive(return_counts=True)[1].tolist():
        first.append(start + torch.randperm(count))
        second.append(start + torch.randperm(count))
        start += count
    return torch.cat(first), torch.cat(second)
