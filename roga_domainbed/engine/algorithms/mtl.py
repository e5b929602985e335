"""Marginal transfer learning: the classifier also sees a mean embedding of the environment."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from roga_domainbed.catalog.hparams import HParam, choice
from roga_domainbed.engine import networks
from roga_domainbed.engine.algorithms._minibatches import number
from roga_domainbed.engine.algorithms._steps import descend
from roga_domainbed.engine.algorithms.base import Algorithm
from roga_domainbed.engine.lib.misc import Minibatch
from roga_domainbed.optim.base import base_optimizer


class MTL(Algorithm):
    """Marginal transfer learning (Blanchard, Deshmukh, Dogan, Lee and Scott, arXiv:1711.07910), with a network.

    The paper's predictor f(P, x) takes the distribution P of the inputs of x's environment, as the mean of their
    kernel features. As in DomainBed, a featurizer takes the kernel's place: the classifier gets the features of x
    beside their mean over the environment. In training that is a moving average, ``embeddings``.

    As in the paper, predictions need unlabelled samples of the environment: all inputs of one ``predict`` must be of
    one environment, and their mean is the embedding. So a prediction depends on the rest of its batch.

    DomainBed overwrites the embedding with fresh noise, in training and in prediction, so that its classifier never
    sees it. Here the classifier does, and the gradient also flows through the minibatch's mean.

    ``loss`` is the sum over the environments, as in DomainBed.

    Apart from the noise the rule is DomainBed's: of the paper's text only the abstract was at hand.

    Attributes:
        featurizer: input to features (B, D).
        classifier: features and embedding, (B, 2 D), to logits.
        embeddings: (num_domains, D), the moving average of each training environment, 0 at first.
        optimizer: of both networks.
    """

    HPARAMS = (
        HParam(
            "mtl_ema",
            0.99,
            choice([0.5, 0.9, 0.99, 1.0]),
            "share of the new minibatch in an environment's embedding",
            at_least=0,
            at_most=1,
        ),
    )

    def __init__(
        self, input_shape: tuple[int, ...], num_classes: int, num_domains: int, hparams: dict[str, Any]
    ):
        super().__init__(input_shape, num_classes, num_domains, hparams)
        self.featurizer = networks.Featurizer(input_shape, hparams)
        width = self.featurizer.n_outputs
        self.classifier = networks.Classifier(2 * width, num_classes, hparams["nonlinear_classifier"])
        self.optimizer = base_optimizer(self.parameters(), hparams)
        self.register_buffer("embeddings", torch.zeros(num_domains, width))

    def update(
        self, minibatches: list[Minibatch], unlabeled: list[torch.Tensor] | None = None
    ) -> dict[str, float]:
        """One step, after which ``embeddings`` include the minibatches; see ``Algorithm.update``."""
        share = self.hparams["mtl_ema"]
        loss = 0.0
        for env, (x, y) in enumerate(minibatches):
            features = self.featurizer(x)
            embedding = share * features.mean(0) + (1 - share) * self.embeddings[env]
            self.embeddings[env] = embedding.detach()
            loss = loss + F.cross_entropy(self._logits(features, embedding), y)
        descend(loss, self.optimizer)
        return {"loss": number(loss)}

    def predict(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of shape (B, C); ``x`` is a sample of one environment."""
        features = self.featurizer(x)
        return self._logits(features, features.mean(0))

    def _logits(self, features: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        return self.classifier(torch.cat([features, embedding.expand_as(features)], 1))
