"""What an algorithm does with its optimizer: a step, a restart."""

from __future__ import annotations

import torch


def descend(loss: torch.Tensor, *optimizers: torch.optim.Optimizer) -> None:
    """A step of each down the gradient of the scalar ``loss``; what it reaches of others keeps its gradient."""
    for optimizer in optimizers:
        optimizer.zero_grad()
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()
    # Autocast keeps the weights' 16-bit copies; what an update computes after this step must see the new weights.
    torch.clear_autocast_cache()


def restart(optimizer: torch.optim.Optimizer, lr: float | None = None) -> None:
    """Forget the moments, which are those of gradients of another magnitude; from now on ``lr`` if it is given."""
    optimizer.state.clear()
    if lr is not None:
        for group in optimizer.param_groups:
            group["lr"] = lr
