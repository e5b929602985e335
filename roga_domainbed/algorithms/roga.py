"""RoGA with one domain a training environment; the rule is in ``roga_domainbed.optim.roga``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from roga_domainbed import optim
from roga_domainbed.algorithms._sharpness import SHARED_HPARAMS, Minibatches, PerDomainAlgorithm
from roga_domainbed.catalog.hparams import HParam, constant, log_uniform
from roga_domainbed.errors import RogaError
from roga_domainbed.optim.roga import ANCHORS, GRADIENTS, TERMS


class RoGA(PerDomainAlgorithm):
    """Robust gradient alignment (arXiv:2505.20653, Eq. 6)."""

    HPARAMS = (
        HParam("rho", 0.1, log_uniform(10, -2, -0.5), "radius of the perturbation", scratch=0.02, at_least=0),
        # V.A of the paper says 2e-4, its Table VI finds 1e-3 best: the range covers both.
        HParam("alpha", 2e-4, log_uniform(10, -5, -2), "weight of the alignment term", at_least=0),
        HParam("roga_terms", "both", constant("both"), "which terms of Eq. 6", choices=TERMS),
        HParam("roga_anchor", "domain", constant("domain"), "what h_i is aligned with", choices=ANCHORS),
        HParam("roga_gradient", "first_order", constant("first_order"), "estimator", choices=GRADIENTS),
        HParam(
            "roga_parts",
            "domains",
            constant("domains"),
            "what plays the domains' role; random, for ablations: parts of the pooled minibatch, dealt anew each step",
            choices=("domains", "random"),
        ),
        # Cheaper and not the paper's: off in defaults and in searches.
        HParam(
            "roga_every",
            1,
            constant(1),
            "cheaper: measure the ascent points in one of so many steps",
            at_least=1,
        ),
        HParam(
            "roga_ascent_fraction",
            1.0,
            constant(1.0),
            "cheaper: part of each minibatch they are measured on",
            above=0,
            at_most=1,
        ),
        *SHARED_HPARAMS,
    )

    def __init__(self, input_shape: tuple, num_classes: int, num_domains: int, hparams: dict[str, Any]):
        super().__init__(input_shape, num_classes, num_domains, hparams)
        if hparams["roga_ascent_fraction"] < 1 and hparams["replay_rng"]:
            raise RogaError(
                "hparam 'replay_rng' needs the same samples in every pass: leave it off, or roga_ascent_fraction at 1"
            )

    def make_optimizer(
        self, params: Any, base_optimizer: type[torch.optim.Optimizer], **kwargs: Any
    ) -> optim.RoGA:
        """RoGA with ``rho``, ``alpha`` and the ``roga_…`` hyper-parameters."""
        hparams = self.hparams
        kwargs |= {name: hparams[f"roga_{name}"] for name in ("terms", "anchor", "gradient")}
        kwargs |= {"rho": hparams["rho"], "alpha": hparams["alpha"]}
        with _values_explained():
            if hparams["roga_every"] == 1 and hparams["roga_ascent_fraction"] == 1:
                return optim.RoGA(params, base_optimizer, **kwargs)
            from roga_domainbed.optim.cheaper import CheaperRoGA  # plain RoGA does without it

            return CheaperRoGA(params, base_optimizer, every=hparams["roga_every"], **kwargs)

    def share_domains(self, group: Any = None) -> None:
        """Let the processes of ``group`` share the domains of each step; see ``optim.RoGA.share_domains``.

        Raises:
            RogaError: the hyper-parameters need all minibatches in one process.
        """
        if self.hparams.get("roga_parts") == "random":
            raise RogaError(
                "hparam 'roga_parts' random deals the minibatches of all environments, which processes that share the "
                "domains do not have: start it without torchrun, or leave it at 'domains'"
            )
        with _values_explained():
            self.optimizer.share_domains(group)

    def own_domains(self, n_domains: int) -> range:
        """Indices of the domains that this process evaluates."""
        return self.optimizer.own_domains(n_domains)

    def update(
        self, minibatches: Minibatches, unlabeled: list[Tensor] | None = None
    ) -> dict[str, float | Tensor]:
        """One step with a closure for each environment's minibatch.

        Args:
            minibatches: one (x, y) a training environment, on the device of the network. Where processes share
                domains, those of other processes are not looked at.
            unlabeled: ignored, as by DomainBed's ERM.

        Returns:
            Means over the domains of ``loss``, ``perturbed_loss`` and ``grad_norm``; ``alpha_ratio_<i>`` = α‖a_i‖/ρ,
            how far the alignment moves domain i's ascent point compared with the perturbation; every tenth step
            ``cosine``, the mean over pairs of domains of the cosine between their gradients. A step that reuses the
            ascent points' displacements (``roga_every``) has ``perturbed_loss`` alone. On a GPU the values are 0-dim
            tensors.
        """
        # A model that an earlier version saved has no such hparam.
        if self.hparams.get("roga_parts") == "random":
            minibatches = dealt(minibatches)
        closures = [self._closure(x, y) for x, y in minibatches]
        fraction = self.hparams["roga_ascent_fraction"]
        if fraction < 1:
            # Minibatches are drawn at random, so their first samples are a random part of them.
            parts = [
                (x[: ascent_part(len(x), fraction)], y[: ascent_part(len(x), fraction)])
                for x, y in minibatches
            ]
            self.optimizer.step(closures, ascent_closures=[self._closure(x, y) for x, y in parts])
        else:
            self.optimizer.step(closures)
        return dict(self.optimizer.report)


def dealt(minibatches: Minibatches) -> Minibatches:
    """The samples of all ``minibatches``, dealt at random into parts of their sizes by torch's global generator."""
    x = torch.cat([x for x, _ in minibatches])
    y = torch.cat([y for _, y in minibatches])
    order = torch.randperm(len(x)).to(x.device)
    sizes = [len(part) for _, part in minibatches]
    return list(zip(x[order].split(sizes), y[order].split(sizes), strict=True))


def ascent_part(n: int, fraction: float) -> int:
    """How many of ``n`` samples the ascent points are measured on: two at least, for batch norm."""
    return max(round(fraction * n), min(n, 2))


@contextmanager
def _values_explained() -> Iterator[None]:
    """Inside, a value that the optimizer refuses is the user's fault."""
    try:
        yield
    except ValueError as error:
        raise RogaError(f"the hparams of RoGA: {error}") from None
