"""Torch's random state around the passes of a step: replayed, or seeded for each domain and pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from roga_domainbed.seeds import derive


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

    def reseed(self, seed: int) -> None:
        """Seed the same generators with ``seed``."""
        # Not torch.manual_seed: without CUDA that formats a stack trace at every call.
        torch.default_generator.manual_seed(seed)
        for index in self._devices:
            torch.cuda.default_generators[index].manual_seed(seed)


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


class Streams:
    """The random numbers of a step as a function of (domain, pass): nothing depends on the order of the passes.

    One number is drawn from torch's CPU generator, and every pass is seeded from it. So processes that share a
    step's domains draw what one process would have drawn, as long as their generators stood alike before the step.
    """

    def __init__(self, params: list[torch.Tensor]):
        self._base = int(torch.randint(2**63 - 1, ()).item())
        self._after = RandomState(params)

    @contextmanager
    def of(self, domain: int, number: int) -> Iterator[None]:
        """Inside, the draws of pass ``number`` of ``domain``; afterwards as if nothing had been drawn."""
        self._after.reseed(derive(self._base, "pass", domain, number))
        try:
            yield
        finally:
            self._after.set()
