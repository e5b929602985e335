"""Processes that share the domains of a step: who has which, and the one all-reduce that makes them equal."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed

from roga_domainbed.errors import RogaError
from roga_domainbed.optim import collectives
from roga_domainbed.optim.domains import Domains


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
        """Replace each tensor by its sum over the ranks, in place; see ``collectives.sum_``."""
        collectives.sum_(tensors, self.group)

    def copy_from_first_(self, tensors: list[Tensor]) -> None:
        """Replace each tensor by that of the first rank, in place."""
        collectives.copy_from_first_(tensors, self.group)

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
