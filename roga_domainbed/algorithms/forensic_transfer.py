"""ForensicTransfer: an autoencoder whose latent halves light up for real and for fake images."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from roga_domainbed.catalog import OPTIMIZER_HPARAMS
from roga_domainbed.catalog.hparams import HParam, log_uniform
from roga_domainbed.engine.algorithms._minibatches import number, pool
from roga_domainbed.engine.lib.misc import Minibatch
from roga_domainbed.errors import RogaError
from roga_domainbed.host.backend import host
from roga_domainbed.optim.base import base_optimizer

_LATENT_MAPS = 128


class ForensicTransfer(host().algorithms.Algorithm):
    """ForensicTransfer (Cozzolino et al., arXiv:1812.02510), in the deeper network of Nguyen et al.

    The encoder's 128 maps are halved. a_0 and a_1 are the mean magnitudes of the halves; they are the logits. The
    decoder sees the half of the true class alone (the other is 0) and must rebuild the image from it:

        L = 1/N Σ_i [ |a_1(x_i) − y_i| + |a_0(x_i) − (1 − y_i)| ] + γ · mean |x̂_i − x_i|

    This is what remains of the multi-task method of Nguyen et al. (BTAS 2019, arXiv:1906.06876) without its branch
    that segments the forged region, which is trained on masks: environments give an image and its class. Their paper
    compares with it under the name *Deeper FT*. Their own method rebuilds by squared errors, with γ = 1.

    The network is the method: the hparams ``backbone``, ``weights`` and ``resnet_dropout`` are not used. It starts
    from random weights, so the default of ``lr`` is that of Nguyen et al. As in their code the decoder ends in
    tanh, although inputs that are normalized like ImageNet's reach beyond ±1.

    Attributes:
        featurizer: the encoder, images (B, C, H, W) to (B, 128, ⌈H/16⌉, ⌈W/16⌉), never negative.
        classifier: these to the logits (B, 2); it has no weights.
        network: the two in sequence.
        decoder: latent maps to images whose sides are the next multiples of 16.
        optimizer: the base optimizer over network and decoder.
    """

    HPARAMS = (
        HParam(
            "lr", 1e-3, log_uniform(10, -4, -2), "learning rate, of a network from random weights", above=0
        ),
        HParam("ft_gamma", 0.1, log_uniform(10, -2, 0), "weight of the reconstruction", at_least=0),
        *OPTIMIZER_HPARAMS,
    )

    def __init__(self, input_shape: tuple, num_classes: int, num_domains: int, hparams: dict[str, Any]):
        super().__init__(input_shape, num_classes, num_domains, hparams)
        if len(input_shape) != 3 or num_classes != 2:
            raise RogaError(
                "ForensicTransfer tells two classes of images of shape (channels, height, width) apart; "
                f"this dataset has {num_classes} classes and inputs of shape {tuple(input_shape)}"
            )
        self.featurizer = encoder(input_shape[0])
        self.classifier = HalfActivations()
        self.network = nn.Sequential(self.featurizer, self.classifier)
        self.decoder = decoder(input_shape[0])
        self.optimizer = base_optimizer(self.parameters(), hparams)

    def update(
        self, minibatches: list[Minibatch], unlabeled: list[Tensor] | None = None
    ) -> dict[str, float | Tensor]:
        """One step on the pooled minibatches.

        Args:
            minibatches: one (x, y) a training environment, on the device of the network.
            unlabeled: ignored, as by DomainBed's ERM.

        Returns:
            ``loss``, L; ``activation_loss`` and ``reconstruction_loss``, its two means.
        """
        x, y = pool(minibatches)
        latent = self.featurizer(x)
        activation_loss = activation_distance(self.classifier(latent), y)
        reconstruction_loss = F.l1_loss(self._rebuilt(latent, y, x.shape), x)
        loss = activation_loss + self.hparams["ft_gamma"] * reconstruction_loss
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {
            "loss": number(loss),
            "activation_loss": number(activation_loss),
            "reconstruction_loss": number(reconstruction_loss),
        }

    def _rebuilt(self, latent: Tensor, y: Tensor, shape: torch.Size) -> Tensor:
        chosen = F.one_hot(y, 2).repeat_interleave(latent.shape[1] // 2, dim=1)
        return self.decoder(latent * chosen[:, :, None, None])[..., : shape[-2], : shape[-1]]

    def predict(self, x: Tensor) -> Tensor:
        """Logits (B, 2): the activations of the halves."""
        return self.network(x)


class HalfActivations(nn.Module):
    """Latent maps (B, K, H, W) to the mean magnitudes (B, 2) of their halves."""

    def forward(self, latent: Tensor) -> Tensor:
        """The mean magnitudes."""
        return latent.abs().unflatten(1, (2, -1)).flatten(2).mean(2)


def activation_distance(activations: Tensor, y: Tensor) -> Tensor:
    """Mean over B of the L1 distance of ``activations`` (B, 2) from 1 in the half of class ``y`` and 0 in the other."""
    return (activations - F.one_hot(y, 2)).abs().sum(1).mean()


def encoder(channels: int) -> nn.Sequential:
    """Nine convolutions of 3 × 3, each with batch norm and ReLU; every second one halves the sides."""
    widths = (channels, 8, 8, 16, 16, 32, 32, 64, 64, _LATENT_MAPS)
    layers: list[nn.Module] = []
    for i, (inputs, outputs) in enumerate(pairwise(widths)):
        layers += [nn.Conv2d(inputs, outputs, 3, stride=1 + i % 2, padding=1), *_activated(outputs)]
    return nn.Sequential(*layers)


def decoder(channels: int) -> nn.Sequential:
    """The encoder's mirror image in transposed convolutions; every second one doubles the sides."""
    widths = (_LATENT_MAPS, 64, 64, 32, 32, 16, 16, 8, 8)
    layers: list[nn.Module] = []
    for i, (inputs, outputs) in enumerate(pairwise(widths)):
        doubled = i % 2
        layers += [
            nn.ConvTranspose2d(inputs, outputs, 3, stride=1 + doubled, padding=1, output_padding=doubled),
            *_activated(outputs),
        ]
    return nn.Sequential(*layers, nn.ConvTranspose2d(8, channels, 3, padding=1), nn.Tanh())


def _activated(width: int) -> tuple[nn.Module, nn.Module]:
    return nn.BatchNorm2d(width), nn.ReLU()
