"""What the DomainBed algorithms over ``roga_domainbed.optim`` share: hyper-parameters and the pooled step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from roga_domainbed.catalog import OPTIMIZER_HPARAMS
from roga_domainbed.catalog.hparams import HParam, constant
from roga_domainbed.engine.algorithms._minibatches import pool
from roga_domainbed.host.backend import host
from roga_domainbed.optim.base import base_class_and_kwargs
from roga_domainbed.optim.optimizer import SharpnessOptimizer
from roga_domainbed.optim.passes import Closure

Minibatches = list[tuple[Tensor, Tensor]]

# One kernel for a whole step, on CPU and GPU; older torch has it for GPUs alone.
_FUSED = True if tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 4) else None

#: After a method's own hyper-parameters, these.
SHARED_HPARAMS = (
    *OPTIMIZER_HPARAMS,
    HParam("replay_rng", False, constant(False), "the same dropout mask in every pass of a step"),
)


class SharpnessAlgorithm(host().algorithms.ERM):
    """ERM whose optimizer looks around θ. A subclass names the optimizer and its own hyper-parameters."""

    HPARAMS: tuple[HParam, ...] = SHARED_HPARAMS

    def __init__(self, input_shape: tuple, num_classes: int, num_domains: int, hparams: dict[str, Any]):
        super().__init__(input_shape, num_classes, num_domains, hparams)
        base, base_kwargs = base_class_and_kwargs(hparams)
        self.optimizer = self.make_optimizer(
            self.network.parameters(),
            base,
            model=self.network,
            replay_rng=hparams.get("replay_rng", False),  # methods with one pass have no use for it
            fused=_FUSED,
            **base_kwargs,
        )

    def make_optimizer(
        self, params: Any, base_optimizer: type[torch.optim.Optimizer], **kwargs: Any
    ) -> SharpnessOptimizer:
        """The sharpness-aware optimizer over ``base_optimizer``, with this method's hyper-parameters."""
        raise NotImplementedError

    def update(
        self, minibatches: Minibatches, unlabeled: list[Tensor] | None = None
    ) -> dict[str, float | Tensor]:
        """One step on the pooled minibatches.

        Args:
            minibatches: one (x, y) a training environment, on the device of the network.
            unlabeled: ignored, as by DomainBed's ERM.

        Returns:
            ``loss`` at θ, ``perturbed_loss`` at the second point, ``grad_norm`` at θ; 0-dim tensors on a GPU.
        """
        x, y = pool(minibatches)
        self.optimizer.step(lambda: F.cross_entropy(self.predict(x), y))
        return dict(self.optimizer.report)


class PerDomainAlgorithm(SharpnessAlgorithm):
    """A sharpness algorithm whose optimizer takes a closure for each environment's minibatch."""

    def update(
        self, minibatches: Minibatches, unlabeled: list[Tensor] | None = None
    ) -> dict[str, float | Tensor]:
        """One step with a closure for each environment's minibatch.

        Args:
            minibatches: one (x, y) a training environment, on the device of the network. All count alike, whatever
                their sizes.
            unlabeled: ignored, as by DomainBed's ERM.

        Returns:
            Means over the domains of ``loss``, ``grad_norm`` and, where the method perturbs, ``perturbed_loss``; every
            tenth step ``cosine``, the mean over pairs of domains of the cosine between their gradients. On a GPU the
            values are 0-dim tensors.
        """
        self.optimizer.step([self._closure(x, y) for x, y in minibatches])
        return dict(self.optimizer.report)

    def _closure(self, x: Tensor, y: Tensor) -> Closure:
        return lambda: F.cross_entropy(self.predict(x), y)
