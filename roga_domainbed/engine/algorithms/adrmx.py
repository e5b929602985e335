"""Additive disentanglement of domain features, with a remix loss."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from roga_domainbed import catalog
from roga_domainbed.catalog.hparams import HParam, choice, constant
from roga_domainbed.engine import networks
from roga_domainbed.engine.algorithms._minibatches import domain_labels, number, pool
from roga_domainbed.engine.algorithms._steps import descend
from roga_domainbed.engine.algorithms.base import Algorithm
from roga_domainbed.engine.lib.misc import Minibatch
from roga_domainbed.optim.base import base_optimizer

_TEMPERATURE = 0.07


class ADRMX(Algorithm):
    """Additive disentanglement with remix loss (Demirel, Aptoula and Ozkan, arXiv:2308.06624).

    One featurizer serves the label, another the environment, and their difference should hide the environment from a
    discriminator. ``d_steps_per_g_step`` steps of the discriminator and one of the rest take turns. The rest descends
    the sum of the cross-entropies of three classifiers (the label from the label's features and from the difference,
    the environment from its own features), of ``supervised_contrast`` on both kinds of label features and of the remix
    loss, minus the discriminator's. For the remix loss of a class, the difference of one of its samples plus the
    environment's features of another one, from another environment, is classified. Predictions are those of the label's
    features. The rule rests on what DomainBed's does, not on the paper's text.

    DomainBed's differs in two points. Its remix loss takes the two samples among the first of the pooled batch,
    whatever their class and environment: it uses positions within the class as if they were positions in the batch. And
    ``weight_decay`` goes unused there; here it is that of both optimizers.

    The classifiers have three layers whatever ``nonlinear_classifier`` says. Both sides have an optimizer of the kind
    that the hparam ``optimizer`` names; ``adam`` and ``adamw`` have the betas (``beta1``, 0.9).

    Attributes:
        featurizer_label, featurizer_domain: input to features (B, D).
        discriminator: differences of features to logits of the environment.
        classifier_label_1, classifier_label_2: the label from the label's features and from the difference.
        classifier_domain: the environment from its features.
        network: ``featurizer_label`` and ``classifier_label_1`` in sequence; what predicts.
        update_count: calls of ``update``, int64 of shape (1,); saved with the weights.
    """

    HPARAMS = (
        HParam("cnt_lambda", 1.0, constant(1.0), "weight of the supervised contrast", at_least=0),
        HParam("dclf_lambda", 1.0, constant(1.0), "weight of classifying the environment", at_least=0),
        HParam("disc_lambda", 0.75, constant(0.75), "weight of deceiving the discriminator", at_least=0),
        HParam("rmxd_lambda", 1.0, constant(1.0), "weight of the remix loss", at_least=0),
        HParam(
            "d_steps_per_g_step",
            2,
            constant(2),
            "discriminator steps for one of the rest",
            at_least=1,
            at_most=2**16,
        ),
        HParam("beta1", 0.5, constant(0.5), "first-moment decay of adam and adamw", at_least=0, below=1),
        HParam("mlp_width", 256, constant(256), "width of the discriminator", at_least=1, at_most=2**16),
        HParam("mlp_depth", 9, choice([8, 9, 10]), "layers of the discriminator", at_least=2, at_most=2**8),
        HParam("mlp_dropout", 0.0, constant(0), "dropout in the discriminator", at_least=0, below=1),
    )

    @classmethod
    def dataset_hparams(cls, dataset: str) -> tuple[HParam, ...]:
        """Its own learning rates."""
        lr, _, _ = catalog.scale_hparams(dataset)
        if catalog.has_small_images(dataset):
            return (replace(lr, default=3e-3, sample=choice([5e-4, 1e-3, 2e-3, 3e-3])),)
        return (replace(lr, default=3e-5, sample=choice([2e-5, 3e-5, 4e-5, 5e-5])),)

    def __init__(
        self, input_shape: tuple[int, ...], num_classes: int, num_domains: int, hparams: dict[str, Any]
    ):
        super().__init__(input_shape, num_classes, num_domains, hparams)
        self.register_buffer("update_count", torch.tensor([0]))
        self.featurizer_label = networks.Featurizer(input_shape, hparams)
        self.featurizer_domain = networks.Featurizer(input_shape, hparams)
        width = self.featurizer_label.n_outputs
        self.discriminator = networks.MLP(width, num_domains, hparams)
        self.classifier_label_1 = networks.Classifier(width, num_classes, is_nonlinear=True)
        self.classifier_label_2 = networks.Classifier(width, num_classes, is_nonlinear=True)
        self.classifier_domain = networks.Classifier(width, num_domains, is_nonlinear=True)
        self.network = nn.Sequential(self.featurizer_label, self.classifier_label_1)
        self.disc_opt = self._optimizer(self.discriminator)
        self.gen_opt = self._optimizer(
            self.featurizer_label,
            self.featurizer_domain,
            self.classifier_label_1,
            self.classifier_label_2,
            self.classifier_domain,
        )

    def _optimizer(self, *modules: nn.Module) -> torch.optim.Optimizer:
        parameters = [parameter for module in modules for parameter in module.parameters()]
        return base_optimizer(parameters, self.hparams, betas=(self.hparams["beta1"], 0.9))

    def update(
        self, minibatches: list[Minibatch], unlabeled: list[torch.Tensor] | None = None
    ) -> dict[str, float]:
        """One step of one side; returns ``loss_disc``, or it and the other terms. See ``Algorithm.update``."""
        self.update_count += 1
        d_steps = self.hparams["d_steps_per_g_step"]
        discriminates = self.update_count.item() % (1 + d_steps) < d_steps
        x, y = pool(minibatches)
        domain = domain_labels(minibatches)
        with torch.set_grad_enabled(not discriminates):
            of_label, of_domain = self.featurizer_label(x), self.featurizer_domain(x)
        invariant = of_label - of_domain
        disc_loss = F.cross_entropy(self.discriminator(invariant), domain)
        if discriminates:
            descend(disc_loss, self.disc_opt)
            return {"loss_disc": number(disc_loss)}
        terms = {
            "loss_cnt_int": supervised_contrast(of_label, y),
            "loss_cnt_final": supervised_contrast(invariant, y),
            "loss_clf_int": F.cross_entropy(self.classifier_label_1(of_label), y),
            "loss_clf_fin": F.cross_entropy(self.classifier_label_2(invariant), y),
            "loss_dmn": F.cross_entropy(self.classifier_domain(of_domain), domain),
            "loss_disc": disc_loss,
            "loss_remixed": self._remix_loss(invariant, of_domain, y, domain),
        }
        contrast = self.hparams["cnt_lambda"]
        weights = {
            "loss_cnt_int": contrast,
            "loss_cnt_final": contrast,
            "loss_clf_int": 1.0,
            "loss_clf_fin": 1.0,
            "loss_dmn": self.hparams["dclf_lambda"],
            "loss_disc": -self.hparams["disc_lambda"],
            "loss_remixed": self.hparams["rmxd_lambda"],
        }
        total = sum(weights[name] * term for name, term in terms.items())
        descend(total, self.gen_opt)
        return {"loss_total": number(total)} | {name: number(term) for name, term in terms.items()}

    def _remix_loss(
        self, invariant: torch.Tensor, of_domain: torch.Tensor, y: torch.Tensor, domain: torch.Tensor
    ) -> torch.Tensor:
        """The sum of the remixed samples' cross-entropies, divided by the number of classes."""
        n_classes = self.classifier_label_1[-1].out_features
        first, second = remixed_pairs(y, domain).T
        logits = self.classifier_label_1(invariant[first] + of_domain[second])
        return F.cross_entropy(logits, y[first], reduction="sum") / n_classes

    def predict(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of shape (B, C)."""
        return self.network(x)


def remixed_pairs(y: torch.Tensor, domain: torch.Tensor) -> torch.Tensor:
    """(n, 2) indices: of each class that is in several environments, a random pair of samples from different ones.

    Args:
        y: (B,) labels.
        domain: (B,) environments.
    """
    order = torch.randperm(len(y)).to(y.device)
    pairs = []
    for label in y.unique():
        members = order[y[order] == label]
        partners = members[domain[members] != domain[members[0]]]
        if len(partners):
            pairs.append(torch.stack([members[0], partners[0]]))
    return torch.stack(pairs) if pairs else y.new_zeros((0, 2))


def supervised_contrast(features: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Supervised contrastive loss (Khosla et al., arXiv:2004.11362) in the form of DomainBed's ADRMX; scalar.

    A sample i chooses another one j with probability p_ij = e_ij / (Σ_k e_ik + 2ε), e_ij = exp(cos(z_i, z_j) / 0.07).
    Its loss is the mean of −log(p_ij + ε) over the other samples of its class; ε is 1e-5. The sum is divided by one
    more than the number of samples that have others of their class. (DomainBed's can weigh the own environment against
    the others and has both at one half: the 2 is from there.)

    Args:
        features: (B, D).
        y: (B,) labels.
    """
    others = ~torch.eye(len(y), dtype=torch.bool, device=y.device)
    positive = (y[:, None] == y) & others
    unit = F.normalize(features, dim=1)
    exponentials = torch.exp(unit @ unit.T / _TEMPERATURE) * others
    logs = (exponentials / (exponentials.sum(1, keepdim=True) + 2e-5) + 1e-5).log()
    counts = positive.sum(1)
    losses = -(logs * positive).sum(1) / counts.clamp_min(1)
    return losses.sum() / ((counts > 0).sum() + 1)
