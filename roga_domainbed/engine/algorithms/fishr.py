"""Fishr: gradients of equal variance in all environments."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, grad, vmap

from roga_domainbed.catalog.hparams import HParam, log_uniform, uniform, uniform_int
from roga_domainbed.engine.algorithms._minibatches import number, pool, unpool
from roga_domainbed.engine.algorithms._steps import restart
from roga_domainbed.engine.algorithms.erm import ERM
from roga_domainbed.engine.lib.misc import Minibatch


class Fishr(ERM):
    """Invariant gradient variances (Rame, Dancette and Cord, arXiv:2109.02934).

    Each sample has a gradient of its cross-entropy with respect to the classifier's weights, and each environment the
    variance of these over its minibatch, weight by weight: v_e. The penalty is the mean over the environments and the
    weights of (v_e − v)², v being the mean of the v_e. The variances are exponential moving averages, divided by
    1 − ``ema``, so that the current minibatch's share has the same gradient whatever ``ema`` is. The penalty counts
    from step ``penalty_anneal_iters`` on, where the optimizer restarts; before, it is only reported. The rule rests on
    what DomainBed's does, not on the paper's text.

    DomainBed's needs the package backpack and fails with its current version. This one's gradients are torch's own, of
    any classifier. The moving averages are restored when a run resumes; like DomainBed's they are not in
    ``state_dict``.

    Attributes:
        update_count: steps taken, int64 of shape (1,); saved with the weights.
        variances: (num_domains, number of the classifier's weights), the moving averages; 0 at first.
    """

    HPARAMS = (
        HParam(
            "lambda", 1000.0, log_uniform(10, 1, 4), "weight of the variances' distance penalty", at_least=0
        ),
        HParam("penalty_anneal_iters", 1500, uniform_int(0, 5000), "steps before the penalty", at_least=0),
        HParam(
            "ema",
            0.95,
            uniform(0.90, 0.99),
            "share of the past in the moving average of the variances",
            at_least=0,
            below=1,
        ),
    )

    def __init__(
        self, input_shape: tuple[int, ...], num_classes: int, num_domains: int, hparams: dict[str, Any]
    ):
        super().__init__(input_shape, num_classes, num_domains, hparams)
        self.register_buffer("update_count", torch.tensor([0]))
        n_weights = sum(weight.numel() for weight in self.classifier.parameters())
        self.register_buffer("variances", torch.zeros(num_domains, n_weights), persistent=False)

    def update(
        self, minibatches: list[Minibatch], unlabeled: list[torch.Tensor] | None = None
    ) -> dict[str, float]:
        """One step; see ``Algorithm.update``."""
        x, y = pool(minibatches)
        features = self.featurizer(x)
        nll = F.cross_entropy(self.classifier(features), y)
        penalty = self._penalty(per_sample_gradients(self.classifier, features, y), minibatches)
        step, anneal = self.update_count.item(), self.hparams["penalty_anneal_iters"]
        if step == anneal:
            restart(self.optimizer)
        loss = nll + self.hparams["lambda"] * penalty if step >= anneal else nll
        self.descend(loss)
        self.update_count += 1
        return {"loss": number(loss), "nll": number(nll), "penalty": number(penalty)}

    def _penalty(self, gradients: torch.Tensor, minibatches: list[Minibatch]) -> torch.Tensor:
        """The mean squared distance of the environments' variances from their mean; moves the averages."""
        now = torch.stack([g.var(0, correction=0) for g in unpool(gradients, minibatches)])
        ema = self.hparams["ema"]
        averages = ema * self.variances + (1 - ema) * now
        self.variances = averages.detach()
        corrected = averages / (1 - ema)
        return (corrected - corrected.mean(0)).pow(2).mean()


def per_sample_gradients(classifier: nn.Module, features: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Gradients of each sample's cross-entropy with respect to the classifier's weights, differentiable.

    Args:
        classifier: without dropout or batch norm.
        features: (B, D).
        y: (B,) int64.

    Returns:
        (B, number of weights), the parameters in the classifier's order.
    """

    def loss(weights: dict[str, torch.Tensor], z: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(functional_call(classifier, weights, (z[None],)), label[None])

    weights = dict(classifier.named_parameters())
    gradients = vmap(grad(loss), in_dims=(None, 0, 0))(weights, features, y)
    return torch.cat([gradient.flatten(1) for gradient in gradients.values()], 1)
