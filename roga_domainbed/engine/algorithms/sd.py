"""Spectral decoupling."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from roga_domainbed.catalog.hparams import HParam, log_uniform
from roga_domainbed.engine.algorithms._minibatches import number, pool
from roga_domainbed.engine.algorithms.erm import ERM
from roga_domainbed.engine.lib.misc import Minibatch


class SD(ERM):
    """Spectral decoupling against gradient starvation (Pezeshki et al., arXiv:2011.09468): small logits.

    The penalty is the mean square of the logits, over samples and classes.
    """

    HPARAMS = (
        HParam("sd_reg", 0.1, log_uniform(10, -5, -1), "weight of the logits' mean square", at_least=0),
    )

    def update(
        self, minibatches: list[Minibatch], unlabeled: list[torch.Tensor] | None = None
    ) -> dict[str, float]:
        """One step; ``loss`` is the cross-entropy without the penalty. See ``Algorithm.update``."""
        x, y = pool(minibatches)
        logits = self.predict(x)
        loss = F.cross_entropy(logits, y)
        penalty = logits.pow(2).mean()
        self.descend(loss + self.hparams["sd_reg"] * penalty)
        return {"loss": number(loss), "penalty": number(penalty)}
