"""The catalog's backbones: size, output, first weights, and every algorithm on them."""

import os

import pytest
import timm
import torch
import torchvision
from torch import nn

from roga_domainbed import catalog
from roga_domainbed.catalog.backbones import has_first_weights
from roga_domainbed.engine import algorithms
from roga_domainbed.engine.hparams_registry import default_hparams
from roga_domainbed.errors import RogaError

#: name → width of the features, and the published number of weights with this many outputs.
PUBLISHED = {
    "resnet34": (512, torchvision.models.ResNet34_Weights.IMAGENET1K_V1.meta["num_params"], 1000),
    "xception": (2048, 22_855_952, 1000),  # Chollet, arXiv:1610.02357, Table 3
    "efficientnet_b4": (
        1792,
        torchvision.models.EfficientNet_B4_Weights.IMAGENET1K_V1.meta["num_params"],
        1000,
    ),
    "tf_efficientnet_b4": (
        1792,
        torchvision.models.EfficientNet_B4_Weights.IMAGENET1K_V1.meta["num_params"],
        1000,
    ),
    "meso4": (16, 27_977, 1),  # arXiv:1809.00888, section III
    "mesoinception4": (16, 28_615, 1),  # the same
}
OF_TIMM = [name for name in PUBLISHED if not name.startswith("meso")]


def build(name, side=64, **hparams):
    return catalog.load_backbone(name)((3, side, side), {"pretrained": False, **hparams})


@pytest.mark.parametrize("name", PUBLISHED)
def test_it_has_the_published_number_of_weights_and_its_features(name):
    width, published, n_outputs = PUBLISHED[name]
    network = build(name, side=256)
    n_weights = sum(weight.numel() for weight in network.parameters())
    assert n_weights + n_outputs * (width + 1) == published
    assert catalog.BACKBONES.get(name).n_weights == n_weights
    assert network.n_outputs == width
    with torch.no_grad():
        assert network.eval()(torch.zeros(1, 3, 256, 256)).shape == (1, width)


def test_the_size_of_efficientnet_b4_is_that_of_its_paper():
    assert round(PUBLISHED["efficientnet_b4"][1] / 1e6) == 19  # Tan and Le, arXiv:1905.11946, Table 2


@pytest.mark.parametrize("name", OF_TIMM)
def test_a_row_of_timms_names_weights_that_timm_has(name):
    info = catalog.BACKBONES.get(name)
    config = timm.get_pretrained_cfg(info.timm)
    assert config.has_weights
    assert info.timm == f"{config.architecture}.{config.tag}"


def test_models_of_version_0_1_keep_their_network():
    """There, ``efficientnet_b4`` was timm's, whose padding is not TensorFlow's."""
    stems = [build(name).network.conv_stem for name in ("efficientnet_b4", "tf_efficientnet_b4")]
    assert [type(stem) for stem in stems] == [nn.Conv2d, timm.layers.Conv2dSame]
    for name in ("efficientnet_b4", "resnet34"):
        assert catalog.BACKBONES.get(name).timm.startswith(f"{name}.")


def test_only_what_timm_has_weights_of_starts_from_them():
    assert [name for name in catalog.BACKBONES.names() if has_first_weights(name)] == OF_TIMM
    assert has_first_weights("convnext_tiny")


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no route")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *args: None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "xception",
            r"legacy_xception.tf_in1k are not on this machine and https://github.com cannot be reached \(no",
        ),
        (
            "resnet34",
            r"resnet34.tv_in1k are not on this machine and https://huggingface.co cannot be reached \(no",
        ),
    ],
)
def test_without_a_network_both_ways_out_are_said(name, said, no_network, monkeypatch, tmp_path):
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    with pytest.raises(RogaError, match=said + ".*'weights' to a file.*'pretrained' to false"):
        build(name, pretrained=True)


def test_what_torch_once_downloaded_needs_no_network(no_network, monkeypatch, tmp_path):
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / os.path.basename(timm.get_pretrained_cfg("legacy_xception").url)).touch()
    network = timm.create_model("legacy_xception", num_classes=0)
    asked = []
    monkeypatch.setattr(
        timm, "create_model", lambda name, **arguments: asked.append((name, arguments)) or network
    )
    assert build("xception", pretrained=True).network is network
    [(name, arguments)] = asked
    assert (name, arguments["pretrained"]) == ("legacy_xception.tf_in1k", True)
    assert (
        network.first_weights == "legacy_xception.tf_in1k starts from timm's weights legacy_xception.tf_in1k"
    )


def trains(algorithm, backbone, side, n_domains, n_steps):
    """Whether the featurizer has other weights after so many updates on images of that side."""
    torch.manual_seed(0)
    hparams = {
        **default_hparams(algorithm, "Debug28"),
        "backbone": backbone,
        "pretrained": False,
        "batch_size": 4,
        "linear_steps": 0,  # the first step of ERM++ trains the classifier alone
    }
    model = algorithms.get_algorithm_class(algorithm)((3, side, side), 2, n_domains, hparams)
    featurizer = next(module for module in model.modules() if hasattr(module, "n_outputs"))
    before = [weight.detach().clone() for weight in featurizer.parameters()]
    minibatches = [(torch.randn(4, 3, side, side), torch.tensor([0, 1, 0, 1])) for _ in range(n_domains)]
    for _ in range(n_steps):
        losses = model.update(minibatches)
        assert all(torch.isfinite(torch.as_tensor(value)).all() for value in losses.values())
    assert model.predict(minibatches[0][0]).shape == (4, 2)
    return any(not torch.equal(a, b) for a, b in zip(before, featurizer.parameters(), strict=True))


@pytest.mark.parametrize("backbone", ["meso4", "mesoinception4"])
@pytest.mark.parametrize(
    "algorithm", sorted({*algorithms.ALGORITHMS} - {"ForensicTransfer"})
)  # brings its network
def test_every_algorithm_trains_the_small_ones(algorithm, backbone):
    assert trains(
        algorithm, backbone, side=32, n_domains=3, n_steps=2
    )  # the first step of some trains an adversary


@pytest.mark.parametrize("backbone", OF_TIMM)
def test_the_large_ones_train(backbone):
    assert trains("RoGA", backbone, side=64, n_domains=2, n_steps=1)


class Mean(nn.Module):
    """A backbone of another package."""

    n_outputs = 3

    def __init__(self, input_shape, hparams):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        self.activation = nn.Identity()

    def forward(self, x):
        return self.activation(self.scale * x.mean((2, 3)))


def test_a_row_is_all_that_another_package_adds():
    with catalog.BACKBONES.temporarily(catalog.BackboneInfo("mean", target=f"{__name__}:Mean")):
        assert trains("RoGA", "mean", side=32, n_domains=3, n_steps=1)
