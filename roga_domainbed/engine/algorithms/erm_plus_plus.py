"""ERM++: empirical risk minimization with a warm start of the classifier and averaged weights."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from roga_domainbed.catalog.hparams import HParam, log_uniform
from roga_domainbed.engine import networks
from roga_domainbed.engine.algorithms._averages import move_towards
from roga_domainbed.engine.algorithms._minibatches import number, pool
from roga_domainbed.engine.algorithms._steps import descend
from roga_domainbed.engine.algorithms.base import Algorithm
from roga_domainbed.engine.lib.misc import Minibatch
from roga_domainbed.optim.base import base_optimizer
from roga_domainbed.optim.lars import LARS

_LAST_STEP_NOT_AVERAGED = 599


class ERMPlusPlus(Algorithm):
    """ERM++ (Teterwak, Saito, Tsiligkaridis, Saenko and Plummer, arXiv:2304.01973).

    The classifier alone learns in the first ``linear_steps`` + 1 steps, so that the pretrained featurizer is not spoilt
    by a random one. (That is how DomainBed counts them.) From step 600 on, the weights and the running statistics of
    the batch norms are averaged over the steps (Arpit et al., arXiv:2110.10832); the averaged network predicts. It
    also sees each minibatch once, which moves its running statistics, unless ``freeze_bn`` keeps them.

    The paper's other parts are settings here: its ResNet-50 with AugMix weights is the default for 224 pixels, trained
    batch norms too; a longer training is ``--steps``, with ``lr_schedule``. Its learning rate that falls when the
    validation loss does not is that of DomainBed's script ``train_autolr`` and no part of this class.

    The hparam ``lars`` takes LARS in place of the base optimizer. DomainBed's fails on it.

    The steps are DomainBed's: of the paper's text only the abstract was at hand.

    Attributes:
        featurizer: input to features (B, D).
        classifier: features to logits.
        network: the two in sequence.
        network_sma: the average of ``network``, which ``predict`` uses.
        optimizer: over ``network``.
        linear_optimizer: over ``classifier``, with the learning rate ``linear_lr``.
        update_count: steps taken. As in DomainBed it is no part of ``state_dict``.
    """

    HPARAMS = (
        HParam(
            "linear_lr",
            5e-5,
            log_uniform(10, -5, -3.5),
            "learning rate of the classifier in its warm start",
            above=0,
        ),
    )

    def __init__(
        self, input_shape: tuple[int, ...], num_classes: int, num_domains: int, hparams: dict[str, Any]
    ):
        super().__init__(input_shape, num_classes, num_domains, hparams)
        self.featurizer = networks.Featurizer(input_shape, hparams)
        self.classifier = networks.Classifier(
            self.featurizer.n_outputs, num_classes, hparams["nonlinear_classifier"]
        )
        self.network = nn.Sequential(self.featurizer, self.classifier)
        self.network_sma = copy.deepcopy(self.network).requires_grad_(False)
        self.optimizer = self._optimizer(self.network.parameters(), hparams["lr"])
        self.linear_optimizer = self._optimizer(self.classifier.parameters(), hparams["linear_lr"])
        self.update_count = 0

    def _optimizer(self, parameters: Iterable[nn.Parameter], lr: float) -> torch.optim.Optimizer:
        if self.hparams["lars"]:
            return LARS(parameters, lr, self.hparams["weight_decay"])
        return base_optimizer(parameters, {**self.hparams, "lr": lr})

    def update(
        self, minibatches: list[Minibatch], unlabeled: list[torch.Tensor] | None = None
    ) -> dict[str, float]:
        """One step on the mean cross-entropy of all samples, and one of the average; see ``Algorithm.update``."""
        x, y = pool(minibatches)
        warms_up = self.update_count <= self.hparams["linear_steps"]
        with torch.set_grad_enabled(not warms_up):
            features = self.featurizer(x)
        loss = F.cross_entropy(self.classifier(features), y)
        descend(loss, self.linear_optimizer if warms_up else self.optimizer)
        self.update_count += 1
        self._update_average(x)
        return {"loss": number(loss)}

    @torch.no_grad()
    def _update_average(self, x: torch.Tensor) -> None:
        n_averaged = max(0, self.update_count - _LAST_STEP_NOT_AVERAGED)
        move_towards(self.network_sma, self.network, 1 / (1 + n_averaged))
        if not self.hparams["freeze_bn"]:
            self.network_sma(x)  # in training mode, for the running statistics

    def predict(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of shape (B, C) of the averaged network."""
        return self.network_sma(x)
