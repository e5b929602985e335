"""Domain-adversarial learning: features from which a discriminator cannot tell the environment."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from roga_domainbed import catalog
from roga_domainbed.catalog.hparams import HParam, choice, log_uniform, log_uniform_int
from roga_domainbed.engine import networks
from roga_domainbed.engine.algorithms._minibatches import domain_labels, number, pool
from roga_domainbed.engine.algorithms._steps import descend
from roga_domainbed.engine.algorithms.base import Algorithm
from roga_domainbed.engine.lib.misc import Minibatch
from roga_domainbed.optim.base import base_optimizer


class DomainAdversarial(Algorithm):
    """The base of DANN and CDANN. Steps of the discriminator and of the other networks alternate.

    Each side has an optimizer of its own; the hparam ``optimizer`` names the kind of both. ``adam`` and ``adamw`` have
    the betas (``beta1``, 0.9). ``sgd`` has none: its ``momentum`` is that of both sides, and ``beta1`` goes unused.

    Attributes:
        CONDITIONAL: whether the discriminator also sees the label, as an embedding added to the features, and weighs
            the classes equally.
        featurizer: input to features (B, D).
        classifier: features to logits.
        discriminator: features to logits of the environment.
        class_embeddings: (num_classes, D); unused by DANN, whose checkpoints nevertheless have it in DomainBed.
        update_count: calls of ``update``, int64 of shape (1,); saved with the weights.
    """

    CONDITIONAL: bool

    HPARAMS = (
        HParam("lambda", 1.0, log_uniform(10, -2, 2), "weight of the adversarial loss", at_least=0),
        HParam(
            "weight_decay_d", 0.0, log_uniform(10, -6, -2), "L2 weight decay of the discriminator", at_least=0
        ),
        HParam(
            "d_steps_per_g_step",
            1,
            log_uniform_int(2, 0, 3),
            "discriminator steps for one of the rest",
            at_least=1,
            at_most=2**16,
        ),
        HParam(
            "grad_penalty",
            0.0,
            log_uniform(10, -2, 1),
            "weight of the discriminator's squared gradient",
            at_least=0,
        ),
        HParam("beta1", 0.5, choice([0.0, 0.5]), "first-moment decay of adam and adamw", at_least=0, below=1),
        HParam(
            "mlp_width",
            256,
            log_uniform_int(2, 6, 10),
            "width of the discriminator",
            at_least=1,
            at_most=2**16,
        ),
        HParam("mlp_depth", 3, choice([3, 4, 5]), "layers of the discriminator", at_least=1, at_most=2**8),
        HParam(
            "mlp_dropout", 0.0, choice([0.0, 0.1, 0.5]), "dropout in the discriminator", at_least=0, below=1
        ),
    )

    @classmethod
    def dataset_hparams(cls, dataset: str) -> tuple[HParam, ...]:
        """Learning rates and weight decays of both sides; ``lr`` and ``weight_decay`` are not used."""
        lr, weight_decay, _ = catalog.scale_hparams(dataset)
        return (
            replace(lr, name="lr_g", meaning="learning rate of featurizer and classifier"),
            replace(lr, name="lr_d", meaning="learning rate of the discriminator"),
            replace(
                weight_decay, name="weight_decay_g", meaning="L2 weight decay of featurizer and classifier"
            ),
        )

    def __init__(
        self, input_shape: tuple[int, ...], num_classes: int, num_domains: int, hparams: dict[str, Any]
    ):
        super().__init__(input_shape, num_classes, num_domains, hparams)
        self.register_buffer("update_count", torch.tensor([0]))
        self.featurizer = networks.Featurizer(input_shape, hparams)
        width = self.featurizer.n_outputs
        self.classifier = networks.Classifier(width, num_classes, hparams["nonlinear_classifier"])
        self.discriminator = networks.MLP(width, num_domains, hparams)
        self.class_embeddings = nn.Embedding(num_classes, width)
        self.disc_opt = self._optimizer("_d", self.discriminator, self.class_embeddings)
        self.gen_opt = self._optimizer("_g", self.featurizer, self.classifier)

    def _optimizer(self, side: str, *modules: nn.Module) -> torch.optim.Optimizer:
        parameters = [parameter for module in modules for parameter in module.parameters()]
        return base_optimizer(parameters, self.hparams, side=side, betas=(self.hparams["beta1"], 0.9))

    def update(
        self, minibatches: list[Minibatch], unlabeled: list[torch.Tensor] | None = None
    ) -> dict[str, float]:
        """One step of one side; returns ``disc_loss`` or ``gen_loss``. See ``Algorithm.update``."""
        self.update_count += 1
        d_steps = self.hparams["d_steps_per_g_step"]
        discriminates = self.update_count.item() % (1 + d_steps) < d_steps
        x, y = pool(minibatches)
        with torch.set_grad_enabled(
            not discriminates
        ):  # the discriminator's step leaves the features as they are
            features = self.featurizer(x)
        disc_loss = self._discriminator_loss(features, y, minibatches)
        if discriminates:
            descend(disc_loss, self.disc_opt)
            return {"disc_loss": number(disc_loss)}
        gen_loss = F.cross_entropy(self.classifier(features), y) - self.hparams["lambda"] * disc_loss
        descend(gen_loss, self.gen_opt)
        return {"gen_loss": number(gen_loss)}

    def _discriminator_loss(
        self, features: torch.Tensor, y: torch.Tensor, minibatches: list[Minibatch]
    ) -> torch.Tensor:
        seen = features + self.class_embeddings(y) if self.CONDITIONAL else features
        if not seen.requires_grad:
            seen.requires_grad_()  # for the gradient penalty
        losses = F.cross_entropy(self.discriminator(seen), domain_labels(minibatches), reduction="none")
        loss = (class_weights(y) * losses).sum() if self.CONDITIONAL else losses.mean()
        if self.hparams["grad_penalty"]:
            (gradient,) = torch.autograd.grad(losses.sum(), seen, create_graph=True)
            loss = loss + self.hparams["grad_penalty"] * gradient.pow(2).sum(1).mean()
        return loss

    def predict(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of shape (B, C)."""
        return self.classifier(self.featurizer(x))


def class_weights(y: torch.Tensor) -> torch.Tensor:
    """(B,) weights that sum to 1 and give every class in ``y`` (B,) the same share."""
    _, which, counts = y.unique(return_inverse=True, return_counts=True)
    return 1 / (counts[which] * len(counts))
