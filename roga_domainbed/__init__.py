"""RoGA and its family, the deepfake datasets and their metrics, as a DomainBed plugin.

Importing the package does nothing: no torch, no environment variables, no devices.

    >>> import roga_domainbed
    >>> model = roga_domainbed.load("runs/roga")  # doctest: +SKIP
    >>> model.predict(["crop.png", "other crop.png"])  # doctest: +SKIP
    array([0.97..., 0.12...])
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from roga_domainbed.inference.loaded_model import LoadedModel

__version__ = "0.1.0"


def load(run: str | os.PathLike, device: str | torch.device | None = None) -> LoadedModel:
    """A trained model that takes images: ``load("runs/roga").predict(images)``.

    Args:
        run: the output folder of a training, or a model file such as ``model_step300.pkl``.
        device: where it computes, such as ``"cpu"`` or ``"cuda:1"``; None for the GPU if there is one.

    Raises:
        RogaError: no such run or device, or a model that cannot be loaded (``roga_domainbed.errors`` has the class).
    """
    from roga_domainbed.inference.loaded_model import load_model

    return load_model(run, device)
