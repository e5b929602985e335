"""Representation self-challenging."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from roga_domainbed.catalog.hparams import HParam, uniform
from roga_domainbed.engine.algorithms._minibatches import number, pool
from roga_domainbed.engine.algorithms.erm import ERM
from roga_domainbed.engine.lib.misc import Minibatch


class RSC(ERM):
    """Representation self-challenging (Huang, Wang, Xing and Huang, arXiv:2007.02454, equations 1 to 5).

    Mutes the features with the largest gradient of the logit of the true class, in the samples whose true class loses
    most probability by it, and trains on the remaining features.
    """

    HPARAMS = (
        HParam(
            "rsc_f_drop_factor",
            1 / 3,
            uniform(0, 0.5),
            "fraction of each sample's features that is muted",
            at_least=0,
            at_most=1,
        ),
        HParam(
            "rsc_b_drop_factor",
            1 / 3,
            uniform(0, 0.5),
            "fraction of the samples whose features are muted",
            at_least=0,
            at_most=1,
        ),
    )

    def update(
        self, minibatches: list[Minibatch], unlabeled: list[torch.Tensor] | None = None
    ) -> dict[str, float]:
        """One step on the cross-entropy of the muted features; see ``Algorithm.update``."""
        x, y = pool(minibatches)
        features = self.featurizer(x)
        keep = self._kept(features.detach(), y)
        loss = F.cross_entropy(self.classifier(features * keep), y)
        self.descend(loss)
        return {"loss": number(loss)}

    def _kept(self, features: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """(B, D) bool: the features that are kept."""
        features.requires_grad_()
        logits = self.classifier(features)
        own = y[:, None]
        (gradient,) = torch.autograd.grad(logits.gather(1, own).sum(), features)
        with torch.no_grad():
            small = below_quantile(gradient, 1 - self.hparams["rsc_f_drop_factor"])
            muted = self.classifier(features * small)
            lost = (logits.softmax(1) - muted.softmax(1)).gather(1, own).T
            unaffected = below_quantile(lost, 1 - self.hparams["rsc_b_drop_factor"]).T
        return small | unaffected


def below_quantile(values: torch.Tensor, q: float) -> torch.Tensor:
    """Bool, of the shape of ``values``: strictly below the ``q``-quantile, in [0, 1], of its row."""
    # In float64: the rank of the quantile, q · (D − 1), is often an integer; rounded up, it would keep one more.
    threshold = torch.quantile(values.double(), q, dim=1, keepdim=True)
    return values < threshold.to(values.dtype)
