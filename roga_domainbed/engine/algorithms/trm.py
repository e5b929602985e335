"""Transfer risk minimization."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from roga_domainbed.catalog.hparams import HParam, log_uniform, log_uniform_int
from roga_domainbed.engine import networks
from roga_domainbed.engine.algorithms._minibatches import number, pool, unpool
from roga_domainbed.engine.algorithms._steps import descend
from roga_domainbed.engine.algorithms.base import Algorithm
from roga_domainbed.engine.lib.misc import Minibatch
from roga_domainbed.optim.base import base_optimizer

_HEAD_STEPS = 30
_HEAD_LR = 0.1
_TERMS = 10
_DIVERGED = 10.0


class TRM(Algorithm):
    """Transfer risk minimization (Xu and Jaakkola, arXiv:2110.09940).

    Each environment Q has a linear head of its own, which takes 30 plain gradient steps of rate 0.1 on Q's features in
    every update. Its transfer risk is Σ_P α_QP R_P − ``cos_lambda`` ⟨H⁻¹ ∇_w Σ_P α_QP R_P, ∇_w R_Q⟩ over the other
    environments P. R_P is the risk of Q's head on P. The second term says how the head would move with the features; H
    is the Hessian of R_Q in the head's weights. The features descend the pooled risk plus the mean transfer risk. The
    heads are constants there, and so is the first factor of the product. The weights α_Q grow exponentially with the
    weighted risks, at the rate ``groupdro_eta``, and sum to 1. All of it begins at step ``iters``; before it, the loss
    is the pooled risk. The rule rests on what DomainBed's does, not on the paper's text.

    DomainBed's needs a GPU, and its ``train`` and ``eval`` set the featurizer alone. Its Neumann series for H⁻¹v, which
    should be Σ_k (I − H)^k v, lacks the first term and has the second one twice. The gradient of its loss has the
    weights α of the next step, before they sum to 1; here loss and gradient have the same. As in DomainBed, the
    classifier is linear whatever ``nonlinear_classifier`` says, and with ``class_balanced`` the heads take on the
    classifier's weights before their steps.

    The heads and α are restored when a run resumes; like DomainBed's they are not in ``state_dict``.

    Attributes:
        update_count: steps taken, int64 of shape (1,); saved with the weights.
        featurizer: input to features (B, D).
        classifier: features to logits.
        head_weights, head_biases: (num_domains, C, D) and (num_domains, C), the heads.
        alpha: (num_domains, num_domains), the weight of risk P in row Q; the diagonal is 0.
    """

    HPARAMS = (
        HParam(
            "cos_lambda", 1e-4, log_uniform(10, -5, 0), "weight of the gradient-matching term", at_least=0
        ),
        HParam("iters", 200, log_uniform_int(10, 0, 4), "steps before the transfer risk", at_least=0),
        HParam("groupdro_eta", 1e-2, log_uniform(10, -3, -1), "step size of the risks' weights", at_least=0),
    )

    def __init__(
        self, input_shape: tuple[int, ...], num_classes: int, num_domains: int, hparams: dict[str, Any]
    ):
        super().__init__(input_shape, num_classes, num_domains, hparams)
        self.register_buffer("update_count", torch.tensor([0]))
        self.featurizer = networks.Featurizer(input_shape, hparams)
        width = self.featurizer.n_outputs
        self.classifier = nn.Linear(width, num_classes)
        self.optimizer = base_optimizer(self.parameters(), hparams)
        heads = [nn.Linear(width, num_classes) for _ in range(num_domains)]
        for name, value in (
            ("head_weights", torch.stack([head.weight.detach() for head in heads])),
            ("head_biases", torch.stack([head.bias.detach() for head in heads])),
            ("alpha", torch.ones(num_domains, num_domains) - torch.eye(num_domains)),
        ):
            self.register_buffer(name, value, persistent=False)

    def update(
        self, minibatches: list[Minibatch], unlabeled: list[torch.Tensor] | None = None
    ) -> dict[str, float]:
        """One step; ``trm_loss`` is the transfer risk. See ``Algorithm.update``."""
        x, y = pool(minibatches)
        features = self.featurizer(x)
        nll = F.cross_entropy(self.classifier(features), y)
        transfer_risk = torch.zeros_like(nll)
        if self.update_count.item() >= self.hparams["iters"]:
            transfer_risk = self._transfer_risk(unpool(features, minibatches), [y for _, y in minibatches])
        descend(nll + transfer_risk, self.optimizer)
        self.update_count += 1
        return {"nll": number(nll), "trm_loss": number(transfer_risk)}

    def _transfer_risk(
        self, features: Sequence[torch.Tensor], labels: Sequence[torch.Tensor]
    ) -> torch.Tensor:
        """The mean over the environments; moves the heads and ``alpha``."""
        domains = list(zip(features, labels, strict=True))
        self._fit_heads(domains)
        self.alpha = F.normalize(self.alpha, p=1, dim=1)
        transfer_risks = []
        for q, own in enumerate(domains):
            head, alpha = (self.head_weights[q], self.head_biases[q]), self.alpha[q].clone()
            risks = torch.stack([F.cross_entropy(F.linear(z, *head), y) for z, y in domains])
            with torch.no_grad():
                slope = sum(
                    a * weight_gradient(*head, z, y) for a, (z, y) in zip(alpha, domains, strict=True)
                )
                direction = solved(*head, own[0], slope)
                self.alpha[q] *= torch.exp(self.hparams["groupdro_eta"] * alpha * risks)
            matching = (direction * weight_gradient(*head, *own)).sum()
            transfer_risks.append(alpha @ risks - self.hparams["cos_lambda"] * matching)
        return torch.stack(transfer_risks).mean()

    @torch.no_grad()
    def _fit_heads(self, domains: Sequence[Minibatch]) -> None:
        if self.hparams["class_balanced"]:
            self.head_weights = self.classifier.weight.detach().expand_as(self.head_weights).clone()
        for weight, bias, (z, y) in zip(self.head_weights, self.head_biases, domains, strict=True):
            for _ in range(_HEAD_STEPS):
                residual = residuals(weight, bias, z, y)
                weight -= _HEAD_LR * residual.T @ z
                bias -= _HEAD_LR * residual.sum(0)

    def predict(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of shape (B, C)."""
        return self.classifier(self.featurizer(x))


def residuals(weight: torch.Tensor, bias: torch.Tensor, z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """(B, C): the gradient of the mean cross-entropy of a linear head on features ``z`` (B, D) in its logits."""
    return (F.linear(z, weight, bias).softmax(1) - F.one_hot(y, len(bias))) / len(y)


def weight_gradient(
    weight: torch.Tensor, bias: torch.Tensor, z: torch.Tensor, y: torch.Tensor
) -> torch.Tensor:
    """(C, D): the gradient of the mean cross-entropy in ``weight``, differentiable in the features ``z`` (B, D)."""
    return residuals(weight, bias, z, y).T @ z


def hessian_product(
    weight: torch.Tensor, bias: torch.Tensor, z: torch.Tensor, v: torch.Tensor
) -> torch.Tensor:
    """(C, D): the Hessian of the mean cross-entropy in ``weight``, times ``v`` (C, D). It needs no labels."""
    p = F.linear(z, weight, bias).softmax(1)
    change = z @ v.T
    return (p * (change - (p * change).sum(1, keepdim=True))).T @ z / len(z)


def solved(weight: torch.Tensor, bias: torch.Tensor, z: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """H⁻¹v for the Hessian of ``hessian_product``, by the Neumann series Σ_k (I − H)^k v up to k = 10.

    It converges where H's eigenvalues are below 2. As in DomainBed it ends early once an entry is above 10.
    """
    total = v
    for _ in range(_TERMS):
        v = v - hessian_product(weight, bias, z, v)
        total = total + v
        if total.abs().max() > _DIVERGED:
            break
    return total
