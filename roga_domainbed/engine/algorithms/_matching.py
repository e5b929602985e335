"""Empirical risk plus a distance between the environments' features."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F

from roga_domainbed.catalog.hparams import HParam, log_uniform
from roga_domainbed.engine.algorithms._minibatches import number
from roga_domainbed.engine.algorithms.erm import ERM
from roga_domainbed.engine.lib.misc import Minibatch


class FeatureMatching(ERM):
    """ERM plus ``mmd_gamma`` times the mean distance of all pairs of environments; subclasses define the distance.

    A subclass may also compare other samples than whole environments: it overrides ``penalty``.
    """

    HPARAMS = (
        HParam(
            "mmd_gamma", 1.0, log_uniform(10, -1, 1), "weight of the distance of the features", at_least=0
        ),
    )

    def distance(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The distance between two samples of features, (N, D) and (M, D); scalar."""
        raise NotImplementedError

    def update(
        self, minibatches: list[Minibatch], unlabeled: list[torch.Tensor] | None = None
    ) -> dict[str, float]:
        """One step; ``loss`` is the risk without the penalty. See ``Algorithm.update``."""
        features = [self.featurizer(x) for x, _ in minibatches]
        risks = [
            F.cross_entropy(self.classifier(f), y) for f, (_, y) in zip(features, minibatches, strict=True)
        ]
        risk = torch.stack(risks).mean()
        penalty = self.penalty(features)
        self.descend(risk + self.hparams["mmd_gamma"] * penalty)
        return {"loss": number(risk), "penalty": number(penalty)}

    def penalty(self, features: list[torch.Tensor]) -> torch.Tensor:
        """What is added, before its weight; scalar. ``features`` has (N, D) of each environment."""
        distances = [self.distance(a, b) for a, b in itertools.combinations(features, 2)]
        # A single environment has no pair and no penalty.
        return torch.stack(distances).mean() if distances else features[0].new_zeros(())
