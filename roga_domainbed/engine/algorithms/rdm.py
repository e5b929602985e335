"""Risk distribution matching."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F

from roga_domainbed import catalog
from roga_domainbed.catalog.hparams import HParam, constant, uniform, uniform_int
from roga_domainbed.engine.algorithms._distances import maximum_mean_discrepancy
from roga_domainbed.engine.algorithms._minibatches import number, pool, require_two_samples, unpool
from roga_domainbed.engine.algorithms._steps import restart
from roga_domainbed.engine.algorithms.erm import ERM
from roga_domainbed.engine.lib.misc import Minibatch

#: Inverse widths of the Gaussian kernels that compare risks: those for features, and a wider one.
_GAMMAS = (0.0001, 0.001, 0.01, 0.1, 1, 10, 100, 1000)


def _weight(low: float, high: float, default: float = 5.0) -> HParam:
    meaning = "weight of the distance between the worst environment's risks and all"
    return HParam("rdm_lambda", default, uniform(low, high), meaning, at_least=0)


def _anneal(low: float, high: float, default: int = 1500) -> HParam:
    meaning = "steps before the two penalties"
    return HParam("rdm_penalty_anneal_iters", default, uniform_int(low, high), meaning, at_least=0)


_VARIANCE = HParam(
    "variance_weight", 0.004, uniform(0.001, 0.007), "weight of the variance of the risks", at_least=0
)
_NO_VARIANCE = HParam("variance_weight", 0.0, constant(0.0), _VARIANCE.meaning, at_least=0)


class RDM(ERM):
    """Risk distribution matching (Nguyen, Do, Duong and Nguyen, arXiv:2310.18598).

    The penalty is the squared maximum mean discrepancy between the losses of the samples of the worst environment, the
    one with the largest mean, and those of all samples. A second one is the sum of the two variances. Both count from
    step ``rdm_penalty_anneal_iters`` on, where the optimizer restarts with the learning rate ``rdm_lr``. The rule rests
    on what DomainBed's does, not on the paper's text.

    DomainBed's needs a GPU and environments with minibatches of one size; this one needs neither.

    Attributes:
        update_count: steps taken, int64 of shape (1,); saved with the weights.
    """

    HPARAMS = (
        _weight(0.1, 10),
        _anneal(800, 2700),
        _VARIANCE,
        HParam("rdm_lr", 1.5e-5, uniform(8e-6, 2e-5), "learning rate with the penalties", above=0),
    )

    @classmethod
    def dataset_hparams(cls, dataset: str) -> tuple[HParam, ...]:
        """DomainBed's own ranges for some datasets, and larger minibatches for all but small images."""
        declared = []
        if dataset == "DomainNet":
            declared += [_weight(0.1, 1, default=0.5), _anneal(1500, 3000, default=2400)]
        if dataset in ("PACS", "TerraIncognita"):
            declared.append(_weight(1, 10))
        if dataset in ("DomainNet", "OfficeHome", "TerraIncognita"):
            declared.append(_NO_VARIANCE)
        if not catalog.has_small_images(dataset):
            few = dataset in ("DomainNet", "TerraIncognita")
            default, low, high = (40, 30, 60) if few else (88, 70, 100)
            _, _, batch_size = catalog.scale_hparams(dataset)
            declared.append(replace(batch_size, default=default, sample=uniform_int(low, high)))
        return tuple(declared)

    def __init__(
        self, input_shape: tuple[int, ...], num_classes: int, num_domains: int, hparams: dict[str, Any]
    ):
        super().__init__(input_shape, num_classes, num_domains, hparams)
        self.register_buffer("update_count", torch.tensor([0]))

    def update(
        self, minibatches: list[Minibatch], unlabeled: list[torch.Tensor] | None = None
    ) -> dict[str, float]:
        """One step; minibatches of at least two samples. See ``Algorithm.update``.

        Returns:
            ``update_count`` and ``rdm_lambda`` among the losses, as DomainBed's does.
        """
        require_two_samples(minibatches, "RDM")
        logits = unpool(self.network(pool(minibatches)[0]), minibatches)
        losses = [
            F.cross_entropy(z, y, reduction="none") for z, (_, y) in zip(logits, minibatches, strict=True)
        ]
        risks = torch.stack([each.mean() for each in losses])
        risk, worst, every = risks.mean(), losses[risks.argmax()], torch.cat(losses)
        matching = maximum_mean_discrepancy(worst[:, None], every[:, None], _GAMMAS)
        variance = every.var() + worst.var()
        step, anneal = self.update_count.item(), self.hparams["rdm_penalty_anneal_iters"]
        if step == anneal:
            restart(self.optimizer, self.hparams["rdm_lr"])
        loss = risk
        if step >= anneal:
            loss = risk + self.hparams["rdm_lambda"] * matching + self.hparams["variance_weight"] * variance
        self.descend(loss)
        self.update_count += 1
        return {
            "update_count": float(step + 1),
            "total_loss": number(loss),
            "erm_loss": number(risk),
            "matching_penalty": number(matching),
            "variance_penalty": number(variance),
            "rdm_lambda": float(self.hparams["rdm_lambda"]),
        }
