"""``--weights``: the hparam of that name, for every backbone and any number of input channels."""

import json
import os

import pytest
import torch

from roga_domainbed.cli.train import _with_weights
from roga_domainbed.errors import RogaError
from roga_domainbed.networks.backbones import timm_backbone
from roga_domainbed.networks.meso4 import Meso4
from roga_domainbed.trainer.config import TrainConfig
from roga_domainbed.trainer.run import train


def test_the_flag_is_the_hparam_and_a_contradiction_is_refused():
    assert _with_weights('{"lr": 0.1}', None) == '{"lr": 0.1}'
    assert json.loads(_with_weights('{"lr": 0.1}', "a.pth")) == {"lr": 0.1, "weights": "a.pth"}
    assert json.loads(_with_weights(None, "a.pth")) == {"weights": "a.pth"}
    with pytest.raises(RogaError, match="differ"):
        _with_weights('{"weights": "b.pth"}', "a.pth")


def test_meso4_starts_from_a_file(tmp_path):
    first = Meso4((3, 64, 64), {})
    torch.save(first.state_dict(), tmp_path / "meso4.pth")
    again = Meso4((3, 64, 64), {"weights": str(tmp_path / "meso4.pth")})
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))


def test_colour_weights_fit_a_first_layer_of_four_channels(tmp_path):
    colour = timm_backbone("resnet10t", (3, 64, 64), {"pretrained": False})
    torch.save(colour.network.state_dict(), tmp_path / "weights.pth")
    wider = timm_backbone("resnet10t", (4, 64, 64), {"weights": str(tmp_path / "weights.pth")})
    three, four = colour.network.conv1[0].weight, wider.network.conv1[0].weight
    # timm's rule: the colours in turn, scaled so that a grey image gives the same activations
    torch.testing.assert_close(four, three[:, [0, 1, 2, 0]] * 3 / 4)


def test_weights_that_no_network_would_read_are_refused(tmp_path):
    (tmp_path / "a.pth").touch()
    hparams = json.dumps({"weights": str(tmp_path / "a.pth")})
    config = TrainConfig(dataset="Debug28", hparams=hparams, output_dir=str(tmp_path / "run"))
    with pytest.raises(RogaError, match="starts from random weights"):
        train(config)


def changed(state, change):
    state = {name: value.clone() for name, value in state.items()}
    change(state)
    return state


FIRST = "blocks.0.0.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.update({FIRST: [1, 2]}), r"1 of its values are no tensors with a name: blocks\.0\.0\.weight"),
        (lambda s: s.update({3: s[FIRST]}), r"1 of its values are no tensors with a name: a int"),
        (lambda s: s[FIRST].fill_(float("nan")), r"holds NaN, infinity or another kind of number in blocks\.0\.0"),
        (lambda s: s.update({FIRST: s[FIRST].long()}), r"NaN, infinity or another kind of number in blocks\.0\.0"),
        (lambda s: s.update({FIRST: s[FIRST][:2]}), r"it has in another shape blocks\.0\.0\.weight"),
    ],
)  # fmt: skip
def test_weights_that_are_no_weights_are_a_sentence(tmp_path, change, message):
    path = tmp_path / "meso4.pth"
    torch.save(changed(Meso4((3, 64, 64), {}).state_dict(), change), path)
    with pytest.raises(RogaError, match=message):
        Meso4((3, 64, 64), {"weights": str(path)})


def test_a_damaged_file_of_weights_and_one_that_is_none(tmp_path):
    path = tmp_path / "meso4.pth"
    torch.save(Meso4((3, 64, 64), {}).state_dict(), path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(RogaError, match="cannot be read as weights: it is damaged: the entry"):
        Meso4((3, 64, 64), {"weights": str(path)})
    for name in ("a.pth", "a.safetensors"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(RogaError, match="cannot be read as weights: not a regular file but a named pipe"):
            Meso4((3, 64, 64), {"weights": str(tmp_path / name)})
