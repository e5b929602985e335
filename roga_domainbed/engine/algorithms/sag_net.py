"""Style-agnostic networks."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from roga_domainbed.catalog.hparams import HParam, log_uniform
from roga_domainbed.engine import networks
from roga_domainbed.engine.algorithms._minibatches import number, pool
from roga_domainbed.engine.algorithms._steps import descend
from roga_domainbed.engine.algorithms.base import Algorithm
from roga_domainbed.engine.lib.misc import Minibatch
from roga_domainbed.optim.base import base_optimizer

_EPS = 1e-5


class SagNet(Algorithm):
    """Style-agnostic networks (Nam, Lee, Park, Yoon and Yoo, arXiv:1910.11645, algorithm 1).

    The style of a sample is the mean and the variance of its features, the content is what normalizing by them leaves.
    A content network learns to classify features whose style is mixed with another sample's, a style network features
    whose content is another sample's; the featurizer then takes a step that makes the style network's prediction
    uniform.

    As in DomainBed, and unlike the paper, both networks are classifiers behind the whole featurizer, so the mean and
    the variance are over the features of a sample and not over the positions of a map; and the adversarial step moves
    all of the featurizer and not its norms' weights alone.

    The rule is DomainBed's: of the paper's text only the abstract was at hand.

    Attributes:
        network_f: the featurizer, input to features (B, D).
        network_c: the content network, features to logits; ``predict`` uses it on the features as they are.
        network_s: the style network, features to logits.
    """

    HPARAMS = (
        HParam("sag_w_adv", 0.1, log_uniform(10, -2, 1), "weight of the adversarial loss", at_least=0),
    )

    def __init__(
        self, input_shape: tuple[int, ...], num_classes: int, num_domains: int, hparams: dict[str, Any]
    ):
        super().__init__(input_shape, num_classes, num_domains, hparams)
        self.network_f = networks.Featurizer(input_shape, hparams)
        width, is_nonlinear = self.network_f.n_outputs, hparams["nonlinear_classifier"]
        self.network_c = networks.Classifier(width, num_classes, is_nonlinear)
        self.network_s = networks.Classifier(width, num_classes, is_nonlinear)
        self.optimizer_f, self.optimizer_c, self.optimizer_s = (
            base_optimizer(network.parameters(), hparams)
            for network in (self.network_f, self.network_c, self.network_s)
        )

    def update(
        self, minibatches: list[Minibatch], unlabeled: list[torch.Tensor] | None = None
    ) -> dict[str, float]:
        """A step for the content, one for the style and one against it; see ``Algorithm.update``."""
        x, y = pool(minibatches)
        loss_c = F.cross_entropy(self.network_c(mix_styles(self.network_f(x))), y)
        descend(loss_c, self.optimizer_f, self.optimizer_c)

        with torch.no_grad():  # this step leaves the featurizer alone
            features = self.network_f(x)
        loss_s = F.cross_entropy(self.network_s(swap_contents(features)), y)
        descend(loss_s, self.optimizer_s)

        style_logits = self.network_s(swap_contents(self.network_f(x)))
        loss_adv = self.hparams["sag_w_adv"] * distance_from_uniform(style_logits)
        descend(loss_adv, self.optimizer_f)
        return {"loss_c": number(loss_c), "loss_s": number(loss_s), "loss_adv": number(loss_adv)}

    def predict(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of shape (B, C)."""
        return self.network_c(self.network_f(x))


def mix_styles(features: torch.Tensor) -> torch.Tensor:
    """(B, D) ``features`` whose mean and variance are mixed, in random proportion, with those of another sample."""
    share, other = _draw(features)
    content, mean, variance = _taken_apart(features)
    mean = share * mean + (1 - share) * mean[other]
    variance = share * variance + (1 - share) * variance[other]
    return content * (variance + _EPS).sqrt() + mean


def swap_contents(features: torch.Tensor) -> torch.Tensor:
    """(B, D) ``features`` with the content of another sample, through which no gradient flows."""
    _, other = _draw(features)
    content, mean, variance = _taken_apart(features)
    return content[other].detach() * (variance + _EPS).sqrt() + mean


def distance_from_uniform(logits: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of softmax (B, C) ``logits`` for a target that gives every class the same probability; scalar."""
    return -logits.log_softmax(1).mean()


def _draw(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, 1) proportions and a permutation (B,). Both are always drawn, so that seeds give DomainBed's numbers."""
    share = torch.rand(len(features), 1).to(features)
    return share, torch.randperm(len(features)).to(features.device)


def _taken_apart(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The content (B, D), and the mean and variance, both (B, 1), that are the style."""
    mean, variance = features.mean(1, keepdim=True), features.var(1, keepdim=True)
    return (features - mean) / (variance + _EPS).sqrt(), mean, variance
