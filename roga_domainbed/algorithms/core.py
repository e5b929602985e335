"""CORE, consistent representation learning: the features of two views of an image must agree."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import v2

from roga_domainbed.catalog import OPTIMIZER_HPARAMS
from roga_domainbed.catalog.hparams import HParam, log_uniform
from roga_domainbed.engine.algorithms._minibatches import number, pool
from roga_domainbed.engine.lib.misc import Minibatch
from roga_domainbed.errors import RogaError
from roga_domainbed.host.backend import host
from roga_domainbed.optim.base import base_optimizer


class CORE(host().algorithms.ERM):
    """Consistent representation learning for face forgery detection (Ni et al., CVPRW 2022, arXiv:2206.02749).

        L = 1/2N Σ_i [ CE(v_i) + CE(v_i') ] + α/N Σ_i (1 − cos(f(v_i), f(v_i')))²

    v_i and v_i' are two views of image i that are augmented independently, f is the featurizer. A step costs two of
    ERM's. The views come from the paper's set for tests on other datasets, which its code calls RaAug: one of a
    mirror image at random; the same with an erased rectangle; the same, cut and resized. The authors' α is 100
    there and 1 within a dataset. Here it is 100 for pretrained networks and 1 for those from random weights.

    It augments what the input path gives, so what that does to an image is common to both views; with the hparam
    ``augmentation`` at ``none`` the views are those of the paper. An erased rectangle is 0 in the network's input,
    the mean colour of the normalization; in the paper's code it is black. The paper weighs real images four times,
    for FaceForensics++ with four fakes of each; the environments here decide on the balance of classes themselves.
    """

    HPARAMS = (
        # From random weights 100 drowns the cross-entropy: Meso-4 on SynthFake has a training AUC of 58 to 65 % in
        # the 150 steps that take it to 88 to 97 % with 1.
        HParam(
            "core_alpha",
            100.0,
            log_uniform(10, 0, 2),
            "weight of the views' disagreement",
            scratch=1.0,
            at_least=0,
        ),
        *OPTIMIZER_HPARAMS,
    )

    def __init__(self, input_shape: tuple, num_classes: int, num_domains: int, hparams: dict[str, Any]):
        if len(input_shape) != 3:
            raise RogaError(
                f"CORE augments images of shape (channels, height, width); this dataset has {tuple(input_shape)}"
            )
        super().__init__(input_shape, num_classes, num_domains, hparams)
        self.optimizer = base_optimizer(self.network.parameters(), hparams)

    def update(
        self, minibatches: list[Minibatch], unlabeled: list[Tensor] | None = None
    ) -> dict[str, float | Tensor]:
        """One step on both views of the pooled minibatches.

        Args:
            minibatches: one (x, y) a training environment, on the device of the network.
            unlabeled: ignored, as by DomainBed's ERM.

        Returns:
            ``loss``, L; ``nll``, its cross-entropy; ``inconsistency``, the mean of (1 − cos)².
        """
        x, y = pool(minibatches)
        features = self.featurizer(torch.cat([view(x), view(x)]))
        nll = F.cross_entropy(self.classifier(features), y.repeat(2))
        inconsistency = disagreement(*features.chunk(2))
        loss = nll + self.hparams["core_alpha"] * inconsistency
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"loss": number(loss), "nll": number(nll), "inconsistency": number(inconsistency)}


def disagreement(first: Tensor, second: Tensor) -> Tensor:
    """Mean of (1 − cosine)² over the rows of two (N, D) features: 0-dim, from 0 (equal directions) to 4."""
    return (1 - F.cosine_similarity(first, second)).square().mean()


def view(x: Tensor) -> Tensor:
    """Every image of ``x`` (B, C, H, W) augmented by its own draws, from torch's global generator."""
    side = tuple(x.shape[-2:])
    mirror = v2.RandomHorizontalFlip()
    erase = v2.RandomErasing(p=1.0, scale=(0.02, 0.2), ratio=(0.5, 2.0))
    cut = v2.RandomResizedCrop(side, scale=(1 / 1.3, 1.0), ratio=(0.9, 1.1), antialias=True)
    others = (None, erase, cut)
    views = []
    for image in x:
        image = mirror(image)
        other = others[int(torch.randint(len(others), ()))]
        views.append(image if other is None else other(image))
    return torch.stack(views)
