"""Which GPUs this process may use, without importing torch."""

from __future__ import annotations

import os
import subprocess

from roga_domainbed.errors import RogaError


def visible_gpus() -> list[str]:
    """Values for ``CUDA_VISIBLE_DEVICES``, one a GPU.

    Those of that variable if it is set, else the indices of what ``nvidia-smi -L`` lists; none if there are none.
    """
    return _found()[0]


def required_gpus() -> list[str]:
    """``visible_gpus()``.

    Raises:
        RogaError: if there is none.
    """
    gpus, reason = _found()
    if not gpus:
        raise RogaError(f"no GPU for the launcher 'multi_gpu': {reason}. Use --command_launcher local")
    return gpus


def _found() -> tuple[list[str], str]:
    """The GPUs, and the reason if there are none."""
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is not None:
        gpus = [gpu.strip() for gpu in wanted.split(",") if gpu.strip()]
        if "-1" in gpus:  # CUDA ignores everything from the first invalid entry on
            gpus = gpus[: gpus.index("-1")]
        reason = f"CUDA_VISIBLE_DEVICES is {wanted!r}"
    else:
        listed, reason = _list_gpus()
        gpus = [str(index) for index in range(listed)]
    return gpus, reason


def _list_gpus() -> tuple[int, str]:
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        return 0, f"nvidia-smi -L: {error}"
    lines = [line for line in done.stdout.splitlines() if line.startswith("GPU ")]
    return len(lines), f"nvidia-smi -L lists none (exit code {done.returncode})"
