"""Where heat maps are taken: the last feature map of a network, found by looking at one forward pass."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from roga_domainbed.engine.lib.misc import evaluation_mode
from roga_domainbed.errors import RogaError
from roga_domainbed.inference.saved_run import SavedRun


@dataclass(frozen=True)
class FeatureMap:
    """A module whose output is a feature map.

    Attributes:
        name: of the module in the algorithm, such as ``featurizer.network.layer4``.
        module: gives (B, channels, height, width).
        height: of its output for the run's input.
        width: of the same.
    """

    name: str
    module: nn.Module
    height: int
    width: int


@dataclass(eq=False)
class _Call:
    """One module's call: ``version`` tells whether its output was overwritten afterwards."""

    name: str
    module: nn.Module
    output: Tensor
    version: int

    @property
    def n_positions(self) -> int:
        """Positions in space of the output, the channels at index 1; 1 for pooled features."""
        return self.output.shape[2:].numel()


@torch.enable_grad()  # also for callers that have switched gradients off
def last_feature_map(run: SavedRun) -> FeatureMap:
    """The last map that the run's logits are made from, before it is pooled.

    Selvaraju et al. (arXiv:1610.02391) take the output of the last convolutional layer. The last convolution is looked
    for among those whose output has more than one position: the gates of squeeze-and-excitation, and layers behind
    the global pooling, have one. Norm, activation and residual sum behind it keep its size, so the map is the output of
    the last module of that size: ``layer4`` of a ResNet, the last norm of Meso-4, in front of its pooling.

    Raises:
        RogaError: the network has no such map, or works on it further as tokens, as vision transformers do.
    """
    if len(run.input_shape) != 3:
        raise _refusal(run, f"takes inputs of shape {run.input_shape}, which are no images")
    algorithm = run.algorithm
    with _recorded(algorithm) as calls, evaluation_mode(algorithm):
        x = torch.zeros(1, *run.input_shape, device=run.device, requires_grad=True)
        logits = algorithm.predict(x).reshape(1, -1)
    convolutions = [
        call
        for call in calls
        if isinstance(call.module, nn.Conv2d) and _is_map(call) and call.n_positions > 1
    ]
    if not convolutions:
        raise _refusal(run, "has no convolution whose output has more than one position")
    size = convolutions[-1].output.shape[2:]
    n_calls: dict[int, int] = {}
    for call in calls:
        n_calls[id(call.module)] = n_calls.get(id(call.module), 0) + 1
    candidates = [
        call
        for call in calls
        # A module that runs twice would have two maps. One that is overwritten has the gradient of the new values.
        if n_calls[id(call.module)] == 1
        and _is_map(call)
        and call.output.shape[2:] == size
        and call.output._version == call.version
        and call.output.requires_grad
    ]
    used = _used(logits, candidates)
    if not used:
        raise _refusal(run, "has no single feature map that its logits are made from")
    found = used[-1]
    behind = [
        call
        for call in calls[calls.index(found) + 1 :]
        if _has_weights(call.module) and call.output.dim() > 2 and call.n_positions > 1
    ]
    if _used(logits, behind):
        raise _refusal(
            run, f"goes on with tokens behind its last feature map ({found.name}), as vision transformers do"
        )
    return FeatureMap(found.name, found.module, *map(int, size))


def _used(logits: Tensor, calls: Sequence[_Call]) -> list[_Call]:
    """The calls whose output the (1, C) logits are made from."""
    outputs = [call.output for call in calls]
    if not outputs:
        return []
    gradients = torch.autograd.grad(logits[0, -1], outputs, retain_graph=True, allow_unused=True)
    return [call for call, gradient in zip(calls, gradients, strict=True) if gradient is not None]


def _refusal(run: SavedRun, why: str) -> RogaError:
    network = run.hparams.get("backbone") or f"the network of {run.args.get('algorithm')}"
    return RogaError(
        f"heat maps need a feature map in front of the classifier, and {network} {why}. "
        "Explain a run with a convolutional backbone; 'explain tsne' takes any"
    )


def _is_map(call: _Call) -> bool:
    return call.output.dim() == 4


def _has_weights(module: nn.Module) -> bool:
    return any(True for _ in module.parameters(recurse=False))


@contextlib.contextmanager
def _recorded(network: nn.Module) -> Iterator[list[_Call]]:
    """Inside, every call of a module of ``network`` that gives a tensor is noted, in the order in which they end."""
    calls: list[_Call] = []

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                calls.append(_Call(name, module, output, output._version))

        return hook

    handles = [module.register_forward_hook(note(name)) for name, module in network.named_modules() if name]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()
