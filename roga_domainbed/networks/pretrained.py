"""timm networks without their head, and where their first weights come from: nowhere, a file, or the hub."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from typing import Any

import torch
from torch import nn

from roga_domainbed.errors import RogaError, first_line, is_out_of_memory, shortened
from roga_domainbed.foreign import check_regular, load_tensors

_PROBE_TIMEOUT_S = 5
_WITHOUT_NETWORK = (
    """set hparams 'weights' to a file with them (--hparams '{"weights": "FILE"}'), or hparams 'pretrained' to """
    "false to start from random weights"
)


def timm_features(name: str, hparams: dict[str, Any], **arguments: Any) -> nn.Module:
    """The timm network ``name`` with pooled features as its output.

    Args:
        name: a name timm knows, with or without the tag of its weights.
        hparams: ``weights`` is a file (``.pth`` or ``.safetensors``) and comes first; else ``pretrained`` false
            means random weights, and true (the default) the hub's, from its cache where they are there.
        **arguments: further arguments of ``timm.create_model``, such as ``in_chans``.

    Raises:
        RogaError: a file that is missing, unreadable or another network's; no connection.
    """
    import timm  # three seconds, and the smaller featurizers do without

    weights = hparams.get("weights")
    if not weights and hparams.get("pretrained", True):
        return _from_hub(name, arguments)
    model = timm.create_model(name, num_classes=0, **arguments)
    if weights:
        load_weights(model, name, weights)
    return model


def load_weights(model: nn.Module, name: str, path: str) -> None:
    """Load ``path`` into ``model``, refusing any weight that is missing, left over or of another shape."""
    state = _state_in(path)
    config = getattr(model, "default_cfg", {})
    head = config.get("classifier") or ()
    heads = tuple(f"{part}." for part in ((head,) if isinstance(head, str) else head))
    wanted = model.state_dict()
    state = {key: value for key, value in state.items() if key in wanted or not key.startswith(heads)}
    _adapt_channels(state, wanted, config.get("first_conv") or ())
    # timm says nothing when ResNet-34's file is loaded into ResNet-18, so the names are compared here. Files from
    # before 2018 lack the counters of batch norm, which inference and training at a fixed momentum never read.
    missing = [key for key in wanted if key not in state and not key.endswith("num_batches_tracked")]
    left_over = [key for key in state if key not in wanted]
    other_shape = [key for key in wanted if key in state and state[key].shape != wanted[key].shape]
    for what, keys in (("lacks", missing), ("also has", left_over), ("has in another shape", other_shape)):
        if keys:
            shown = ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
            raise RogaError(f"hparams 'weights': {path!r} is not for {name}: it {what} {shown}")
    odd = [key for key in wanted if key in state and not _is_like(state[key], wanted[key])]
    if odd:
        raise RogaError(
            f"hparams 'weights': {path!r} holds NaN, infinity or another kind of number in {shortened(odd)}"
        )
    model.load_state_dict(state, strict=False)


def _is_like(tensor: torch.Tensor, wanted: torch.Tensor) -> bool:
    """Whether ``tensor`` has numbers of the kind of ``wanted``, all of them finite."""
    same_kind = (tensor.is_floating_point(), tensor.is_complex()) == (
        wanted.is_floating_point(),
        wanted.is_complex(),
    )
    return same_kind and tensor.layout is torch.strided and bool(torch.isfinite(tensor).all())


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


def _adapt_channels(state: dict[str, Any], wanted: dict[str, Any], layers: str | tuple[str, ...]) -> None:
    """Fit first layers for colour images to other inputs (ARM's has four channels), as timm does for the hub's."""
    for layer in (layers,) if isinstance(layers, str) else layers:
        key = f"{layer}.weight"
        if key in state and key in wanted and state[key].dim() == 4 and state[key].shape[1] == 3:
            from timm.models import adapt_input_conv

            state[key] = adapt_input_conv(wanted[key].shape[1], state[key])


def _from_hub(name: str, arguments: dict[str, Any]) -> nn.Module:
    import timm

    config = timm.get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        raise RogaError(f"timm has no weights for {name}: {_WITHOUT_NETWORK}")
    overlay = None
    if config.hf_hub_id:
        cached = _cached(config.hf_hub_id)
        if cached:
            overlay = {"file": cached}
        else:
            _require_hub(name)
    try:
        return timm.create_model(
            name, pretrained=True, num_classes=0, pretrained_cfg_overlay=overlay, **arguments
        )
    except Exception as error:  # urllib, httpx, requests and the hub's own kinds, by version
        raise RogaError(
            f"the weights of {name} could not be loaded ({type(error).__name__}: {first_line(error) or 'no message'}): "
            f"{_WITHOUT_NETWORK}"
        ) from None


def _cached(repository: str) -> str | None:
    """The weights file of ``repository`` in the local cache, asked without the network."""
    from huggingface_hub import try_to_load_from_cache

    for file in ("model.safetensors", "pytorch_model.bin"):
        path = try_to_load_from_cache(repository, file)
        if isinstance(path, str):
            return path
    return None


def _require_hub(name: str) -> None:
    """Refuse within seconds where there is no network.

    The hub's own client tries again for three quarters of a minute, in every job of a sweep.
    """
    from huggingface_hub import constants

    reason = "the hub is switched off by HF_HUB_OFFLINE"
    if not constants.HF_HUB_OFFLINE:
        try:
            request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
            urllib.request.urlopen(request, timeout=_PROBE_TIMEOUT_S).close()
            return
        except urllib.error.HTTPError:
            return  # it answered; whether it has the file is the client's question
        except OSError as error:
            reason = f"{constants.ENDPOINT} cannot be reached ({first_line(error) or 'no message'})"
    raise RogaError(f"the weights of {name} are not on this machine and {reason}: {_WITHOUT_NETWORK}")
