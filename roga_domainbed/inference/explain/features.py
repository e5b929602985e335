"""The features that a classifier sees, of a batch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from roga_domainbed.engine.lib.misc import evaluation_mode
from roga_domainbed.errors import RogaError
from roga_domainbed.inference.saved_run import SavedRun


@contextlib.contextmanager
def features(run: SavedRun) -> Iterator[Callable[[Tensor], tuple[Tensor, Tensor]]]:
    """Inside, a function from (B, *input_shape) inputs to (B, F) features and (B, logits), float32 on the CPU.

    The features are the output of the algorithm's ``featurizer``; where ``predict`` does not run one, as Fish and ERM++
    do not, the input of the last linear layer that it runs. Dropout is off.

    Raises:
        RogaError: inside, ``predict`` runs neither.
    """
    algorithm = run.algorithm
    of_featurizer: list[Tensor] = []
    before_linear: list[Tensor] = []

    def note(module: nn.Module, args: Any) -> None:
        before_linear.append(args[0])

    linear = [module for module in algorithm.modules() if isinstance(module, nn.Linear)]
    handles = [module.register_forward_pre_hook(note) for module in linear]
    featurizer = getattr(algorithm, "featurizer", None)
    if isinstance(featurizer, nn.Module):
        handles.append(
            featurizer.register_forward_hook(lambda module, args, output: of_featurizer.append(output))
        )

    def compute(x: Tensor) -> tuple[Tensor, Tensor]:
        of_featurizer.clear()
        before_linear.clear()
        with run.autocast():
            logits = algorithm.predict(x)
        seen = of_featurizer or before_linear
        if not seen or len(seen[-1]) != len(x):
            name = run.args.get("algorithm")
            raise RogaError(f"{name} has no features: its predict runs no featurizer and no linear layer")
        return seen[-1].float().reshape(len(x), -1).cpu(), logits.float().reshape(len(x), -1).cpu()

    try:
        with torch.inference_mode(), evaluation_mode(algorithm):
            yield compute
    finally:
        for handle in handles:
            handle.remove()
