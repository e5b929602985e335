"""Empirical risk plus a penalty whose weight is 1 at first and takes its full value after some steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from roga_domainbed.catalog.hparams import HParam, log_uniform, log_uniform_int
from roga_domainbed.engine.algorithms._minibatches import number, pool, unpool
from roga_domainbed.engine.algorithms._steps import restart
from roga_domainbed.engine.algorithms.erm import ERM
from roga_domainbed.engine.lib.misc import Minibatch


def penalty_hparams(prefix: str, weight: float, meaning: str) -> tuple[HParam, HParam]:
    """The two hyper-parameters of an annealed penalty; ``weight`` is the default of the first, ``meaning`` its text."""
    iters = "steps before the penalty's full weight"
    return (
        HParam(f"{prefix}_lambda", weight, log_uniform(10, -1, 5), meaning, at_least=0),
        HParam(f"{prefix}_penalty_anneal_iters", 500, log_uniform_int(10, 0, 4), iters, at_least=0),
    )


class AnnealedPenalty(ERM):
    """ERM on ``nll + weight · penalty``; subclasses define both terms and the prefix of the two hyper-parameters.

    Attributes:
        PREFIX: ``<PREFIX>_lambda`` is the full weight, ``<PREFIX>_penalty_anneal_iters`` the number of steps
            before it.
        update_count: steps taken, int64 of shape (1,); saved with the weights.
    """

    PREFIX: str

    def __init__(
        self, input_shape: tuple[int, ...], num_classes: int, num_domains: int, hparams: dict[str, Any]
    ):
        super().__init__(input_shape, num_classes, num_domains, hparams)
        self.register_buffer("update_count", torch.tensor([0]))

    def risk_and_penalty(
        self, logits: Sequence[torch.Tensor], labels: Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The mean risk and the penalty, both scalar.

        Args:
            logits: (B, C) for each environment.
            labels: (B,) int64 for each environment.
        """
        raise NotImplementedError

    def update(
        self, minibatches: list[Minibatch], unlabeled: list[torch.Tensor] | None = None
    ) -> dict[str, float]:
        """One step; see ``Algorithm.update``."""
        logits = unpool(self.network(pool(minibatches)[0]), minibatches)
        nll, penalty = self.risk_and_penalty(logits, [y for _, y in minibatches])
        loss = nll + self._penalty_weight() * penalty
        self.descend(loss)
        self.update_count += 1
        return {"loss": number(loss), "nll": number(nll), "penalty": number(penalty)}

    def _penalty_weight(self) -> float:
        step = self.update_count.item()
        anneal = self.hparams[f"{self.PREFIX}_penalty_anneal_iters"]
        if step == anneal:
            restart(self.optimizer)
        return self.hparams[f"{self.PREFIX}_lambda"] if step >= anneal else 1.0
