"""How a step computes: number format, memory layout, fused optimizers, compilation."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

from roga_domainbed.catalog import ALGORITHMS
from roga_domainbed.errors import RogaError

#: Optimizers of torch that can take a step in one kernel; on a processor since torch 2.4.
_FUSABLE = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)
_FUSED_ON_CPU = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 4)


def resolve_precision(name: str, device: torch.device) -> str:
    """``fp32`` or ``bf16`` for ``auto``: bf16 on GPUs that compute in it, fp32 elsewhere."""
    if name != "auto":
        return name
    return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"


def autocast(precision: str, device: torch.device) -> AbstractContextManager:
    """Inside, matrix products and convolutions compute in ``precision``; weights and optimizer stay float32.

    bf16 has float32's range, so no loss is scaled and a perturbation's norm needs no unscaling.
    """
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def prepare(algorithm: nn.Module, precision: str, device: torch.device, compiled: bool) -> None:
    """Lay out, fuse and compile a new algorithm, in place, before its first step.

    Raises:
        RogaError: ``compiled`` and the algorithm has no ``network`` to compile, or a processor no C++ compiler.
    """
    lay_out(algorithm, precision, device)
    fuse_optimizers(algorithm, device)
    if compiled:
        network = getattr(algorithm, "network", None)
        if not isinstance(network, nn.Module):
            raise RogaError(
                f"--compile: {type(algorithm).__name__} has no attribute 'network' to compile; leave it out"
            )
        if device.type == "cpu":
            _require_cpp_compiler()
        network.compile()  # in place: the names in its state stay


def _require_cpp_compiler() -> None:
    # The one that torch will look for.
    name = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(name) is None:
        raise RogaError(
            f"--compile needs a C++ compiler on a processor, and there is no {name!r} here: install one, name it in "
            "the variable CXX, or leave --compile out"
        )


def lay_out(algorithm: nn.Module, precision: str, device: torch.device) -> None:
    """Put the weights into the memory layout that is fastest on ``device``; layouts differ in the last digits of sums.

    Tensor cores read channels-last without a copy, and on a processor convolution, norm and pooling all gain from it.
    Another package's algorithm keeps its layout: it may take ``view(-1)`` of a gradient, which this one does not allow.
    """
    if _is_known(type(algorithm)) and (device.type == "cpu" or precision == "bf16"):
        algorithm.to(memory_format=torch.channels_last)


def _is_known(algorithm: type) -> bool:
    package = algorithm.__module__.partition(".")[0]
    return package in ("roga_domainbed", "domainbed") and algorithm.__name__ in ALGORITHMS


def fuse_optimizers(algorithm: Any, device: torch.device) -> None:
    """Let torch's own optimizers among the attributes of ``algorithm`` step in one kernel, where they can.

    Only optimizers that have not stepped, and for which nobody chose ``foreach`` or ``fused``, are changed.
    """
    if device.type == "cpu" and not _FUSED_ON_CPU:
        return
    for optimizer in vars(algorithm).values():
        if type(optimizer) not in _FUSABLE or optimizer.state:
            continue
        for group in optimizer.param_groups:
            asked = group.get("foreach") is not None or group.get("fused") is not None
            if not asked and not group["differentiable"] and not isinstance(group["lr"], torch.Tensor):
                group["fused"] = all(p.is_floating_point() and p.device == device for p in group["params"])
