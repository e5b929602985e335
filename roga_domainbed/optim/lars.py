"""LARS: momentum with a learning rate for each layer, in proportion to its weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


class LARS(torch.optim.Optimizer):
    """Layer-wise adaptive rate scaling (You, Gitman and Ginsburg, arXiv:1708.03888, algorithm 1).

        g ← g + λ w;  g ← η ‖w‖/‖g‖ · g;  v ← μ v + g;  w ← w − lr · v

    The first two are for weights of at least two axes, with a factor of 1 where either norm is 0. Biases and the
    weights of norms have neither, as in DomainBed. The learning rate is outside of the momentum, as in torch's SGD.

    The rule is DomainBed's; the paper's text was not at hand.

    Args:
        params: as for any optimizer of torch.
        lr: learning rate.
        weight_decay: λ.
        momentum: μ.
        trust_coefficient: η.
    """

    def __init__(
        self,
        params: Any,
        lr: float,
        weight_decay: float = 0.0,
        momentum: float = 0.9,
        trust_coefficient: float = 1e-3,
    ):
        defaults = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum}
        super().__init__(params, {**defaults, "trust_coefficient": trust_coefficient})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step along the gradients that the parameters have; ``closure`` as for any optimizer of torch."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                direction = _scaled(weight, group) if weight.dim() > 1 else weight.grad
                state = self.state[weight]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(weight)
                velocity = state["momentum_buffer"].mul_(group["momentum"]).add_(direction)
                weight.add_(velocity, alpha=-group["lr"])
        return loss


def _scaled(weight: torch.Tensor, group: dict[str, Any]) -> torch.Tensor:
    """The gradient with weight decay, of the norm η ‖w‖."""
    direction = weight.grad.add(weight, alpha=group["weight_decay"])
    weight_norm, norm = weight.norm(), direction.norm()
    # On the device, so that a GPU need not wait for the values of the norms.
    factor = torch.where((weight_norm > 0) & (norm > 0), group["trust_coefficient"] * weight_norm / norm, 1.0)
    return direction * factor
