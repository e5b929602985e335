"""The first weights of a network from a file, ``.pth`` or ``.safetensors``, of whatever tool wrote it."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import torch
from torch import nn

from roga_domainbed.errors import RogaError, first_line, is_out_of_memory, shortened
from roga_domainbed.foreign import check_regular, load_tensors
from roga_domainbed.networks.layouts import in_our_names

#: Layers after the features, by the names that timm, torchvision, Cadene's models and DeepfakeBench give them.
_HEADS = ("fc", "_fc", "fc2", "classifier", "head", "last_linear", "last_layer", "adjust_channel")


def load_weights(model: nn.Module, name: str, path: str) -> None:
    """Load ``path`` into ``model``: every weight that it has, in its shape, or none.

    The names in the file may have a prefix, such as ``module.`` or ``backbone.``, or be those of a layout that
    ``layouts`` knows. Layers after the features are left out, and so is what stands beside the prefix.

    Args:
        model: gets the weights, and says so from then on (see ``first_weights``). It also notes, as
            ``weights_statistics``, the mean and standard deviation that images had when they were trained, if that is
            known: a layout's, else those of timm's weights of that network.
        name: of the network, for messages.
        path: of the file.

    Raises:
        RogaError: the file is missing or unreadable, has the network more than once, or is another network's: then
            the message counts what fits and names what does not.
    """
    wanted = model.state_dict()
    state, layout, statistics = in_our_names(_state_in(path), wanted, name, path)
    state, beside = _beneath(_prefix(state, wanted, path), state)
    config = getattr(model, "default_cfg", {})
    of_timm = config.get("classifier") or ()
    heads = tuple(f"{part}." for part in (*_HEADS, *((of_timm,) if isinstance(of_timm, str) else of_timm)))
    left_out = [key for key in state if key not in wanted and key.startswith(heads)]
    for key in left_out:
        del state[key]
    _adapt_channels(state, wanted, config.get("first_conv") or ())
    _adapt_matrices(state, wanted)
    _require_fit(state, wanted, name, path)
    model.load_state_dict(state, strict=False)
    if statistics is None and "mean" in config:
        statistics = tuple(config["mean"]), tuple(config["std"])
    model.weights_statistics = statistics
    left_out += beside
    model.first_weights = (
        f"{name} starts from {path!r}{layout}: all of its {len(state)} tensors fit"
        + (f", left out: {shortened(left_out)}" if left_out else "")
        + "; what they were trained on is not audited"
    )


def first_weights(model: nn.Module) -> list[str]:
    """A sentence for each network in ``model`` that started from somebody's weights."""
    found = (getattr(module, "first_weights", None) for module in model.modules())
    return list(dict.fromkeys(sentence for sentence in found if sentence))


def _prefix(state: dict[str, Any], wanted: dict[str, Any], path: str) -> str:
    """What stands before the names in ``wanted`` most often."""
    found: Counter[str] = Counter()
    for key in state:
        parts = key.split(".")
        for i in range(len(parts)):
            if ".".join(parts[i:]) in wanted:
                found["".join(f"{part}." for part in parts[:i])] += 1
    if not found:
        return ""
    # A layer deep in a network may be named like the first one: the prefix of the whole has more names.
    most = max(found.values())
    first, *others = (prefix for prefix, n in found.items() if n == most)
    # DomainBed saves the same weights twice, as ``featurizer.`` and as ``network.0.``.
    other = next((other for other in others if not _are_equal(first, other, state, wanted)), None)
    if other is not None and most >= sum(not _is_counter(key) for key in wanted):
        raise RogaError(
            f"hparams 'weights': {path!r} has this network more than once, as {first + '*'!r} and as {other + '*'!r}: "
            "save the one that you mean to a file of its own"
        )
    return first


def _are_equal(first: str, other: str, state: dict[str, Any], wanted: dict[str, Any]) -> bool:
    pairs = ((state.get(first + key), state.get(other + key)) for key in wanted)
    return all(a is b or (a is not None and b is not None and torch.equal(a, b)) for a, b in pairs)


def _beneath(prefix: str, state: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The part of ``state`` with that prefix, without it; and the names of the rest."""
    inside = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
    return inside, [key for key in state if not key.startswith(prefix)]


def _is_counter(key: str) -> bool:
    """Whether it is a batch norm's counter, which files from before 2018 lack and nothing of ours reads."""
    return key.endswith("num_batches_tracked")


def _require_fit(state: dict[str, Any], wanted: dict[str, Any], name: str, path: str) -> None:
    # timm says nothing when ResNet-34's file is loaded into ResNet-18, so the names are compared here.
    missing = [key for key in wanted if key not in state and not _is_counter(key)]
    left_over = [key for key in state if key not in wanted]
    other_shape = [key for key in wanted if key in state and state[key].shape != wanted[key].shape]
    shapes = [f"{key} ({_shape(state[key])}, not {_shape(wanted[key])})" for key in other_shape]
    faults = [
        f"it {what} {', '.join(keys[:3])}" + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
        for what, keys in (("lacks", missing), ("also has", left_over), ("has in another shape", shapes))
        if keys
    ]
    if faults:
        n_fitting = sum(key in state for key in wanted) - len(other_shape)
        raise RogaError(
            f"hparams 'weights': {path!r} is not for {name}: {'; '.join(faults)}; {n_fitting} of {len(wanted)} tensors "
            "fit. Set hparams 'backbone' to the network that the file is of, or give a file of this one"
        )
    odd = [key for key in wanted if key in state and not _is_like(state[key], wanted[key])]
    if odd:
        raise RogaError(
            f"hparams 'weights': {path!r} holds NaN, infinity or another kind of number in {shortened(odd)}"
        )


def _shape(tensor: torch.Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "one number"


def _is_like(tensor: torch.Tensor, wanted: torch.Tensor) -> bool:
    """Whether ``tensor`` has numbers of the kind of ``wanted``, all of them finite."""
    same_kind = (tensor.is_floating_point(), tensor.is_complex()) == (
        wanted.is_floating_point(),
        wanted.is_complex(),
    )
    return same_kind and tensor.layout is torch.strided and bool(torch.isfinite(tensor).all())


def _adapt_channels(state: dict[str, Any], wanted: dict[str, Any], layers: str | tuple[str, ...]) -> None:
    """Fit first layers for colour images to other inputs (ARM's has four channels), as timm does for the hub's."""
    for layer in (layers,) if isinstance(layers, str) else layers:
        key = f"{layer}.weight"
        if key in state and key in wanted and state[key].dim() == 4 and state[key].shape[1] == 3:
            from timm.models import adapt_input_conv

            state[key] = adapt_input_conv(wanted[key].shape[1], state[key])


def _adapt_matrices(state: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Make 1×1 convolutions of matrices: Xception's first file for PyTorch, which detectors start from, has those."""
    for key, value in state.items():
        if key in wanted and wanted[key].shape == (*value.shape, 1, 1):
            state[key] = value[..., None, None]


def _state_in(path: str) -> dict[str, torch.Tensor]:
    """Name → tensor, of a file that another tool wrote.

    Raises:
        RogaError: it is not there, no regular file, damaged, or holds something else.
    """
    if not os.path.exists(path):
        raise RogaError(f"hparams 'weights': no such file: {path!r}")
    try:
        if path.endswith(".safetensors"):
            from safetensors.torch import load_file

            check_regular(path)
            state = load_file(path)
        else:
            state = load_tensors(path, old_format=True)
    except OSError as error:
        reason = error.strerror or error
        raise RogaError(f"hparams 'weights': {path!r} cannot be read as weights: {reason}") from None
    except Exception as error:  # safetensors has its own kind for damaged files
        if is_out_of_memory(error):
            raise
        raise RogaError(
            f"hparams 'weights': {path!r} cannot be read as weights: {first_line(error) or 'no message'}"
        ) from None
    for wrapper in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict):
        raise RogaError(f"hparams 'weights': {path!r} holds a {type(state).__name__}, not a state dict")
    odd = [
        name if isinstance(name, str) else f"a {type(name).__name__}"
        for name, value in state.items()
        if not isinstance(name, str) or not isinstance(value, torch.Tensor)
    ]
    if odd:
        raise RogaError(
            f"hparams 'weights': {path!r} is no state dict: {len(odd)} of its values are no tensors with a name: "
            f"{shortened(odd)}"
        )
    return state
