"""Where the time of a step goes: ``train --profile``, with torch's profiler and named ranges."""

from __future__ import annotations

import resource
from pathlib import Path

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity

from roga_domainbed.launch.folders import TRACE
from roga_domainbed.results.text_table import text_table

#: What the trainer and the optimizers mark with ``record_function``: a step with what follows it, parts of that, and
#: parts of ``update``.
RANGES = ("step", "data", "update", "evaluation", "checkpoint")
RANGES += ("first pass", "perturb", "second pass", "optimizer step")

_STEPS = 10  # a trace of more is slow to open


class Profile:
    """Inside this context, profiles ``_STEPS`` steps, prints the table and writes the trace; or does nothing.

    The first step is left out if there are others: memory is reserved and kernels are chosen in it.

    Args:
        enabled: whether to profile.
        folder: of the run, for the trace.
        n_steps: steps that are left.
        device: where the run computes.
    """

    def __init__(self, enabled: bool, folder: Path, n_steps: int, device: torch.device):
        self._trace, self._device, self._profiler = folder / TRACE, device, None
        if not enabled:
            return
        activities = [ProfilerActivity.CPU]
        if device.type == "cuda":
            activities.append(ProfilerActivity.CUDA)
        schedule = torch.profiler.schedule(wait=0, warmup=1, active=_STEPS, repeat=1) if n_steps > 1 else None
        self._profiler = torch.profiler.profile(
            activities=activities, schedule=schedule, on_trace_ready=self._finish
        )

    def __enter__(self) -> Profile:
        if self._profiler is not None:
            self._profiler.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._profiler is not None:
            self._profiler.stop()

    def step(self) -> None:
        """A step of the run has ended."""
        if self._profiler is not None:
            self._profiler.step()

    def _finish(self, profiler: torch.profiler.profile) -> None:
        profiler.export_chrome_trace(str(self._trace))
        print(f"\n{self._table(profiler)}\nTrace: {self._trace}; https://ui.perfetto.dev opens it.\n")

    def _table(self, profiler: torch.profiler.profile) -> str:
        on_gpu = self._device.type == "cuda"
        events = profiler.key_averages()
        cpu = {event.key: event for event in events if event.device_type == DeviceType.CPU}
        gpu = {event.key: event for event in events if event.device_type == DeviceType.CUDA}
        n_steps, total = cpu["step"].count, cpu["step"].cpu_time_total
        rows = [["range", "calls", "ms a step", "share", *["GPU ms a step"] * on_gpu]]
        ranges = sorted(
            (cpu[name] for name in RANGES if name in cpu), key=lambda event: -event.cpu_time_total
        )
        for event in ranges:
            ms = event.cpu_time_total / 1000 / n_steps
            row = [event.key, str(event.count), f"{ms:.1f}", f"{event.cpu_time_total / total:.1%}"]
            if on_gpu:
                there = gpu.get(event.key)
                row.append("" if there is None else f"{there.device_time_total / 1000 / n_steps:.1f}")
            rows.append(row)
        return f"{text_table(rows)}of {n_steps} steps; {peak_memory(self._device)}"


def peak_memory(device: torch.device) -> str:
    """The most memory that the process had, and that it had on its GPU."""
    text = f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB"
    if device.type == "cuda":
        text += f", on the GPU {torch.cuda.max_memory_allocated(device) / 2**30:.2f} GiB"
    return text
