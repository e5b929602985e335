"""What made a run: versions, backend, machine. Printed at the start and kept in the first record."""

from __future__ import annotations

import platform
from typing import Any

import numpy
import PIL
import torch
import torchvision

from roga_domainbed import __version__
from roga_domainbed.host import checkout
from roga_domainbed.host.backend import Host


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


def provenance(
    host: Host,
    split: str,
    device: torch.device,
    environments: list[str],
    audit: dict[str, Any] | None,
    how: dict[str, Any],
) -> dict[str, Any]:
    """What the first record of a run says about where its numbers come from.

    Args:
        host: the DomainBed in use.
        split: the split mode that was carried out.
        device: where the run computes.
        environments: names of the environments, in index order.
        audit: what training, selection and test have in common; None for data without a manifest.
        how: further entries: how images are read and numbers computed.
    """
    return {
        "roga_domainbed": __version__,
        "backend": host.name,
        "backend_commit": None if host.home is None else checkout.commit(host.home),
        "split": split,
        "audit": audit,
        **how,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "torch_threads": torch.get_num_threads(),
        "environments": environments,
        "versions": environment_versions(),
    }
