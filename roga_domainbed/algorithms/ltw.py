"""LTW, learning to weight: a network that is meta-learned to weigh the training images of a detector."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from roga_domainbed.catalog import OPTIMIZER_HPARAMS
from roga_domainbed.catalog.hparams import HParam, log_uniform
from roga_domainbed.engine.algorithms._minibatches import number, pool
from roga_domainbed.engine.lib.misc import Minibatch
from roga_domainbed.errors import RogaError
from roga_domainbed.host.backend import host
from roga_domainbed.optim.base import base_optimizer
from roga_domainbed.optim.batch_norm import RunningStatistics


class LTW(host().algorithms.ERM):
    """Learning to weight (Sun et al., Domain General Face Forgery Detection by Learning to Weight, AAAI 2021).

    Each step holds out one environment at random for meta-test, T, and pools the others for meta-train. With the
    cross-entropy l_i(θ) of the N meta-train images and their weights w_i(ω) in (1, 2):

        θ' = θ − η ∇_θ [ 1/N Σ w_i(ω) l_i(θ) + λ C(θ) ]                         a virtual step
        ω  moves down  ∇_ω L_T(θ')
        θ  moves down  ∇_θ [ 1/N Σ w_i(ω) l_i(θ) + λ C(θ) + α L_T(θ') ]         with the new ω

        C(θ) = Σ_real (p_i − c)² − Σ_fake (p_i − c)²                            intra-class compact loss

    p_i is the probability of any class but class 0, which is real; c is the mean of p over all real images of
    meta-train so far, a constant. w_i is 1 + sigmoid of the weight network's score of the image's features. The
    gradients of L_T(θ') are exact, through the virtual step; a step costs about three of ERM's.

    The paper's own text was not at hand. The rule is that of its abstract, of the authors' released code and of
    Meta-Weight-Net (arXiv:1902.07379), whose three steps the code follows. It departs from the code in this:

    - There the weights are missing in the virtual step and cut off from the gradient in the last one, so the weight
      network stays as it was drawn; and L_T's gradient reaches θ through its curvature alone. Here both are learned
      from L_T, as the method says.
    - The virtual step is plain gradient descent, where the code takes that of a new Adam, whose length hardly
      depends on the weights.
    - The held-out environment is drawn in each step, and meta-test images are its minibatch. The code draws it in
      each epoch, and pairs a meta-train image with one of the other class from the same recording.
    - The weight network sees pooled features, as any backbone has them. Its separable convolutions are linear layers
      then.
    - Features are constants to the weights: the detector must not move them for the sake of a small weight.

    Attributes:
        weight_network: features to the score of an image's weight (B, 1).
        weight_optimizer: Adam over it, with the detector's learning rate, as in the code. Any step length suits
            Adam; that of L_T's gradient with respect to ω has a factor η.
        real_centre: c, 0-dim.
        n_real: how many images c is the mean of, 0-dim int64.
    """

    HPARAMS = (
        # η, λ and α are the released code's. It has η equal to the learning rate, with a schedule.
        HParam("ltw_inner_lr", 1e-3, log_uniform(10, -4, -1), "length η of the virtual step", above=0),
        HParam(
            "ltw_alpha",
            1.0,
            log_uniform(10, -1, 1),
            "weight α of the held-out environment's loss",
            at_least=0,
        ),
        HParam("ltw_lambda", 0.01, log_uniform(10, -3, -1), "weight λ of the compact loss", at_least=0),
        *OPTIMIZER_HPARAMS,
    )
    #: Adam, whatever the base optimizer is; see the class.
    FIXED_OPTIMIZERS = ("weight_optimizer",)

    def __init__(self, input_shape: tuple, num_classes: int, num_domains: int, hparams: dict[str, Any]):
        if num_domains < 2:
            raise RogaError(
                f"LTW needs at least 2 training environments, one of them for meta-test; got {num_domains}"
            )
        super().__init__(input_shape, num_classes, num_domains, hparams)
        self.optimizer = base_optimizer(self.network.parameters(), hparams)
        self.weight_network = weight_network(self.featurizer.n_outputs)
        self.weight_optimizer = torch.optim.Adam(self.weight_network.parameters(), lr=hparams["lr"])
        self.register_buffer("real_centre", torch.tensor(0.0))
        self.register_buffer("n_real", torch.tensor(0))

    def update(
        self, minibatches: list[Minibatch], unlabeled: list[Tensor] | None = None
    ) -> dict[str, float | Tensor]:
        """One step of the weight network, then one of the detector.

        Args:
            minibatches: one (x, y) a training environment, on the device of the network.
            unlabeled: ignored, as by DomainBed's ERM.

        Returns:
            ``loss``, the mean cross-entropy of meta-train without weights; ``meta_loss``, L_T(θ');
            ``compact_loss``, C; ``weight_spread``, the standard deviation of the new weights.

        Raises:
            RogaError: meta-train has one image, and weights are relative to those of others.
        """
        held_out, *rest = torch.randperm(len(minibatches)).tolist()
        x, y = pool([minibatches[i] for i in rest])
        if len(x) < 2:
            raise RogaError("LTW needs at least 2 images for meta-train: set hparams 'batch_size' above 1")
        with sdpa_kernel(SDPBackend.MATH):  # the other kernels of attention cannot be differentiated twice
            values = self._meta_update(x, y, *minibatches[held_out])
        return {name: number(value.detach()) for name, value in values.items()}

    def _meta_update(self, x: Tensor, y: Tensor, held_out_x: Tensor, held_out_y: Tensor) -> dict[str, Tensor]:
        features = self.featurizer(x)
        logits = self.classifier(features)
        losses = F.cross_entropy(logits, y, reduction="none")
        compact = self._compact_loss(logits, y)
        features = features.detach()

        named = {name: p for name, p in self.network.named_parameters() if p.requires_grad}
        params, weighing = list(named.values()), list(self.weight_network.parameters())
        train_loss = (self._weights(features) * losses).mean() + self.hparams["ltw_lambda"] * compact
        gradient = torch.autograd.grad(train_loss, params, create_graph=True, materialize_grads=True)
        moved = {
            name: p - self.hparams["ltw_inner_lr"] * g
            for (name, p), g in zip(named.items(), gradient, strict=True)
        }
        with RunningStatistics(self.network).untouched():  # they move by the pass at θ
            meta_loss = F.cross_entropy(functional_call(self.network, moved, (held_out_x,)), held_out_y)
        meta = torch.autograd.grad(meta_loss, [*params, *weighing], retain_graph=True, materialize_grads=True)
        of_params, of_weighing = meta[: len(params)], meta[len(params) :]
        _step(self.weight_optimizer, weighing, of_weighing)

        with torch.no_grad():
            weights = self._weights(features)
        train_loss = (weights * losses).mean() + self.hparams["ltw_lambda"] * compact
        gradient = torch.autograd.grad(train_loss, params, materialize_grads=True)
        _step(
            self.optimizer, params, torch._foreach_add(gradient, of_params, alpha=self.hparams["ltw_alpha"])
        )
        return {
            "loss": losses.mean(),
            "meta_loss": meta_loss,
            "compact_loss": compact,
            "weight_spread": weights.std(),
        }

    def _weights(self, features: Tensor) -> Tensor:
        return 1 + self.weight_network(features).squeeze(1).sigmoid()

    def _compact_loss(self, logits: Tensor, y: Tensor) -> Tensor:
        """C; the centre takes these images in first."""
        fake_probability = 1 - logits.softmax(1)[:, 0]
        is_real = y == 0
        with torch.no_grad():
            total = self.real_centre * self.n_real + (fake_probability * is_real).sum()
            self.n_real += is_real.sum()
            self.real_centre.copy_(total / self.n_real.clamp(min=1))
        distance = (fake_probability - self.real_centre).square()
        return torch.where(is_real, distance, -distance).sum()


def weight_network(width: int) -> nn.Module:
    """Features (B, ``width``) to scores (B, 1), which have one mean and spread in every minibatch (B ≥ 2)."""
    half, quarter = max(width // 2, 1), max(width // 4, 1)
    layers: list[nn.Module] = []
    for inputs, outputs in ((width, half), (half, quarter)):
        layers += [
            nn.Linear(inputs, outputs, bias=False),
            nn.BatchNorm1d(outputs, track_running_stats=False),
            nn.ReLU(),
        ]
    return nn.Sequential(
        *layers, nn.Dropout(0.5), nn.Linear(quarter, 1), nn.BatchNorm1d(1, track_running_stats=False)
    )


def _step(optimizer: torch.optim.Optimizer, params: list[Tensor], gradients: tuple[Tensor, ...]) -> None:
    for p, gradient in zip(params, gradients, strict=True):
        p.grad = gradient.detach()
    optimizer.step()
    torch.clear_autocast_cache()  # which has copies of the weights before the step
