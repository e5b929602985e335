"""The featurizers that ``hparams['frequency']`` chooses: a backbone that sees frequencies beside colours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from roga_domainbed.errors import RogaError, unknown_name
from roga_domainbed.networks.phase import PhaseFeaturizer
from roga_domainbed.networks.srm import ResidualFeaturizer

_STREAMS = {"phase": PhaseFeaturizer, "srm": ResidualFeaturizer}


def with_frequency(
    build: Callable[[tuple[int, ...], dict[str, Any]], nn.Module],
    input_shape: tuple[int, ...],
    hparams: dict[str, Any],
) -> nn.Module:
    """What ``build`` makes, with the stream of ``hparams['frequency']``; alone where that is ``none`` or not there.

    Args:
        build: (input_shape, hparams) → a module with ``n_outputs``.
        input_shape: of a sample.
        hparams: the run's.

    Raises:
        RogaError: an unknown stream, or samples that are no images.
    """
    name = hparams.get("frequency", "none")
    if name == "none":
        return build(input_shape, hparams)
    if name not in _STREAMS:
        raise RogaError(unknown_name("hparam 'frequency'", str(name), ["none", *_STREAMS]))
    if len(input_shape) != 3:
        raise RogaError(
            f"hparam 'frequency' {name!r} is for images, and samples have the shape {tuple(input_shape)}: leave it out"
        )
    return _STREAMS[name](build, input_shape, hparams)
