"""A list of tensors, one a parameter, as one vector: norms, inner products, sums."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def global_norm(tensors: Sequence[Tensor]) -> Tensor:
    """The L2 norm over all ``tensors`` together, 0-dim, on the first one's device."""
    return torch.linalg.vector_norm(stacked(torch._foreach_norm(list(tensors))))


def inner(left: Sequence[Tensor], right: Sequence[Tensor]) -> Tensor:
    """⟨left, right⟩ over all tensors together, 0-dim; differentiable."""
    return sum(((a * b).sum() for a, b in zip(left, right, strict=True)), start=left[0].new_zeros(()))


def inverse_or_zero(norm: Tensor) -> Tensor:
    """1/‖g‖, and 0 for a zero gradient: there is nothing to ascend along."""
    return torch.where(norm > torch.finfo(norm.dtype).tiny, 1.0 / norm, torch.zeros_like(norm))


def moved(
    origin: Sequence[Tensor], direction: Sequence[Tensor], scale: Tensor, *, consume: bool = False
) -> list[Tensor]:
    """``origin`` + scale · ``direction``.

    Args:
        origin: one tensor a parameter, the parameters themselves for example; not changed.
        direction: likewise.
        scale: 0-dim.
        consume: write the result into the memory of ``direction``.
    """
    origin, direction = [o.detach() for o in origin], list(direction)
    if scale.device.type == "cpu":
        # One pass through memory where foreach calls need two: on a CPU a large network waits for memory.
        alpha = scale.item()
        return [
            torch.add(o, d, alpha=alpha, out=d if consume else None)
            for o, d in zip(origin, direction, strict=True)
        ]
    scaled = direction if consume else [torch.empty_like(d).copy_(d) for d in direction]
    torch._foreach_mul_(scaled, scale)
    torch._foreach_add_(scaled, origin)
    return scaled


def add_scaled_(targets: Sequence[Tensor], sources: Sequence[Tensor], scale: Tensor) -> None:
    """``target += scale * source`` for every pair, in place, without waiting for the device."""
    if scale.device.type == "cpu":
        torch._foreach_add_(list(targets), list(sources), alpha=scale.item())
    else:
        torch._foreach_add_(list(targets), torch._foreach_mul(list(sources), scale))


def stacked(values: Sequence[Tensor]) -> Tensor:
    """The 0-dim ``values`` as one tensor on the first one's device, in the widest of their types."""
    device, dtype = values[0].device, values[0].dtype
    for value in values[1:]:
        dtype = torch.promote_types(dtype, value.dtype)
    return torch.stack([value.detach().to(device, dtype) for value in values])
