"""Meta-learning for domain generalization."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from roga_domainbed.catalog.hparams import HParam, choice, log_uniform
from roga_domainbed.engine.algorithms.erm import ERM
from roga_domainbed.engine.lib.misc import Minibatch, split_meta_train_test
from roga_domainbed.errors import RogaError
from roga_domainbed.optim.base import base_optimizer


class MLDG(ERM):
    """Meta-learning domain generalization (Li, Yang, Song and Hospedales, arXiv:1710.03463, algorithm 1), first order.

    Each step divides the environments at random into meta-train and meta-test. For each meta-train environment a
    copy of the network takes one step on it, by a new optimizer of the network's kind; the network then descends along
    the gradient of the meta-train loss plus β times that of the meta-test loss at the copy. Second derivatives are left
    out, as in DomainBed. The gradients and the loss are divided by the number of environments. With ``sgd`` the copy's
    step is a plain one, as in the paper: a new optimizer has no momentum yet.

    The paper needs an environment on either side. Where ``n_meta_test`` leaves none for meta-training, as its
    default of 2 does for two environments, one fewer than there are is held out and a warning says so; DomainBed
    learns nothing then.

    Attributes:
        num_meta_test: environments held out in each step.
    """

    HPARAMS = (
        HParam("mldg_beta", 1.0, log_uniform(10, -1, 1), "weight of the meta-test loss", at_least=0),
        HParam("n_meta_test", 2, choice([1, 2]), "environments held out for meta-test", at_least=1),
    )

    def __init__(
        self, input_shape: tuple[int, ...], num_classes: int, num_domains: int, hparams: dict[str, Any]
    ):
        super().__init__(input_shape, num_classes, num_domains, hparams)
        self.num_meta_test = _meta_test_size(hparams["n_meta_test"], num_domains)

    def update(
        self, minibatches: list[Minibatch], unlabeled: list[torch.Tensor] | None = None
    ) -> dict[str, float]:
        """One step along the meta-gradient; see ``Algorithm.update``."""
        beta = self.hparams["mldg_beta"]
        share = 1 / len(minibatches)
        loss = 0.0
        self.optimizer.zero_grad()
        for train, test in split_meta_train_test(minibatches, self.num_meta_test):
            inner = copy.deepcopy(self.network)
            train_loss = self._inner_step(inner, train)
            _add_gradients(self.network, inner, share)
            test_loss = _backward(inner, test)
            _add_gradients(self.network, inner, share * beta)
            loss += share * (train_loss + beta * test_loss)
        self.optimizer.step()
        return {"loss": loss}

    def _inner_step(self, inner: nn.Module, minibatch: Minibatch) -> float:
        """One step of ``inner`` by a new optimizer, which keeps its gradient; returns the loss before the step."""
        optimizer = base_optimizer(inner.parameters(), self.hparams)
        loss = _backward(inner, minibatch)
        optimizer.step()
        torch.clear_autocast_cache()  # which has copies of the weights before the step
        return loss


def _meta_test_size(asked: int, num_domains: int) -> int:
    if num_domains < 2:
        raise RogaError(
            f"MLDG needs at least 2 training environments, one of them for meta-test; got {num_domains}"
        )
    if asked >= num_domains:
        warnings.warn(
            f"MLDG: n_meta_test {asked} of {num_domains} training environments leaves none for meta-training; "
            f"{num_domains - 1} held out instead",
            stacklevel=3,
        )
    return min(asked, num_domains - 1)


def _backward(network: nn.Module, minibatch: Minibatch) -> float:
    """Put the gradient of the cross-entropy, and nothing else, into ``network``; return the loss."""
    x, y = minibatch
    network.zero_grad()
    loss = F.cross_entropy(network(x), y)
    loss.backward()
    return loss.item()


def _add_gradients(target: nn.Module, source: nn.Module, weight: float) -> None:
    for to, of in zip(target.parameters(), source.parameters(), strict=True):
        if of.grad is not None:
            to.grad = weight * of.grad if to.grad is None else to.grad.add_(of.grad, alpha=weight)
