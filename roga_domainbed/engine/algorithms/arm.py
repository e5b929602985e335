"""Adaptive risk minimization with a context network."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from roga_domainbed import catalog
from roga_domainbed.catalog.hparams import HParam, constant
from roga_domainbed.engine.algorithms._minibatches import number, pool
from roga_domainbed.engine.algorithms.erm import ERM
from roga_domainbed.engine.lib.misc import Minibatch
from roga_domainbed.errors import RogaError
from roga_domainbed.optim.base import base_optimizer

_WIDTH = 64


class ARM(ERM):
    """Adaptive risk minimization (Zhang et al., arXiv:2007.02931, algorithm 1), with a context network: ARM-CML.

    A context network maps each image to a map of the same size. The mean of these maps over the samples of an
    environment is one more channel of each of its images, which the network then classifies.

    As in the paper, predictions need unlabelled samples of the environment: all images of one ``predict`` must be of
    one environment. They are taken in groups of ``batch_size``, in order, with a context each; if their number is no
    multiple of it, they are one group. So a prediction depends on the rest of its group.

    DomainBed leaves the context network out of its optimizer: its weights stay as they were drawn. Here it learns with
    the other networks, as in the paper.

    Apart from this the rule is DomainBed's: of the paper's text only the abstract was at hand.

    Attributes:
        context_net: images (B, K, H, W) to (B, 1, H, W).
        support_size: images of a group, ``batch_size``.
    """

    @classmethod
    def dataset_hparams(cls, dataset: str) -> tuple[HParam, ...]:
        """A smaller minibatch for all but small images."""
        *_, batch_size = catalog.scale_hparams(dataset)
        if catalog.has_small_images(dataset):
            return ()
        return (replace(batch_size, default=8, sample=constant(8)),)

    def __init__(
        self, input_shape: tuple[int, ...], num_classes: int, num_domains: int, hparams: dict[str, Any]
    ):
        if len(input_shape) != 3:
            raise RogaError(
                f"ARM takes images of shape (channels, height, width): its context is one more channel; got inputs of "
                f"shape {tuple(input_shape)}"
            )
        channels, *size = input_shape
        super().__init__((channels + 1, *size), num_classes, num_domains, hparams)
        # "context_net" gives the names of DomainBed's checkpoints.
        self.context_net = nn.Sequential(OrderedDict(context_net=context_network(channels)))
        self.optimizer = base_optimizer(self.parameters(), hparams)
        self.support_size = hparams["batch_size"]

    def update(
        self, minibatches: list[Minibatch], unlabeled: list[torch.Tensor] | None = None
    ) -> dict[str, float]:
        """One step on the mean cross-entropy, each minibatch with its own context; see ``Algorithm.update``."""
        x, y = pool(minibatches)
        loss = F.cross_entropy(self._logits(x, [len(x) for x, _ in minibatches]), y)
        self.descend(loss)
        return {"loss": number(loss)}

    def predict(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of shape (B, C); ``x`` is a sample of one environment."""
        size = self.support_size if len(x) % self.support_size == 0 else len(x)
        return self._logits(x, [size] * (len(x) // size))

    def _logits(self, x: torch.Tensor, sizes: Sequence[int]) -> torch.Tensor:
        """Logits of consecutive groups of these sizes."""
        groups = self.context_net(x).split(sizes)
        context = torch.cat([maps.mean(0, keepdim=True).expand_as(maps) for maps in groups])
        return self.network(torch.cat([x, context], 1))


def context_network(channels: int) -> nn.Sequential:
    """DomainBed's: three convolutions of 5 × 5 that keep the size, from ``channels`` to one."""
    return nn.Sequential(
        nn.Conv2d(channels, _WIDTH, 5, padding=2),
        nn.BatchNorm2d(_WIDTH),
        nn.ReLU(),
        nn.Conv2d(_WIDTH, _WIDTH, 5, padding=2),
        nn.BatchNorm2d(_WIDTH),
        nn.ReLU(),
        nn.Conv2d(_WIDTH, 1, 5, padding=2),
    )
