"""Processes that share the domains of a step: who has which, and the one all-reduce that makes them equal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, distributed

from roga_domainbed.errors import Failed, RogaError
from roga_domainbed.optim.domains import Domains


class PeerStopped(Failed):
    """Another process of the group is gone; its own message says why."""


class SharedDomains:
    """The domains of each step, dealt to the processes of a group: domain i to rank i modulo their number.

    Args:
        group: of ``torch.distributed``; None for the default one.
    """

    def __init__(self, group: Any = None):
        self.group = distributed.group.WORLD if group is None else group

    def own(self, n_domains: int) -> range:
        """Indices of the domains that this process evaluates."""
        return range(self.group.rank(), n_domains, self.group.size())

    def sum_(self, tensors: list[Tensor]) -> None:
        """Replace each tensor by its sum over the ranks, in place; one all-reduce for each data type.

        The ranks give the same shapes in the same order. All get the same bits.
        """
        for bucket, flat in _flattened(tensors):
            together(distributed.all_reduce, flat, group=self.group)
            _scatter(flat, bucket)

    def copy_from_first_(self, tensors: list[Tensor]) -> None:
        """Replace each tensor by that of the first rank, in place."""
        source = distributed.get_global_rank(self.group, 0)
        for bucket, flat in _flattened(tensors):
            together(distributed.broadcast, flat, src=source, group=self.group)
            _scatter(flat, bucket)

    def add_up(self, domains: Domains, step: int) -> None:
        """Sum the domains' direction, numbers and batch-norm buffers over the processes.

        Raises:
            RogaError: the processes are at different steps.
        """
        params = domains.params
        if not domains.direction:  # more processes than domains
            domains.direction = [torch.zeros_like(p) for p in params]
        if domains.cosine and not domains.units:
            domains.units = [torch.zeros_like(p) for p in params]
        like = {"device": params[0].device, "dtype": params[0].dtype}
        table = domains.table.to(**like)
        reached = torch.tensor(domains.reached, **like)
        steps = torch.tensor([float(step)], **like)
        with domains.passes.over_ranks(domains.K) as buffers:
            self.sum_([*domains.direction, *domains.units, *buffers, table, reached, steps])
        if steps.item() != self.group.size() * step:
            raise RogaError(
                f"the processes that share the domains are at different steps, this one at {step}: start them together"
            )
        domains.reached = (reached > 0).tolist()
        domains.table = table.double()


def together(collective: Callable, *args: Any, **kwargs: Any) -> None:
    """Call one of ``torch.distributed``'s collectives.

    Raises:
        PeerStopped: a process does not take part any more.
    """
    try:
        collective(*args, **kwargs)
    except RuntimeError as error:  # gloo's own words are those of its sockets, and then guesses
        first = str(error).splitlines()[0].partition(". ")[0]
        raise PeerStopped(
            f"another process that shares the domains has stopped, see its message ({first})"
        ) from None


def _flattened(tensors: list[Tensor]) -> list[tuple[list[Tensor], Tensor]]:
    buckets: dict[tuple, list[Tensor]] = {}
    for tensor in tensors:
        buckets.setdefault((tensor.device, tensor.dtype), []).append(tensor)
    return [(bucket, torch.cat([t.reshape(-1) for t in bucket])) for bucket in buckets.values()]


@torch.no_grad()
def _scatter(flat: Tensor, bucket: list[Tensor]) -> None:
    pieces = flat.split([t.numel() for t in bucket])
    torch._foreach_copy_(bucket, [piece.view(t.shape) for piece, t in zip(pieces, bucket, strict=True)])
