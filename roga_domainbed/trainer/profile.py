"""Where the time of a run goes: ``train --profile``."""

from __future__ import annotations

import contextlib
import resource
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

SECTIONS = ("data", "first pass", "perturb", "second pass", "optimizer", "evaluation", "other")


class Profile:
    """Splits wall time into ``SECTIONS``; does nothing unless ``enabled``.

    A pass is a network's forward call to the end of the backward pass after it; it is a second pass if the weights are
    not those that the step began with. What follows a backward pass is the perturbation or its undoing. A GPU is
    waited for at every border, so a profiled run is slower there than another.
    """

    def __init__(self, enabled: bool, device: torch.device):
        self.enabled, self._device = enabled, device
        self.seconds: dict[str, float] = defaultdict(float)
        self.steps = 0
        self._section, self._since = "other", time.perf_counter()

    def enter(self, section: str) -> None:
        """From now on time belongs to ``section``."""
        if not self.enabled:
            return
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        now = time.perf_counter()
        self.seconds[self._section] += now - self._since
        self._section, self._since = section, now

    @contextlib.contextmanager
    def section(self, name: str) -> Iterator[None]:
        """Inside, time belongs to ``name``; after, to ``other``."""
        self.enter(name)
        try:
            yield
        finally:
            self.enter("other")

    @contextlib.contextmanager
    def update(self, algorithm: nn.Module) -> Iterator[None]:
        """Inside, a step of ``algorithm`` is taken and its parts are told apart."""
        if not self.enabled:
            yield
            return
        self.steps += 1
        self.enter("other")
        watched = _watched(algorithm)
        before = [p.detach().clone() for p in watched]
        depth = 0

        def forward_begins(*_: Any) -> None:
            nonlocal depth
            depth += 1
            if depth == 1:
                same = all(map(torch.equal, watched, before))
                self.enter("first pass" if same else "second pass")

        def forward_ends(*_: Any) -> None:
            nonlocal depth
            depth -= 1

        hooks = [
            register_module_forward_pre_hook(forward_begins),
            register_module_forward_hook(forward_ends, always_call=True),
            register_optimizer_step_pre_hook(lambda *_: self.enter("optimizer")),
            register_optimizer_step_post_hook(lambda *_: self.enter("other")),
        ]
        try:
            with _after_backward(lambda: self.enter("perturb")):
                yield
        finally:
            for hook in hooks:
                hook.remove()
            self.enter("other")

    def report(self) -> str:
        """The table: seconds, share, and milliseconds a step where the section is part of one."""
        self.enter("other")
        seconds = dict(self.seconds)
        if not seconds.get("second pass"):  # an algorithm without one has only gaps between its parts there
            seconds["other"] = seconds.get("other", 0.0) + seconds.pop("perturb", 0.0)
        total = sum(seconds.values())
        lines = [f"{'section':<12} {'seconds':>8} {'share':>6} {'ms a step':>10}"]
        for name in SECTIONS:
            if name not in seconds:
                continue
            each = "" if name == "evaluation" else f"{1000 * seconds[name] / max(self.steps, 1):10.1f}"
            lines.append(f"{name:<12} {seconds[name]:8.2f} {seconds[name] / total:6.1%} {each:>10}")
        lines.append(f"{'all':<12} {total:8.2f}   of {self.steps} steps; {peak_memory(self._device)}")
        return "\n".join(lines)


def _watched(algorithm: nn.Module) -> list[nn.Parameter]:
    """Parameters that tell whether the weights have moved.

    The smallest costs least. Where only the last block is perturbed it may stay where it is; the last of those that are
    trained does not.
    """
    trained = [p for p in algorithm.parameters() if p.requires_grad] or list(algorithm.parameters())
    return [min(trained, key=lambda p: p.numel()), trained[-1]]


def peak_memory(device: torch.device) -> str:
    """The most memory that the process had, and that it had on its GPU."""
    text = f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB"
    if device.type == "cuda":
        text += f", on the GPU {torch.cuda.max_memory_allocated(device) / 2**30:.2f} GiB"
    return text


@contextlib.contextmanager
def _after_backward(call: Callable[[], None]) -> Iterator[None]:
    """Inside, ``call`` after every backward pass."""
    originals = torch.autograd.backward, torch.autograd.grad

    def then(original: Callable) -> Callable:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            call()
            return result

        return wrapper

    torch.autograd.backward, torch.autograd.grad = map(then, originals)
    try:
        yield
    finally:
        torch.autograd.backward, torch.autograd.grad = originals
