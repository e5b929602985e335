"""The base optimizer: what takes the step of an algorithm, made from its hyper-parameters here and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from roga_domainbed.catalog.shared_hparams import OPTIMIZER_HPARAMS

_CLASSES = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
_DEFAULTS = {spec.name: spec.default for spec in OPTIMIZER_HPARAMS}


def base_optimizer(
    params: Any,
    hparams: Mapping[str, Any],
    *,
    side: str = "",
    betas: tuple[float, float] | None = None,
) -> torch.optim.Optimizer:
    """A new optimizer of ``params``, with the class and the arguments of ``base_class_and_kwargs``."""
    cls, kwargs = base_class_and_kwargs(hparams, side=side, betas=betas)
    return cls(params, **kwargs)


def base_class_and_kwargs(
    hparams: Mapping[str, Any], *, side: str = "", betas: tuple[float, float] | None = None
) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
    """Torch's class and its keyword arguments; what they do not name keeps torch's default.

    Args:
        hparams: ``optimizer`` and ``momentum`` are Adam's and 0.9 where they are missing, as in models that an
            earlier version saved. The weight decay of ``adamw`` is decoupled from the gradient (arXiv:1711.05101),
            that of ``adam`` and ``sgd`` is L2.
        side: what follows ``lr`` and ``weight_decay`` in the names of an algorithm with several of them, such as
            ``"_g"``.
        betas: of ``adam`` and ``adamw``; None for torch's. ``sgd`` has ``momentum`` instead.
    """
    name = hparams.get("optimizer", _DEFAULTS["optimizer"])
    kwargs = {"lr": hparams[f"lr{side}"], "weight_decay": hparams[f"weight_decay{side}"]}
    if name == "sgd":
        kwargs["momentum"] = hparams.get("momentum", _DEFAULTS["momentum"])
    elif betas is not None:
        kwargs["betas"] = betas
    return _CLASSES[name], kwargs


def other_optimizers(algorithm: nn.Module, hparams: Mapping[str, Any]) -> list[str]:
    """Class names of the optimizers among the attributes of ``algorithm`` that are not the one ``hparams`` name.

    Empty where ``optimizer`` is not among them. A class from elsewhere may make its optimizer itself. The attributes
    in its ``FIXED_OPTIMIZERS`` may be of any class.
    """
    if "optimizer" not in hparams:
        return []
    fixed = getattr(algorithm, "FIXED_OPTIMIZERS", ())
    named = {name: value for name, value in vars(algorithm).items() if name not in fixed}
    found = [value for value in named.values() if isinstance(value, torch.optim.Optimizer)]
    classes = [type(getattr(optimizer, "base_optimizer", optimizer)) for optimizer in found]
    return sorted({cls.__name__ for cls in classes if cls is not _CLASSES[hparams["optimizer"]]})
