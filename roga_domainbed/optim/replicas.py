"""Ranks that hold the model alike and take each step together, each with its part of every minibatch.

The sharpness-aware step takes its gradients by ``torch.autograd.grad``, which passes by the reducer of
``DistributedDataParallel``. So what a data-parallel backward pass does is done here: gradients are averaged over the
ranks where the rule needs them, and batch-norm buffers become those of the first rank.
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from roga_domainbed.optim.batch_norm import RunningStatistics
from roga_domainbed.optim.passes import Pass

ASCENTS = ("global", "local")


class Replicas:
    """The ranks of a step.

    Args:
        group: of ``torch.distributed``.
        ascent: one of ``ASCENTS``.
        model: as the closures call it; None if not known.
    """

    def __init__(self, group: Any, ascent: str, model: nn.Module | None):
        from roga_domainbed.optim import collectives  # a run in one process does without it

        self._collectives = collectives
        self.group, self.is_global = group, ascent == "global"
        self._wrapped = model if isinstance(model, DistributedDataParallel) else None

    @property
    def size(self) -> int:
        """The number of ranks."""
        return self.group.size()

    def without_reducer(self) -> contextlib.AbstractContextManager:
        """Inside, forward passes of ``DistributedDataParallel`` prepare no reduction and copy no buffers."""
        return contextlib.nullcontext() if self._wrapped is None else self._wrapped.no_sync()

    def average_(self, found: Pass) -> None:
        """Make a pass over this rank's minibatch one over all ranks' minibatches, of equal sizes, in place."""
        self.add_up_([*found.grads, found.loss], found)
        torch._foreach_div_([*found.grads, found.loss], self.size)

    def add_up_(self, tensors: list[Tensor], found: Any) -> None:
        """Sum ``tensors`` over the ranks in place, and let ``found.reached`` be what any rank reaches."""
        reached = torch.tensor(found.reached, dtype=tensors[0].dtype, device=tensors[0].device)
        self._collectives.sum_([*tensors, reached], self.group)
        if not all(found.reached):  # else there is nothing to learn, and a GPU would be waited for
            found.reached = (reached > 0).tolist()

    def most(self, values: list[float], device: torch.device) -> list[float]:
        """The largest of each value over the ranks."""
        found = torch.tensor(values, dtype=torch.float64, device=device)
        op = torch.distributed.ReduceOp.MAX
        self._collectives.together(torch.distributed.all_reduce, found, op=op, group=self.group)
        return found.tolist()

    def total(self, values: list[float], device: torch.device) -> list[float]:
        """The sum of each value over the ranks."""
        found = torch.tensor(values, dtype=torch.float64, device=device)
        self._collectives.sum_([found], self.group)
        return found.tolist()

    def share_buffers(self, statistics: RunningStatistics) -> None:
        """Give every rank the first one's batch-norm buffers."""
        buffers = statistics.buffers()
        if buffers:
            self._collectives.copy_from_first_(buffers, self.group)

    def start_alike(self, params: list[Tensor], model: nn.Module | None) -> None:
        """Give every rank the first one's parameters and buffers; ``DistributedDataParallel`` has done so."""
        if self._wrapped is None:
            buffers = [] if model is None else list(model.buffers())
            self._collectives.copy_from_first_([*(p.data for p in params), *buffers], self.group)


def replicas_of(optimizer: Any, model: nn.Module | None, group: Any, ascent: str) -> Replicas | None:
    """The ranks that take the steps of ``optimizer``; None for this process alone.

    Raises:
        ValueError: the model is split over ranks, or the method cannot take its steps with others.
    """
    params = [p for param_group in optimizer.param_groups for p in param_group["params"]]
    _refuse_split_models(model, params)
    if group is None and isinstance(model, DistributedDataParallel):
        group = model.process_group
    if group is None:
        return None
    if group.size() > 1 and not optimizer.DATA_PARALLEL:
        raise ValueError(
            f"{type(optimizer).__name__} takes its steps in one process: SAM, ASAM, GSAM, SAGM, LookSAM and RoGA can "
            "take them with others"
        )
    found = Replicas(group, ascent, model)
    found.start_alike(params, model)
    return found


def require_known_ranks(optimizer: Any) -> None:
    """Refuse a step where several processes train and nothing says how they belong together.

    Raises:
        ValueError: in that case.
    """
    distributed = torch.distributed
    if (
        not distributed.is_available()
        or not distributed.is_initialized()
        or distributed.get_world_size() == 1
    ):
        return
    name, n = type(optimizer).__name__, distributed.get_world_size()
    raise ValueError(
        f"torch.distributed has {n} processes that {name} does not know: "
        "their weights would part. Pass model=, as wrapped in DistributedDataParallel, or process_group=; for "
        "training apart, process_group=torch.distributed.new_group([rank], use_local_synchronization=True)"
    )


def _refuse_split_models(model: nn.Module | None, params: list[Tensor]) -> None:
    kinds = {type(module).__name__ for module in (() if model is None else model.modules())}
    kinds |= {type(p).__name__ for p in params}
    if kinds & {"FullyShardedDataParallel", "DTensor", "FlatParameter"}:
        name = "FSDP"
    elif "DeepSpeedEngine" in kinds or any(hasattr(p, "ds_id") for p in params):
        name = "DeepSpeed"
    else:
        return
    raise ValueError(
        f"the parameters are split over ranks by {name}: an ascent point needs them whole. Use DistributedDataParallel"
    )
