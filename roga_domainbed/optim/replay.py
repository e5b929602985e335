"""The same dropout mask in both passes of a step: the random state of the first pass, replayed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


class RandomState:
    """The state of torch's generators on the CPU and on the devices of ``params``."""

    def __init__(self, params: list[torch.Tensor]):
        self._devices = sorted({p.device.index for p in params if p.device.type == "cuda"})
        self._cpu = torch.get_rng_state()
        self._cuda = [torch.cuda.get_rng_state(index) for index in self._devices]

    def set(self) -> None:
        """Make this the current state."""
        torch.set_rng_state(self._cpu)
        for index, state in zip(self._devices, self._cuda, strict=True):
            torch.cuda.set_rng_state(state, index)


@contextmanager
def replayed(state: RandomState | None, params: list[torch.Tensor]) -> Iterator[None]:
    """Inside, torch draws what it drew from ``state`` on; afterwards it goes on as if nothing had been drawn.

    With ``state`` None nothing is replayed and the pass draws on.
    """
    if state is None:
        yield
        return
    now = RandomState(params)
    state.set()
    try:
        yield
    finally:
        now.set()
