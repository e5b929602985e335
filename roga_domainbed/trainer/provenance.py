"""What made a run: versions, backend, machine. Printed at the start and kept in the first record."""

from __future__ import annotations

import platform
import subprocess
from typing import Any

import numpy
import PIL
import torch
import torchvision

from roga_domainbed import __version__
from roga_domainbed.backend import Host


def environment_versions() -> dict[str, str]:
    """The seven versions that upstream prints, by the names it prints them under."""
    return {
        "Python": platform.python_version(),
        "PyTorch": torch.__version__,
        "Torchvision": torchvision.__version__,
        "CUDA": str(torch.version.cuda),
        "CUDNN": str(torch.backends.cudnn.version()),
        "NumPy": numpy.__version__,
        "PIL": PIL.__version__,
    }


def provenance(host: Host, split: str, device: torch.device, environments: list[str]) -> dict[str, Any]:
    """What the first record of a run says about where its numbers come from.

    Args:
        host: the DomainBed in use.
        split: the split mode that was carried out.
        device: where the run computes.
        environments: names of the environments, in index order.
    """
    return {
        "roga_domainbed": __version__,
        "backend": host.name,
        "backend_commit": _commit(host),
        "split": split,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "torch_threads": torch.get_num_threads(),
        "environments": environments,
        "versions": environment_versions(),
    }


def _commit(host: Host) -> str | None:
    if host.home is None:
        return None
    command = ["git", "-C", str(host.home), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None  # an unpacked archive has no commit; the record says so
