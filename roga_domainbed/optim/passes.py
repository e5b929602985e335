"""One pass: a closure's loss and gradient, wherever the parameters are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

#: Returns the mean loss of a minibatch with its graph, and calls no ``backward``.
Closure = Callable[[], Tensor]


@dataclass(frozen=True)
class Scale:
    """What gradients are computed with, and have to be freed from.

    Attributes:
        of_loss: what the closures multiply their losses with.
        of_scaler: 0-dim, a ``GradScaler``'s scale, which multiplies losses on their way back; None without one.
        sign: −1 where the base optimizer maximizes: what the methods minimize is −L then.
    """

    of_loss: float = 1.0
    of_scaler: Tensor | None = None
    sign: float = 1.0


_UNSCALED = Scale()


@dataclass
class Pass:
    """What one evaluation of a closure gave.

    Attributes:
        loss: 0-dim, detached, without the loss scale.
        grads: one tensor a parameter, zeros where the loss does not reach it. Each has memory of its own in the
            parameter's order, so it may be changed in place and handed to any optimizer.
        reached: whether the loss reaches each parameter.
    """

    loss: Tensor
    grads: list[Tensor]
    reached: list[bool]


def evaluate(
    closure: Closure,
    params: Sequence[Tensor],
    scale: Scale = _UNSCALED,
    *,
    weight: float = 1.0,
    create_graph: bool = False,
) -> Pass:
    """Run ``closure`` and differentiate its loss with respect to ``params``.

    Args:
        closure: see ``Closure``.
        params: the trainable parameters.
        scale: of losses (fp16 training) and their sign. Gradients are divided by it here, because α ⟨·,·⟩ is not
            scale-free.
        weight: factor of the gradients, applied on their way back, where it costs nothing.
        create_graph: keep the graph of the gradients, for second derivatives.
    """
    # Autocast keeps the low-precision copies of weights it has seen; θ may have moved since.
    torch.clear_autocast_cache()
    with torch.enable_grad():
        loss = closure()
        if not isinstance(loss, Tensor) or loss.dim() != 0 or not loss.requires_grad:
            raise TypeError(
                "a closure must return a scalar loss tensor with its graph and call no backward(); got "
                f"{type(loss).__name__}{tuple(loss.shape) if isinstance(loss, Tensor) else ''}"
            )
        if any(p.grad is not None for p in params):
            raise TypeError(
                "a closure called backward(): let it return the loss alone, the optimizer differentiates"
            )
        outer = torch.full_like(loss, weight * scale.sign)
        if scale.of_scaler is not None:
            outer *= scale.of_scaler
        raw = torch.autograd.grad(loss, params, outer, allow_unused=True, create_graph=create_graph)
    if any(grad is not None and grad.layout != torch.strided for grad in raw):
        raise TypeError(
            "a loss has sparse gradients, which have no norm over all parameters: build the embedding with sparse=False"
        )
    grads = _owned(raw, params)
    if scale.of_loss != 1.0:
        grads = list(torch._foreach_div(grads, scale.of_loss))
    if scale.of_scaler is not None:
        grads = list(torch._foreach_div(grads, scale.of_scaler.to(grads[0].device)))
    return Pass(loss.detach() / scale.of_loss, grads, [grad is not None for grad in raw])


def _owned(raw: Sequence[Tensor | None], params: Sequence[Tensor]) -> list[Tensor]:
    """Gradients that may be changed in place, in the memory order of their parameters, as ``backward()`` leaves them.

    Autograd may hand out the same memory for two parameters (of a sum of both), a broadcast view of one number, or
    another memory order than the parameter's, which fused optimizers would misread.
    """
    seen: set[int] = set()
    owned = []
    for grad, p in zip(raw, params, strict=True):
        if grad is None:
            grad = torch.zeros_like(p)
        elif grad.stride() != p.stride() or grad.data_ptr() in seen:
            grad = torch.empty_like(p).copy_(grad)
        seen.add(grad.data_ptr())
        owned.append(grad)
    return owned


@contextmanager
def at_point(params: Sequence[Tensor], point: Sequence[Tensor]) -> Iterator[None]:
    """Inside, ``params`` have the values of ``point``; afterwards, whatever happened, their own.

    The memory of θ is exchanged and not written to, so θ comes back bit for bit.
    """
    own = [p.data for p in params]
    try:
        for p, value in zip(params, point, strict=True):
            p.data = value
        yield
    finally:
        for p, value in zip(params, own, strict=True):
            p.data = value
        torch.clear_autocast_cache()
