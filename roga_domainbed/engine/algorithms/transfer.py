"""Transfer: features on which no head near the classifier's tells the environments' risks apart."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from roga_domainbed.catalog.hparams import HParam, choice, constant, log_uniform, uniform
from roga_domainbed.engine import networks
from roga_domainbed.engine.algorithms._minibatches import number, pool
from roga_domainbed.engine.algorithms._steps import descend
from roga_domainbed.engine.algorithms.base import Algorithm
from roga_domainbed.engine.lib.misc import Minibatch
from roga_domainbed.optim.base import base_optimizer


class Transfer(Algorithm):
    """Transferability by an adversarial head (Zhang, Zhao, Yu and Poupart, arXiv:2106.03632, algorithm 1).

    The gap of a head is its largest risk of an environment minus the smallest one. An update takes a step on the pooled
    risk and one on the gap of the adversarial head, which moves the featurizer alone. Then the adversarial head starts
    anew from the classifier and climbs the gap for ``d_steps_per_g`` steps, each projected onto the ball of radius
    ``delta`` around the classifier. Both gaps are multiplied by ``t_lambda``. The rule rests on what DomainBed's does,
    not on the paper's text.

    The head climbs by plain gradient steps of rate ``lr_d``, whichever ``optimizer`` the rest has. With ``gda``, which
    random search always draws, plain gradient steps of rate ``lr`` also move the rest. DomainBed's trains the
    adversarial head alone then. It also makes new features for every step of the head, so that dropout draws anew;
    here the head climbs on the same ones, at a fraction of the cost.

    Attributes:
        featurizer: input to features (B, D).
        classifier: features to logits.
        adv_classifier: the adversarial head, of the classifier's shape.
        update_count: always 0; DomainBed's checkpoints have it.
    """

    HPARAMS = (
        HParam("t_lambda", 1.0, log_uniform(10, -2, 1), "weight of the gap", at_least=0),
        HParam(
            "delta", 2.0, uniform(0.1, 3.0), "how far the adversarial head is from the classifier", at_least=0
        ),
        HParam(
            "d_steps_per_g", 10, choice([1, 2, 5]), "steps of the adversarial head", at_least=1, at_most=2**16
        ),
        HParam(
            "weight_decay_d",
            0.0,
            log_uniform(10, -6, -2),
            "goes unused, as in DomainBed's Transfer",
            at_least=0,
        ),
        HParam("gda", False, constant(True), "plain gradient steps instead of the optimizer's"),
        HParam(
            "beta1", 0.5, choice([0.0, 0.5]), "goes unused, as in DomainBed's Transfer", at_least=0, below=1
        ),
        HParam("lr_d", 1e-3, log_uniform(10, -4.5, -2.5), "learning rate of the adversarial head", above=0),
    )
    #: Plain gradient ascent, whatever the base optimizer is; see the class.
    FIXED_OPTIMIZERS = ("adv_opt",)

    def __init__(
        self, input_shape: tuple[int, ...], num_classes: int, num_domains: int, hparams: dict[str, Any]
    ):
        super().__init__(input_shape, num_classes, num_domains, hparams)
        self.register_buffer("update_count", torch.tensor([0]))
        self.featurizer = networks.Featurizer(input_shape, hparams)
        head = self.featurizer.n_outputs, num_classes, hparams["nonlinear_classifier"]
        self.classifier, self.adv_classifier = networks.Classifier(*head), networks.Classifier(*head)
        self.adv_classifier.load_state_dict(self.classifier.state_dict())
        parameters = [*self.featurizer.parameters(), *self.classifier.parameters()]
        plain = {"optimizer": "sgd", "momentum": 0.0} if hparams["gda"] else {}
        self.optimizer = base_optimizer(parameters, {**hparams, **plain})
        self.adv_opt = torch.optim.SGD(self.adv_classifier.parameters(), lr=hparams["lr_d"])

    def update(
        self, minibatches: list[Minibatch], unlabeled: list[torch.Tensor] | None = None
    ) -> dict[str, float]:
        """Two steps of the network and those of the adversarial head; see ``Algorithm.update``.

        Returns:
            ``loss``, the pooled risk before the steps, and ``gap``, the weighted one before the head's last step.
        """
        x, y = pool(minibatches)
        labels = [y for _, y in minibatches]
        loss = F.cross_entropy(self.predict(x), y)
        descend(loss, self.optimizer)
        descend(self._gap([self.featurizer(x) for x, _ in minibatches], labels), self.optimizer)
        self.adv_classifier.load_state_dict(self.classifier.state_dict())
        with torch.no_grad():
            features = [self.featurizer(x) for x, _ in minibatches]
        for _ in range(self.hparams["d_steps_per_g"]):
            gap = self._gap(features, labels)
            descend(-gap, self.adv_opt)
            project(self.adv_classifier, self.classifier, self.hparams["delta"])
        return {"loss": number(loss), "gap": number(gap)}

    def _gap(self, features: list[torch.Tensor], labels: list[torch.Tensor]) -> torch.Tensor:
        risks = [F.cross_entropy(self.adv_classifier(z), y) for z, y in zip(features, labels, strict=True)]
        risks = torch.stack(risks)
        return self.hparams["t_lambda"] * (risks.max() - risks.min())

    def predict(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of shape (B, C)."""
        return self.classifier(self.featurizer(x))


@torch.no_grad()
def project(head: nn.Module, centre: nn.Module, radius: float) -> None:
    """Move the weights of ``head`` to the nearest ones at most ``radius`` from those of ``centre``, in the L2 norm."""
    pairs = list(zip(head.parameters(), centre.parameters(), strict=True))
    distance = torch.cat([(of - at).flatten() for of, at in pairs]).norm()
    share = (radius / distance).clamp_max(1)  # also where the distance is 0
    for of, at in pairs:
        of.copy_(at + share * (of - at))
