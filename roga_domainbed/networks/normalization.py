"""A backbone that sees colours with the mean and standard deviation that its weights were trained with.

Datasets normalize images in one way for every network: face crops to ±1, image folders as ImageNet's networks have it.
``hparams['normalize']`` ``backbone`` turns that into the way of the weights, by one constant affine map in front of
the network. It is part of the model, so whatever a model is used for gets it.

    y = (x·σ + μ − μ') / σ' = x·(σ/σ') + (μ − μ')/σ'        μ, σ of the dataset, μ', σ' of the weights
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from roga_domainbed.errors import RogaError
from roga_domainbed.networks.layouts import Statistics

_COLOURS = 3  # further channels, such as ARM's context and SPSL's phase, are no colours


class Renormalized(nn.Module):
    """``network`` on images that are normalized anew.

    ``scale`` and ``shift`` are buffers, so a model's file has them. They are NaN until ``fit`` or a file sets them.

    Args:
        network: a featurizer.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network, self.n_outputs = network, network.n_outputs
        self.activation = nn.Identity()  # the slot that some DomainBed algorithms replace
        for name in ("scale", "shift"):
            self.register_buffer(name, torch.full((_COLOURS, 1, 1), torch.nan))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), C at least 3 → (B, n_outputs)."""
        colours = x[:, :_COLOURS] * self.scale + self.shift
        rest = x[:, _COLOURS:]
        return self.activation(self.network(torch.cat([colours, rest], dim=1) if rest.shape[1] else colours))


def with_normalization(
    build: Callable[[tuple[int, ...], dict[str, Any]], nn.Module],
    input_shape: tuple[int, ...],
    hparams: dict[str, Any],
) -> nn.Module:
    """What ``build`` makes, ``Renormalized`` where ``hparams['normalize']`` is ``backbone``.

    Args:
        build: (input_shape, hparams) → a module with ``n_outputs``.
        input_shape: of a sample.
        hparams: the run's.
    """
    network = build(input_shape, hparams)
    return Renormalized(network) if hparams.get("normalize") == "backbone" else network


def fit(
    algorithm: nn.Module, dataset: str, input_shape: tuple[int, ...], statistics: Statistics | None
) -> str:
    """Set the map of every ``Renormalized`` in ``algorithm``, before its first step.

    Args:
        algorithm: a new one, whose ``hparams['normalize']`` is ``backbone``.
        dataset: its name, for messages.
        input_shape: of a sample.
        statistics: mean and standard deviation by which the dataset normalizes; None if only its own code knows.

    Returns:
        A sentence that says what was set.

    Raises:
        RogaError: it is not known how the dataset or the weights are normalized, or there is no backbone.
    """
    if statistics is None or len(input_shape) != 3 or input_shape[0] != _COLOURS:
        raise RogaError(
            f"hparam 'normalize' 'backbone' is for colour images whose normalization is known, and that of {dataset} "
            "is not: leave it out"
        )
    found = [module for module in algorithm.modules() if isinstance(module, Renormalized)]
    wanted = {_statistics_of_weights(module.network) for module in found}
    if len(wanted) != 1 or None in wanted:
        raise RogaError(
            "hparam 'normalize' 'backbone' is for a backbone whose first weights were trained on images normalized in "
            f"a known way, and those of this {type(algorithm).__name__} were not: leave it out, or start from timm's "
            "or DeepfakeBench's weights"
        )
    ((new_mean, new_std),) = wanted
    for module in found:
        # in float64, so that equal statistics give exactly 1 and 0
        for channel, (m, s, new_m, new_s) in enumerate(zip(*statistics, new_mean, new_std, strict=True)):
            module.scale[channel] = s / new_s
            module.shift[channel] = (m - new_m) / new_s
    mean, std = statistics
    return (
        f"colours reach the backbone with mean {_listed(new_mean)} and standard deviation {_listed(new_std)} "
        f"subtracted and divided by, as its weights know them; {dataset} has {_listed(mean)} and {_listed(std)}"
    )


def _statistics_of_weights(network: nn.Module) -> Statistics | None:
    """What ``weights`` or ``pretrained`` noted on the network that they gave weights to."""
    found = (getattr(module, "weights_statistics", None) for module in network.modules())
    return next((statistics for statistics in found if statistics is not None), None)


def _listed(values: tuple[float, ...]) -> str:
    return "/".join(f"{value:g}" for value in (values if len(set(values)) > 1 else values[:1]))
