"""timm networks without their head, and where their first weights come from: nowhere, a file, or the hub."""

from __future__ import annotations

import os
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from torch import hub, nn

from roga_domainbed.errors import RogaError, first_line
from roga_domainbed.networks.weights import load_weights

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
    elif config.url and not os.path.exists(_cached_download(config.url)):
        _require_answer(name, "{0.scheme}://{0.netloc}".format(urllib.parse.urlsplit(config.url)))
    try:
        model = timm.create_model(
            name, pretrained=True, num_classes=0, pretrained_cfg_overlay=overlay, **arguments
        )
    except Exception as error:  # urllib, httpx, requests and the hub's own kinds, by version
        raise RogaError(
            f"the weights of {name} could not be loaded ({type(error).__name__}: {first_line(error) or 'no message'}): "
            f"{_WITHOUT_NETWORK}"
        ) from None
    model.first_weights = f"{name} starts from timm's weights {config.architecture}.{config.tag}"
    model.weights_statistics = tuple(config.mean), tuple(config.std)
    return model


def _cached(repository: str) -> str | None:
    """The weights file of ``repository`` in the local cache, asked without the network."""
    from huggingface_hub import try_to_load_from_cache

    for file in ("model.safetensors", "pytorch_model.bin"):
        path = try_to_load_from_cache(repository, file)
        if isinstance(path, str):
            return path
    return None


def _cached_download(url: str) -> str:
    """Where torch keeps what it once downloaded from ``url``, which is how timm gets what is not on the hub."""
    return os.path.join(hub.get_dir(), "checkpoints", os.path.basename(urllib.parse.urlsplit(url).path))


def _require_hub(name: str) -> None:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise RogaError(_not_here(name, "the hub is switched off by HF_HUB_OFFLINE"))
    _require_answer(name, constants.ENDPOINT)


def _require_answer(name: str, server: str) -> None:
    """Refuse within seconds where there is no network.

    The hub's own client tries again for three quarters of a minute, and torch's waits as long as the system does, in
    every job of a sweep.
    """
    try:
        request = urllib.request.Request(server, method="HEAD")
        urllib.request.urlopen(request, timeout=_PROBE_TIMEOUT_S).close()
    except urllib.error.HTTPError:
        return  # it answered; whether it has the file is the client's question
    except OSError as error:
        reason = f"{server} cannot be reached ({first_line(error) or 'no message'})"
        raise RogaError(_not_here(name, reason)) from None


def _not_here(name: str, reason: str) -> str:
    return f"the weights of {name} are not on this machine and {reason}: {_WITHOUT_NETWORK}"
