"""Fish: gradient matching between environments by first-order meta-learning."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from roga_domainbed.catalog.hparams import HParam, choice
from roga_domainbed.engine import networks
from roga_domainbed.engine.algorithms._averages import move_towards
from roga_domainbed.engine.algorithms._steps import descend
from roga_domainbed.engine.algorithms.base import Algorithm
from roga_domainbed.engine.lib.misc import Minibatch
from roga_domainbed.optim.base import base_optimizer


class Fish(Algorithm):
    """Gradient matching (Shi et al., arXiv:2104.09937, algorithm 1 in the version "Fish").

    A copy of the network takes one step on each environment in turn; the network then moves the fraction
    ``meta_lr`` of the way to it. The paper shuffles the environments, DomainBed and this class take them in order.
    Adam's moments, or the momentum of ``sgd``, live on from copy to copy, as in DomainBed.

    ``loss`` is the mean over the environments, each before its step; DomainBed reports the last one's.

    Attributes:
        network: featurizer and classifier. The copy is no part of ``state_dict``, so that a saved model can be
            loaded; DomainBed's checkpoints, which have it, are read too.
    """

    HPARAMS = (
        HParam(
            "meta_lr", 0.5, choice([0.05, 0.1, 0.5]), "fraction of the way to the inner weights", at_least=0
        ),
    )

    def __init__(
        self, input_shape: tuple[int, ...], num_classes: int, num_domains: int, hparams: dict[str, Any]
    ):
        super().__init__(input_shape, num_classes, num_domains, hparams)
        featurizer = networks.Featurizer(input_shape, hparams)
        classifier = networks.Classifier(featurizer.n_outputs, num_classes, hparams["nonlinear_classifier"])
        # "net" gives the names of DomainBed's checkpoints.
        self.network = nn.Sequential(OrderedDict(net=nn.Sequential(featurizer, classifier)))
        self._inner_optimizer_state: dict[str, Any] | None = None

    def update(
        self, minibatches: list[Minibatch], unlabeled: list[torch.Tensor] | None = None
    ) -> dict[str, float]:
        """One step of the copy on each environment, one move of the network; see ``Algorithm.update``."""
        inner = copy.deepcopy(self.network)
        optimizer = base_optimizer(inner.parameters(), self.hparams)
        if self._inner_optimizer_state is not None:
            optimizer.load_state_dict(self._inner_optimizer_state)
        losses = []
        for x, y in minibatches:
            loss = F.cross_entropy(inner(x), y)
            descend(loss, optimizer)
            losses.append(loss.item())
        self._inner_optimizer_state = optimizer.state_dict()
        move_towards(self.network, inner, self.hparams["meta_lr"])
        return {"loss": sum(losses) / len(losses)}

    def predict(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of shape (B, C)."""
        return self.network(x)

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Load as any module does; the copy of the network in a DomainBed checkpoint is ignored."""
        own = {name: value for name, value in state_dict.items() if not name.startswith("network_inner.")}
        return super().load_state_dict(own, *args, **kwargs)
