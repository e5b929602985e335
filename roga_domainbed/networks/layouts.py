"""The names under which other projects save networks that timm and we have too.

A row of ``_LAYOUTS`` knows a file by one name in it. The rules give each tensor its name here; what they do not know
keeps its own, and the comparison that follows tells of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from roga_domainbed.errors import RogaError

_State = dict[str, Any]
#: Mean and standard deviation of each colour, for pixels in [0, 1].
Statistics = tuple[tuple[float, ...], tuple[float, ...]]
_TO_PLUS_MINUS_1: Statistics = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def in_our_names(
    state: _State, wanted: _State, name: str, path: str
) -> tuple[_State, str, Statistics | None]:
    """``state`` with the names of ``wanted``, where a layout of another project is recognized.

    Args:
        state: name → tensor; a prefix before the layout's names stays.
        wanted: name → tensor of the network here.
        name: of the network, as timm's or the catalog's.
        path: of the file, for messages.

    Returns:
        The tensors; a phrase that names the layout, empty where none is recognized; and what that project's training
        subtracts from images and divides them by, None where the layout does not tell.

    Raises:
        RogaError: the layout is of a network that computes something else.
    """
    for mark, ours, rename, phrase, statistics in _LAYOUTS:
        roots = [key[: -len(mark)] for key in state if key == mark or key.endswith(f".{mark}")]
        if len(roots) == 1 and ours in wanted:
            root = roots[0]
            inside = {key[len(root) :]: value for key, value in state.items() if key.startswith(root)}
            beside = {key: value for key, value in state.items() if not key.startswith(root)}
            new = rename(inside, wanted, name, path)
            return {**{root + key: value for key, value in new.items()}, **beside}, phrase, statistics
    return state, "", None


def _of_a_sequence(state: _State, wanted: _State, name: str, path: str) -> _State:
    """DeepfakeBench's ResNet-34: torchvision's children as a sequence, of which ReLU and pooling have no weights."""
    parts = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
    renamed = {}
    for key, value in state.items():
        first, _, rest = key.removeprefix("resnet.").partition(".")
        numbered = key.startswith("resnet.") and first in parts
        renamed[f"{parts[first]}.{rest}" if numbered else key] = value
    return renamed


def _of_efficientnet_pytorch(state: _State, wanted: _State, name: str, path: str) -> _State:
    """``efficientnet_pytorch``, also within DeepfakeBench: blocks in one row, batch norms counted from 0.

    Its networks are TensorFlow's, with that framework's padding and ε of batch norm. DeepfakeBench's own first layer
    has no padding, and later ones pad for images of 380 pixels, so there features lie up to a few pixels aside.
    """
    if not name.startswith("tf_"):
        raise RogaError(
            f"hparams 'weights': {path!r} is of efficientnet_pytorch, whose padding and batch norms are TensorFlow's, "
            f"and {name} has others: set hparams 'backbone' to 'tf_{name.partition('.')[0]}'"
        )
    blocks = list(dict.fromkeys(".".join(key.split(".")[:3]) for key in wanted if key.startswith("blocks.")))
    stem_and_top = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
    squeeze = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand", "_depthwise_conv": "conv_dw"}
    # A block that does not widen its input has no first 1×1 convolution, so its others are counted differently.
    narrow = {**squeeze, "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    wide = {
        **squeeze,
        "_expand_conv": "conv_pw",
        "_bn0": "bn1",
        "_bn1": "bn2",
        "_project_conv": "conv_pwl",
        "_bn2": "bn3",
    }
    renamed = {}
    for key, value in state.items():
        parts = key.removeprefix("efficientnet.").split(".")
        if parts[0] == "_blocks" and len(parts) > 3 and parts[1].isdecimal() and int(parts[1]) < len(blocks):
            block = blocks[int(parts[1])]
            names = wide if f"{block}.conv_pwl.weight" in wanted else narrow
            renamed[".".join([block, names.get(parts[2], parts[2]), *parts[3:]])] = value
        else:
            renamed[".".join([stem_and_top.get(parts[0], parts[0]), *parts[1:]])] = value
    return renamed


def _of_shared_norms(state: _State, wanted: _State, name: str, path: str) -> _State:
    """DeepfakeBench's Meso-4: no biases, and one batch norm for two blocks each.

    With biases of zero and each batch norm twice, the network computes the same in evaluation.
    """
    renamed = {}
    for key, value in state.items():
        layer, _, rest = key.partition(".")
        if layer in ("conv1", "conv2", "conv3", "conv4") and rest == "weight":
            block = f"blocks.{int(layer[-1]) - 1}.0"
            renamed[f"{block}.weight"] = value
            renamed[f"{block}.bias"] = torch.zeros(value.shape[:1], dtype=value.dtype)
        elif layer in ("bn1", "bn2"):
            first = 0 if layer == "bn1" else 2
            renamed |= {f"blocks.{block}.2.{rest}": value for block in (first, first + 1)}
        elif layer == "fc1":
            renamed[f"hidden.1.{rest}"] = value
        else:
            renamed[key] = value
    return renamed


def _without_relu(state: _State, wanted: _State, name: str, path: str) -> _State:
    raise RogaError(
        f"hparams 'weights': {path!r} is of DeepfakeBench's MesoInception-4, which has no ReLU in its inception "
        f"modules and is another network than the paper's and {name}: no network here takes it"
    )


_Rename = Callable[[_State, _State, str, str], _State]

#: A name in the file; a name that the network here must have; the rule; the phrase; the normalization of images.
_LAYOUTS: tuple[tuple[str, str, _Rename, str, Statistics | None], ...] = (
    (
        "resnet.0.weight",
        "layer4.0.conv1.weight",
        _of_a_sequence,
        " (in DeepfakeBench's names)",
        _TO_PLUS_MINUS_1,
    ),
    (
        "efficientnet._conv_stem.weight",
        "conv_stem.weight",
        _of_efficientnet_pytorch,
        " (in the names of DeepfakeBench, whose network pads its borders otherwise)",
        _TO_PLUS_MINUS_1,
    ),
    (
        "_conv_stem.weight",
        "conv_stem.weight",
        _of_efficientnet_pytorch,
        " (in the names of efficientnet_pytorch)",
        None,
    ),
    ("Incption1_conv1.weight", "hidden.1.weight", _without_relu, "", None),
    (
        "conv4.weight",
        "blocks.3.2.running_mean",
        _of_shared_norms,
        " (in DeepfakeBench's names)",
        _TO_PLUS_MINUS_1,
    ),
)
