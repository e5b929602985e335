"""Empirical risk plus annealed penalties, one of them the variance of the features: an information bottleneck."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from roga_domainbed.engine.algorithms._minibatches import number, pool, require_two_samples, unpool
from roga_domainbed.engine.algorithms._steps import restart
from roga_domainbed.engine.algorithms.erm import ERM
from roga_domainbed.engine.lib.misc import Minibatch


class InformationBottleneck(ERM):
    """The base of IB_ERM and IB_IRM (Ahuja et al., arXiv:2106.06607): ERM on nll + Σ weight · penalty.

    Features of small variance have a small entropy. As in DomainBed the variance is that of a feature within an
    environment, averaged over the features and the environments.

    ``nll`` is the mean risk. DomainBed adds the penalties to it before it is reported, so that its ``nll`` is the loss.

    The rule is DomainBed's: of the paper's text only the abstract was at hand.

    Attributes:
        EARLY_WEIGHTS: for each penalty, ``IB`` among them, its weight in the first ``<penalty>_penalty_anneal_iters``
            steps; after them it is ``<penalty>_lambda``. The hyper-parameters have the names in lower case.
        update_count: steps taken, int64 of shape (1,); saved with the weights.
    """

    EARLY_WEIGHTS: dict[str, float]

    def __init__(
        self, input_shape: tuple[int, ...], num_classes: int, num_domains: int, hparams: dict[str, Any]
    ):
        super().__init__(input_shape, num_classes, num_domains, hparams)
        self.register_buffer("update_count", torch.tensor([0]))

    def penalties(
        self,
        features: Sequence[torch.Tensor],
        logits: Sequence[torch.Tensor],
        labels: Sequence[torch.Tensor],
    ) -> dict[str, torch.Tensor]:
        """The scalar penalties under the names of ``EARLY_WEIGHTS``.

        Args:
            features: (B, D) for each environment.
            logits: (B, C) for each environment.
            labels: (B,) int64 for each environment.
        """
        return {"IB": torch.stack([f.var(0).mean() for f in features]).mean()}

    def update(
        self, minibatches: list[Minibatch], unlabeled: list[torch.Tensor] | None = None
    ) -> dict[str, float]:
        """One step; minibatches of at least two samples. See ``Algorithm.update``."""
        require_two_samples(minibatches, type(self).__name__)
        pooled = self.featurizer(pool(minibatches)[0])
        features, logits = unpool(pooled, minibatches), unpool(self.classifier(pooled), minibatches)
        labels = [y for _, y in minibatches]
        nll = torch.stack([F.cross_entropy(z, y) for z, y in zip(logits, labels, strict=True)]).mean()
        penalties = self.penalties(features, logits, labels)
        loss = nll
        for name, penalty in penalties.items():
            loss = loss + self._weight(name) * penalty
        self.descend(loss)
        self.update_count += 1
        named = {f"{name}_penalty": number(penalty) for name, penalty in penalties.items()}
        return {"loss": number(loss), "nll": number(nll), **named}

    def _weight(self, name: str) -> float:
        step, prefix = self.update_count.item(), name.lower()
        anneal = self.hparams[f"{prefix}_penalty_anneal_iters"]
        if step == anneal:
            restart(self.optimizer)
        return self.hparams[f"{prefix}_lambda"] if step >= anneal else self.EARLY_WEIGHTS[name]
