"""Uniform risk minimization: features that look like uniform noise."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from roga_domainbed import catalog
from roga_domainbed.catalog.hparams import HParam, choice, constant, log_uniform, uniform
from roga_domainbed.engine.algorithms._minibatches import number, pool
from roga_domainbed.engine.algorithms._steps import descend
from roga_domainbed.engine.algorithms.erm import ERM
from roga_domainbed.engine.lib.misc import Minibatch
from roga_domainbed.optim.base import base_optimizer

_WIDTH = 100
#: The featurizer's last layer, and the least value of the noise, whose greatest is 1.
_OUTPUTS = {"tanh": (nn.Tanh, -1.0), "relu": (nn.ReLU, 0.0), "sigmoid": (nn.Sigmoid, 0.0)}
_DISCRIMINATOR_LR = HParam(
    "urm_discriminator_lr", 5e-5, log_uniform(10, -6, -4.5), "learning rate of the discriminator", above=0
)


class URM(ERM):
    """Uniform risk minimization, adversarial (Krishnamachari, Ng and Foo, TMLR 2024, OpenReview PgLbS5yp8n).

    ERM plus λ times a loss that is small where a discriminator takes the features for uniform noise; the discriminator
    then takes a step to tell noise from the features the network had before its own step. As in DomainBed, λ also
    weighs the features' part of the discriminator's loss.

    The rule is DomainBed's: of the paper's text only the abstract was at hand.

    Attributes:
        discriminator: features to the logit of being noise.
        discriminator_opt: its optimizer, which ``urm_discriminator_optimizer`` names. ``optimizer`` is the others'.
    """

    FIXED_OPTIMIZERS = ("discriminator_opt",)

    HPARAMS = (
        HParam("urm", "adversarial", constant("adversarial"), "the variant", choices=("adversarial",)),
        HParam("urm_adv_lambda", 0.1, uniform(0, 0.2), "weight of the adversarial loss", at_least=0),
        HParam(
            "urm_discriminator_label_smoothing",
            0,
            uniform(0, 0),
            "how far the discriminator's targets may be from 0 and 1",
            kind=float,
            at_least=0,
            at_most=1,
        ),
        HParam(
            "urm_discriminator_optimizer",
            "adam",
            constant("adam"),
            "optimizer of the discriminator",
            choices=("adam", "sgd"),
        ),
        HParam(
            "urm_discriminator_hidden_layers",
            1,
            choice([1, 2, 3]),
            "hidden layers of the discriminator behind its first",
            at_least=0,
            at_most=2**8,
        ),
        HParam(
            "urm_generator_output",
            "tanh",
            choice(["tanh", "relu"]),
            "last layer of the featurizer",
            choices=tuple(_OUTPUTS),
        ),
        _DISCRIMINATOR_LR,
    )

    @classmethod
    def dataset_hparams(cls, dataset: str) -> tuple[HParam, ...]:
        """A larger learning rate of the discriminator for small images."""
        if catalog.has_small_images(dataset):
            return (replace(_DISCRIMINATOR_LR, default=1e-3, sample=log_uniform(10, -5.5, -3.5)),)
        return ()

    def __init__(
        self, input_shape: tuple[int, ...], num_classes: int, num_domains: int, hparams: dict[str, Any]
    ):
        super().__init__(input_shape, num_classes, num_domains, hparams)
        self.discriminator = discriminator(
            self.featurizer.n_outputs, hparams["urm_discriminator_hidden_layers"]
        )
        own = {name: hparams[f"urm_discriminator_{name}"] for name in ("optimizer", "lr")}
        self.discriminator_opt = base_optimizer(
            self.discriminator.parameters(), {**own, "weight_decay": hparams["weight_decay"]}
        )
        last_layer, self._least_noise = _OUTPUTS[hparams["urm_generator_output"]]
        self.featurizer.activation = last_layer()

    def update(
        self, minibatches: list[Minibatch], unlabeled: list[torch.Tensor] | None = None
    ) -> dict[str, float]:
        """A step of the network and one of the discriminator; see ``Algorithm.update``."""
        x, y = pool(minibatches)
        features = self.featurizer(x)
        risk = F.cross_entropy(self.classifier(features), y)
        taken_for_noise = self._discriminator_loss(features, features.new_ones(len(x)))
        loss = risk + self.hparams["urm_adv_lambda"] * taken_for_noise
        self.descend(loss)
        self._update_discriminator(features.detach())
        return {"loss": number(loss)}

    def _update_discriminator(self, features: torch.Tensor) -> None:
        low, softness = self._least_noise, self.hparams["urm_discriminator_label_smoothing"]
        noise = low + (1 - low) * torch.rand_like(features)
        is_noise, is_none = features.new_ones(len(features)), features.new_zeros(len(features))
        if softness:
            is_noise = 1 - softness + softness * torch.rand_like(is_noise)
            is_none = softness * torch.rand_like(is_none)
        loss = self._discriminator_loss(noise, is_noise)
        loss = loss + self.hparams["urm_adv_lambda"] * self._discriminator_loss(features, is_none)
        descend(loss, self.discriminator_opt)

    def _discriminator_loss(self, features: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of (B, D) ``features``, where ``target`` (B,) is the probability of being noise; scalar."""
        return F.binary_cross_entropy_with_logits(self.discriminator(features)[:, 0], target)


def discriminator(n_inputs: int, n_hidden: int) -> nn.Sequential:
    """A perceptron of ``n_hidden`` layers behind the first, with leaky ReLUs and one output."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i in range(1 + n_hidden):
        layers[f"dense{i + 1}"] = nn.Linear(_WIDTH if i else n_inputs, _WIDTH)
        layers[f"act{i + 1}"] = nn.LeakyReLU()
    layers["output"] = nn.Linear(_WIDTH, 1)
    return nn.Sequential(layers)
