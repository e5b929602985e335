"""``--weights``: the hparam of that name, for every backbone and any number of input channels."""

import json

import pytest
import torch

from roga_domainbed.cli.train import _with_weights
from roga_domainbed.errors import RogaError
from roga_domainbed.networks.backbones import Meso4, timm_backbone
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
