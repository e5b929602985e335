"""Batch norm of few channels on several threads of a processor."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

_CACHE_LINE = 64  # bytes, of the processors in use
_ROW = 512  # floats: long enough for vector units, short enough to divide most batches


class FewChannelsBatchNorm2d(nn.BatchNorm2d):
    """``nn.BatchNorm2d`` whose backward pass stays fast for few channels on several threads.

    In channels-last, torch (2.14) lets each thread add up its sums in a row of one number a channel. Rows of less
    than a cache line share one, and the threads take it from each other at every pixel: two threads need three
    times as long as one for 8 channels. Here threads share none. Outside of training, on GPUs, in other layouts, for
    more channels and on one thread it is torch's own.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, H, W), and the running statistics as ``nn.BatchNorm2d`` moves them."""
        if not self._shares_a_cache_line(x):
            return super().forward(x)
        running = (None, None)
        if self.track_running_stats:
            running = (self.running_mean, self.running_var)
            self.num_batches_tracked.add_(1)
        return _BatchNorm.apply(x, self.weight, self.bias, *running, self.momentum, self.eps)[0]

    def _shares_a_cache_line(self, x: Tensor) -> bool:
        return (
            self.training
            and x.is_cpu
            and x.dim() == 4
            and x.stride(1) == 1
            and x.shape[1] * x.element_size() < _CACHE_LINE
            and x.numel() > x.shape[1]  # of a single value a channel, torch's own says what is wrong
            and self.affine
            and self.momentum is not None
            and x.dtype == self.weight.dtype
            and torch.get_num_threads() > 1
            and not torch.compiler.is_compiling()
        )


class _BatchNorm(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor | None,
        variance: Tensor | None,
        momentum: float,
        eps: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        return torch.native_batch_norm(x, weight, bias, mean, variance, True, momentum, eps)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor, Tensor]) -> None:
        ctx.eps = inputs[-1]
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(*inputs[:2], *output[1:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # a second derivative is wanted: torch's own has one
            x, weight, mean, inverse_std = ctx.saved_tensors
            grads = torch.ops.aten.native_batch_norm_backward(
                grad, x, weight, None, None, mean, inverse_std, True, ctx.eps, (True, True, True)
            )
        else:
            grads = _backward(grad, *ctx.saved_tensors)
        return *grads, None, None, None, None


def _backward(
    grad: Tensor, x: Tensor, weight: Tensor, mean: Tensor, inverse_std: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, weight and bias (Ioffe & Szegedy, arXiv:1502.03167, section 3).

    With n pixels and z = x − mean, dx = weight / std · (dy − Σdy / n − z · Σ(z dy) / (n std²)), channel by channel.
    """
    batch, channels, height, width = x.shape
    pixels = batch * height * width
    repeats = 1  # pixels side by side in a row, so that a row is long whatever the number of channels
    while pixels % (2 * repeats) == 0 and 2 * repeats * channels <= _ROW:
        repeats *= 2

    def rows(t: Tensor) -> Tensor:
        return t.permute(0, 2, 3, 1).reshape(-1, repeats * channels)

    dy = rows(grad)
    z = rows(x) - mean.repeat(repeats)
    sum_dy = dy.sum(0).view(repeats, channels).sum(0)
    # The diagonal of a product of matrices: one reading of both, and no array as large as they.
    sum_z_dy = (z.view(-1, channels).t() @ dy.view(-1, channels)).diagonal()
    scale = weight * inverse_std
    of_z = -scale * inverse_std.square() * sum_z_dy / pixels
    constant = -scale * sum_dy / pixels
    dx = torch.addcmul(constant.repeat(repeats), z, of_z.repeat(repeats), out=z)
    dx.addcmul_(dy, scale.repeat(repeats))
    dx = dx.view(batch, height, width, channels).permute(0, 3, 1, 2)
    return dx, sum_z_dy * inverse_std, sum_dy
