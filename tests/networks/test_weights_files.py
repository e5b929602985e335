"""First weights from a file: both formats, prefixes, what is left out, what is refused, and what is said."""

import re

import pytest
import torch
from safetensors.torch import save_file

from roga_domainbed import catalog
from roga_domainbed.errors import RogaError
from roga_domainbed.networks.backbones import timm_backbone
from roga_domainbed.networks.mesoinception4 import MesoInception4
from roga_domainbed.networks.weights import first_weights

SHAPE = (3, 64, 64)


def write(state, path):
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return {"weights": str(path)}


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(0)
    return timm_backbone("resnet10t", SHAPE, {"pretrained": False}).network.state_dict()


def same(network, state):
    found = network.state_dict()
    return found.keys() == state.keys() and all(
        torch.equal(found[key], value) for key, value in state.items()
    )


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("name", ["meso4", "mesoinception4", "mlp", "resnet10t"])
def test_both_formats_come_back_as_they_went(name, suffix, tmp_path):
    torch.manual_seed(1)
    first = catalog.load_backbone(name)(SHAPE, {"pretrained": False})
    state = getattr(first, "network", first).state_dict()
    again = catalog.load_backbone(name)(SHAPE, write(state, tmp_path / f"w{suffix}"))
    assert same(getattr(again, "network", again), state)


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "module.encoder.net."])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_a_prefix_and_a_wrapper_are_understood(prefix, wrapper, resnet, tmp_path):
    state = {prefix + key: value for key, value in resnet.items()}
    state |= {f"{prefix}fc.weight": torch.zeros(7, 512), f"{prefix}last_linear.bias": torch.zeros(2)}
    content = {wrapper: state, "epoch": 3} if wrapper else state
    path = tmp_path / "w.pth"
    network = timm_backbone("resnet10t", SHAPE, write(content, path))
    assert same(network.network, resnet)
    assert first_weights(network) == [
        f"resnet10t starts from {str(path)!r}: all of its {len(resnet)} tensors fit, left out: fc.weight, "
        "last_linear.bias; what they were trained on is not audited"
    ]


def test_what_stands_beside_the_prefix_is_left_out_and_said(resnet, tmp_path):
    state = {f"backbone.{key}": value for key, value in resnet.items()} | {"projector.weight": torch.zeros(3)}
    network = timm_backbone("resnet10t", SHAPE, write(state, tmp_path / "w.pth"))
    assert same(network.network, resnet)
    assert "left out: projector.weight;" in first_weights(network)[0]


def test_weights_that_domainbed_saves_twice_are_one_network(resnet, tmp_path):
    state = {
        f"{prefix}.{key}": value
        for prefix in ("featurizer.network", "network.0.network")
        for key, value in resnet.items()
    }
    assert same(timm_backbone("resnet10t", SHAPE, write(state, tmp_path / "w.pth")).network, resnet)


def test_two_networks_in_one_file_are_refused_by_name(resnet, tmp_path):
    state = {f"query.{key}": value for key, value in resnet.items()}
    state |= {f"key.{key}": value + 1 for key, value in resnet.items()}
    with pytest.raises(
        RogaError, match=r"has this network more than once, as 'query\.\*' and as 'key\.\*': save the one"
    ):
        timm_backbone("resnet10t", SHAPE, write(state, tmp_path / "w.pth"))


def test_everything_that_does_not_fit_is_in_one_error(tmp_path):
    state = MesoInception4(SHAPE, {}).state_dict()
    n_wanted = len(state)
    for i in range(1, 4):
        del state[f"blocks.0.0.branches.{i}.0.weight"]
    del state["blocks.0.0.branches.0.0.weight"]
    state["hidden.1.weight"] = torch.zeros(16, 1024)
    state["blocks.9.weight"] = torch.zeros(1)
    path = tmp_path / "w.pth"
    with pytest.raises(RogaError) as refused:
        MesoInception4(SHAPE, write(state, path))
    lacking = ", ".join(f"blocks.0.0.branches.{i}.0.weight" for i in range(3))
    assert str(refused.value) == (
        f"hparams 'weights': {str(path)!r} is not for mesoinception4: it lacks {lacking} and 1 more; "
        "it also has blocks.9.weight; it has in another shape hidden.1.weight (16×1024, not 16×64); "
        f"{n_wanted - 5} of {n_wanted} tensors fit. "
        "Set hparams 'backbone' to the network that the file is of, or give a file of this one"
    )


def test_nothing_is_loaded_from_a_file_that_is_refused(resnet, tmp_path):
    from roga_domainbed.networks.weights import load_weights

    torch.manual_seed(2)
    network = timm_backbone("resnet10t", SHAPE, {"pretrained": False}).network
    before = {key: value.clone() for key, value in network.state_dict().items()}
    write({**resnet, "layer9.weight": torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(RogaError, match=r"also has layer9\.weight"):
        load_weights(network, "resnet10t", str(tmp_path / "w.pth"))
    assert same(network, before)
    assert first_weights(network) == []


def test_xceptions_first_file_has_matrices_for_convolutions_of_one_pixel(tmp_path):
    torch.manual_seed(0)
    state = catalog.load_backbone("xception")(SHAPE, {"pretrained": False}).network.state_dict()
    file = {key: value[..., 0, 0] if "pointwise" in key else value for key, value in state.items()}
    assert sum(value.dim() == 2 for value in file.values()) == 34  # separable convolutions: Chollet's Fig. 5
    file["last_linear.weight"] = torch.zeros(1000, 2048)
    network = catalog.load_backbone("xception")(SHAPE, write(file, tmp_path / "w.pth"))
    assert same(network.network, state)


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    class Trap:
        def __reduce__(self):
            return print, ("ran",)

    with pytest.raises(RogaError, match="cannot be read as weights: it holds more than weights"):
        MesoInception4(SHAPE, write({"blocks": Trap()}, tmp_path / "w.pth"))


def test_a_run_says_once_what_it_starts_from(resnet, tmp_path):
    from roga_domainbed.trainer.config import TrainConfig
    from roga_domainbed.trainer.run import train

    path = tmp_path / "w.safetensors"
    save_file(resnet, path)
    hparams = f'{{"batch_size": 4, "backbone": "resnet10t", "weights": "{path}"}}'
    for algorithm in ("ERM", "Fish"):  # Fish works on a copy of its network
        folder = tmp_path / algorithm
        train(
            TrainConfig(
                dataset="Debug28",
                algorithm=algorithm,
                hparams=hparams,
                steps=1,
                n_workers=0,
                output_dir=str(folder),
            )
        )
        sentence = (
            r"resnet10t starts from .*w\.safetensors': all of its \d+ tensors fit; what they were .* audited"
        )
        said = re.findall(rf"^Notice: {sentence}\.$", (folder / "out.txt").read_text(), flags=re.MULTILINE)
        assert len(said) == 1
