"""Sums and copies of many tensors over the ranks of a process group, in few calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, distributed

from roga_domainbed.errors import Failed


class PeerStopped(Failed):
    """Another process of the group is gone; its own message says why."""


def sum_(tensors: list[Tensor], group: Any) -> None:
    """Replace each tensor by its sum over the ranks, in place; one all-reduce for each data type.

    The ranks give the same shapes in the same order. All get the same bits.
    """
    for bucket, flat in _flattened(tensors):
        together(distributed.all_reduce, flat, group=group)
        _scatter(flat, bucket)


def copy_from_first_(tensors: list[Tensor], group: Any) -> None:
    """Replace each tensor by that of the first rank, in place."""
    source = distributed.get_global_rank(group, 0)
    for bucket, flat in _flattened(tensors):
        together(distributed.broadcast, flat, src=source, group=group)
        _scatter(flat, bucket)


def together(collective: Callable, *args: Any, **kwargs: Any) -> None:
    """Call one of ``torch.distributed``'s collectives.

    Raises:
        PeerStopped: a process does not take part any more.
    """
    try:
        collective(*args, **kwargs)
    except RuntimeError as error:  # gloo's own words are those of its sockets, and then guesses
        first = str(error).splitlines()[0].partition(". ")[0]
        raise PeerStopped(f"another process of the group has stopped, see its message ({first})") from None


def _flattened(tensors: list[Tensor]) -> list[tuple[list[Tensor], Tensor]]:
    buckets: dict[tuple, list[Tensor]] = {}
    for tensor in tensors:
        buckets.setdefault((tensor.device, tensor.dtype), []).append(tensor)
    return [(bucket, torch.cat([t.reshape(-1) for t in bucket])) for bucket in buckets.values()]


@torch.no_grad()
def _scatter(flat: Tensor, bucket: list[Tensor]) -> None:
    pieces = flat.split([t.numel() for t in bucket])
    torch._foreach_copy_(bucket, [piece.view(t.shape) for piece, t in zip(pieces, bucket, strict=True)])
