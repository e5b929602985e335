"""Mixup between environments."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from roga_domainbed.catalog.hparams import HParam, log_uniform
from roga_domainbed.engine.algorithms._minibatches import number
from roga_domainbed.engine.algorithms._mixing import mixing_weight
from roga_domainbed.engine.algorithms.erm import ERM
from roga_domainbed.engine.lib.misc import Minibatch, random_pairs_of_minibatches


class Mixup(ERM):
    """Inter-domain mixup (Xu et al., arXiv:1912.01805; Yan et al., arXiv:2001.00677).

    The environments form a random cycle, and each is mixed with the next one: x = λ x_i + (1 − λ) x_j with
    λ ~ Beta(α, α), and the same mixture of the two cross-entropies.
    """

    HPARAMS = (
        HParam(
            "mixup_alpha", 0.2, log_uniform(10, -1, 1), "both parameters of the Beta distribution", above=0
        ),
    )

    def update(
        self, minibatches: list[Minibatch], unlabeled: list[torch.Tensor] | None = None
    ) -> dict[str, float]:
        """One step on the mean loss of the mixed minibatches; see ``Algorithm.update``."""
        losses = []
        for (x_i, y_i), (x_j, y_j) in random_pairs_of_minibatches(minibatches):
            weight = mixing_weight(self.hparams["mixup_alpha"])
            logits = self.predict(weight * x_i + (1 - weight) * x_j)
            losses.append(weight * F.cross_entropy(logits, y_i) + (1 - weight) * F.cross_entropy(logits, y_j))
        loss = torch.stack(losses).mean()
        self.descend(loss)
        return {"loss": number(loss)}
