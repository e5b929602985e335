"""Contrastive domain bottleneck: a sample's neighbours in the features should not tell its environment."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from roga_domainbed.catalog.hparams import HParam, choice, constant
from roga_domainbed.engine import networks
from roga_domainbed.engine.algorithms._minibatches import domain_labels, number, pool
from roga_domainbed.engine.algorithms._steps import descend
from roga_domainbed.engine.algorithms.base import Algorithm
from roga_domainbed.engine.lib.misc import Minibatch
from roga_domainbed.optim.base import base_optimizer

_BASE_TEMPERATURE = 0.07
_PROJECTED = 128


class ContrastiveBottleneck(Algorithm):
    """The base of CAD and CondCAD (Ruan, Dubois and Maddison, arXiv:2201.00057): cross-entropy plus ``bottleneck``.

    The rule rests on what DomainBed's do, not on the paper's text. With ``is_project`` the bottleneck sees the features
    behind two layers that are trained with the rest; DomainBed's end in an error there.

    Attributes:
        CONDITIONAL: whether a sample is compared with those of its class alone.
        featurizer: input to features (B, D).
        classifier: features to logits.
        project: with ``is_project``, features to the 128 that are compared.
    """

    CONDITIONAL: bool

    HPARAMS = (
        HParam(
            "lmbda",
            1e-1,
            choice([1e-4, 1e-3, 1e-2, 1e-1, 1, 1e1, 1e2]),
            "weight of the bottleneck",
            at_least=0,
        ),
        HParam("temperature", 0.1, choice([0.05, 0.1]), "what similarities are divided by", above=0),
        HParam("is_normalized", False, constant(False), "compare features of length 1"),
        HParam("is_project", False, constant(False), "compare features behind a projection"),
        HParam(
            "is_flipped",
            True,
            constant(True),
            "draw environments together instead of pushing samples of one apart",
        ),
    )

    def __init__(
        self, input_shape: tuple[int, ...], num_classes: int, num_domains: int, hparams: dict[str, Any]
    ):
        super().__init__(input_shape, num_classes, num_domains, hparams)
        self.featurizer = networks.Featurizer(input_shape, hparams)
        width = self.featurizer.n_outputs
        self.classifier = networks.Classifier(width, num_classes, hparams["nonlinear_classifier"])
        if hparams["is_project"]:
            self.project = nn.Sequential(
                nn.Linear(width, width), nn.ReLU(inplace=True), nn.Linear(width, _PROJECTED)
            )
        self.optimizer = base_optimizer(self.parameters(), hparams)

    def update(
        self, minibatches: list[Minibatch], unlabeled: list[torch.Tensor] | None = None
    ) -> dict[str, float]:
        """One step; see ``Algorithm.update``."""
        x, y = pool(minibatches)
        features = self.featurizer(x)
        clf_loss = F.cross_entropy(self.classifier(features), y)
        compared = self.project(features) if self.hparams["is_project"] else features
        bn_loss = bottleneck(
            F.normalize(compared, dim=1) if self.hparams["is_normalized"] else compared,
            y,
            domain_labels(minibatches),
            temperature=self.hparams["temperature"],
            conditional=self.CONDITIONAL,
            flipped=self.hparams["is_flipped"],
        )
        total_loss = clf_loss + self.hparams["lmbda"] * bn_loss
        descend(total_loss, self.optimizer)
        return {"clf_loss": number(clf_loss), "bn_loss": number(bn_loss), "total_loss": number(total_loss)}

    def predict(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of shape (B, C)."""
        return self.classifier(self.featurizer(x))


def bottleneck(
    features: torch.Tensor,
    y: torch.Tensor,
    domain: torch.Tensor,
    *,
    temperature: float,
    conditional: bool,
    flipped: bool,
) -> torch.Tensor:
    """How well the features' neighbourhoods tell the environment; scalar.

    A sample i chooses another one j with probability softmax_j(⟨z_i, z_j⟩ / τ). Its loss is the log-probability of
    choosing one of its own environment, or if ``flipped`` minus that of another environment: both have their least
    values at the same features, and the second is steadier. The mean over the samples is multiplied by τ / 0.07.

    Left out are samples that have none to choose, and, as in DomainBed, those that are alone in their class. In
    DomainBed a sample can choose itself if neither ``conditional`` nor ``flipped``; here it cannot.

    Args:
        features: (B, D).
        y: (B,) labels.
        domain: (B,) environments.
        temperature: τ.
        conditional: choose among the samples of i's class alone.
        flipped: see above.
    """
    others = ~torch.eye(len(y), dtype=torch.bool, device=y.device)
    same_class = (y[:, None] == y) & others
    same_domain = domain[:, None] == domain
    choosable = same_class if conditional else others
    wanted = choosable & (~same_domain if flipped else same_domain)
    counts = wanted.any(1) & same_class.any(1)
    ignored = ~counts[:, None]
    logits = features @ features.T / temperature

    def log_mass(chosen: torch.Tensor) -> torch.Tensor:
        # A row that does not count gets every entry both times, so that they cancel; with no entry it would be NaN.
        return logits.masked_fill(~(chosen | ignored), -torch.inf).logsumexp(1)

    log_probability = (log_mass(wanted) - log_mass(choosable)).sum() / counts.sum().clamp_min(1)
    return (-1 if flipped else 1) * temperature / _BASE_TEMPERATURE * log_probability
