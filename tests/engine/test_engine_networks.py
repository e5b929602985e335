import urllib.error

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from roga_domainbed.engine import networks
from roga_domainbed.errors import RogaError

RESNET18 = {"resnet50_augmix": False, "resnet18": True, "pretrained": False}
NO_WEIGHTS = {"pretrained": False}


@pytest.fixture(scope="module")
def torchvision_resnet18():
    torch.manual_seed(1)
    return torchvision.models.resnet18()


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise urllib.error.URLError("no route")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *args: None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


@pytest.mark.parametrize(
    ("shape", "hparams", "kind", "n_outputs"),
    [
        ((3, 28, 28), {}, "MNIST_CNN", 128),
        ([2, 28, 28], {}, "MNIST_CNN", 128),
        ((3, 32, 32), {}, "Wide_ResNet", 128),
        ((3, 224, 224), RESNET18, "ResNet", 512),
        ((3, 64, 64), {"backbone": "meso4"}, "Meso4", 16),  # wins over the shape
        ((1, 14, 14), {"backbone": "mlp"}, "Mlp", 128),
        ((3, 64, 64), {"backbone": "resnet10t", "pretrained": False}, "PooledFeaturizer", 512),
    ],
)
def test_featurizer_follows_the_backbone_and_else_the_input_shape(shape, hparams, kind, n_outputs):
    featurizer = networks.Featurizer(shape, hparams)
    assert type(featurizer).__name__ == kind
    assert featurizer.n_outputs == n_outputs
    assert isinstance(featurizer.activation, networks.Identity)
    assert featurizer(torch.zeros(2, *shape)).shape == (2, n_outputs)


def test_featurizer_for_vectors_is_an_mlp_of_the_depth_asked_for():
    mlp = networks.Featurizer((5,), {"mlp_width": 6, "mlp_depth": 4, "mlp_dropout": 0.5})
    assert mlp.n_outputs == 6
    shapes = [tuple(layer.weight.shape) for layer in mlp.modules() if isinstance(layer, nn.Linear)]
    assert sorted(shapes) == [(6, 5), (6, 6), (6, 6), (6, 6)]
    assert mlp(torch.zeros(2, 5)).shape == (2, 6)


def test_mlp_computes_linear_relu_linear():
    mlp = networks.MLP(2, 1, {"mlp_width": 2, "mlp_depth": 2, "mlp_dropout": 0.0})
    with torch.no_grad():
        mlp.input.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, -1.0]]))
        mlp.input.bias.zero_()
        mlp.output.weight.fill_(1.0)
        mlp.output.bias.fill_(0.5)
    # relu(3) + relu(-4) + 0.5
    assert mlp(torch.tensor([[3.0, 4.0]])).item() == 3.5


def test_the_backbone_mlp_and_ten_classes_are_196_128_10():
    hparams = {"backbone": "mlp", "nonlinear_classifier": False}
    featurizer = networks.Featurizer((1, 14, 14), hparams)
    network = nn.Sequential(featurizer, networks.Classifier(featurizer.n_outputs, 10))
    assert [tuple(p.shape) for p in network.parameters()] == [(128, 196), (128,), (10, 128), (10,)]
    (weight, bias), images = featurizer.hidden.parameters(), torch.randn(3, 1, 14, 14)
    expected = torch.clamp(images.reshape(3, 196) @ weight.T + bias, min=0)
    torch.testing.assert_close(featurizer(images), expected)


def test_the_backbone_mlp_starts_from_a_file(tmp_path):
    first = networks.Featurizer((1, 14, 14), {"backbone": "mlp"})
    torch.save(first.state_dict(), tmp_path / "mlp.pth")
    again = networks.Featurizer((1, 14, 14), {"backbone": "mlp", "weights": str(tmp_path / "mlp.pth")})
    assert torch.equal(again.hidden.weight, first.hidden.weight)


def test_an_mlp_without_its_hparams_is_refused_with_their_names():
    with pytest.raises(RogaError, match="needs the hparams mlp_depth, mlp_dropout: give them"):
        networks.Featurizer((5,), {"mlp_width": 6})


@pytest.mark.parametrize("kind", [RogaError, NotImplementedError])
def test_a_shape_without_featurizer_is_refused_with_the_sides_and_the_way_out(kind):
    with pytest.raises(kind, match=r"\(3, 64, 64\).*28x28, 32x32 and 224x224.*Set hparams 'backbone'"):
        networks.Featurizer((3, 64, 64), {})


@pytest.mark.parametrize("hparam", ["vit", "dinov2"])
def test_upstreams_transformers_are_refused_with_the_way_to_get_them(hparam):
    with pytest.raises(RogaError, match="'vit' and 'dinov2' are DomainBed's own: set DOMAINBED_HOME"):
        networks.Featurizer((3, 224, 224), {hparam: True})


def test_wide_resnet_is_16_layers_of_width_2_with_biases():
    network = networks.Wide_ResNet((3, 32, 32), 16, 2, 0.0)
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    # 1 stem, 3 stages of 2 blocks of 2, and 3 shortcuts where the width changes
    assert len(convolutions) == 1 + 12 + 3
    assert all(convolution.bias is not None for convolution in convolutions)
    assert network.bn1.momentum == 0.9
    assert network.layer3(network.layer2(network.layer1(network.conv1(torch.zeros(1, 3, 32, 32))))).shape == (
        (1, 128, 8, 8)
    )


def test_a_wide_resnet_of_an_impossible_depth_is_refused():
    with pytest.raises(ValueError, match=r"6 n \+ 4; got 15"):
        networks.Wide_ResNet((3, 32, 32), 15, 2, 0.0)


@pytest.mark.parametrize(
    ("hparams", "n_outputs", "published"),
    [
        ({}, 2048, torchvision.models.ResNet50_Weights.IMAGENET1K_V1),
        ({"resnet18": True}, 2048, torchvision.models.ResNet50_Weights.IMAGENET1K_V1),
        ({"resnet50_augmix": False}, 2048, torchvision.models.ResNet50_Weights.IMAGENET1K_V1),
        (
            {"resnet50_augmix": False, "resnet18": True},
            512,
            torchvision.models.ResNet18_Weights.IMAGENET1K_V1,
        ),
    ],
)
def test_resnet_has_the_published_number_of_weights_without_its_last_layer(hparams, n_outputs, published):
    network = networks.ResNet((3, 224, 224), hparams | NO_WEIGHTS)
    assert network.n_outputs == n_outputs
    last_layer = n_outputs * 1000 + 1000
    assert sum(p.numel() for p in network.parameters()) == published.meta["num_params"] - last_layer


def test_resnet_computes_torchvisions_features_from_a_file_with_its_weights(torchvision_resnet18, tmp_path):
    path = tmp_path / "resnet18.pth"
    torch.save(torchvision_resnet18.state_dict(), path)
    network = networks.ResNet((3, 224, 224), RESNET18 | {"weights": str(path)}).eval()
    reference = torchvision.models.resnet18()
    reference.load_state_dict(torchvision_resnet18.state_dict())
    reference.fc = nn.Identity()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(network(x), reference.eval()(x))


def test_more_channels_get_the_weights_of_the_colours_in_turn():
    torch.manual_seed(0)
    three = networks.ResNet((3, 224, 224), RESNET18).network.conv1.weight
    torch.manual_seed(0)
    five = networks.ResNet((5, 224, 224), RESNET18).network.conv1
    assert five.bias is None
    for channel in range(5):
        assert torch.equal(five.weight[:, channel], three[:, channel % 3])


def test_freeze_bn_survives_train_and_keeps_the_affine_weights_trainable():
    network = networks.ResNet((3, 224, 224), RESNET18 | {"freeze_bn": True})
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for _ in range(2):
        assert network.training
        assert norms
        assert not any(norm.training for norm in norms)
        network.train()
    assert all(norm.weight.requires_grad for norm in norms)


def test_resnet_has_its_dropout_and_train_and_eval_return_it():
    network = networks.ResNet((3, 224, 224), RESNET18 | {"resnet_dropout": 0.1})
    assert network.dropout.p == 0.1
    assert network.train() is network
    assert network.eval() is network
    assert network.train().network.bn1.training


def test_the_linear_and_the_nonlinear_head():
    assert isinstance(networks.Classifier(8, 3), nn.Linear)
    shapes = [tuple(p.shape) for p in networks.Classifier(8, 3, is_nonlinear=True).parameters()]
    assert shapes == [(4, 8), (4,), (2, 4), (2,), (3, 2), (3,)]


@pytest.mark.parametrize(("offline", "why"), [(False, "no route"), (True, "switched off by HF_HUB_OFFLINE")])
def test_pretrained_weights_without_a_network_are_refused_with_both_ways_out(
    offline, why, no_network, monkeypatch
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
    with pytest.raises(
        RogaError, match=rf"not on this machine.*{why}.*'weights' to a file.*'pretrained' to f"
    ):
        networks.ResNet((3, 224, 224), {})


def test_a_download_that_fails_is_refused_with_both_ways_out(no_network, monkeypatch):
    def fail(*args, **kwargs):
        raise ConnectionResetError("cut off")

    monkeypatch.setattr("roga_domainbed.networks.pretrained._require_hub", lambda name: None)
    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(
        RogaError, match=r"resnet50.ram_in1k could not be loaded \(ConnectionResetError: cut off"
    ):
        networks.ResNet((3, 224, 224), {})


def test_cached_weights_need_no_network(no_network, monkeypatch, torchvision_resnet18, tmp_path):
    path = str(tmp_path / "model.safetensors")
    save_file(torchvision_resnet18.state_dict(), path)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda repository, file: path)
    network = networks.ResNet((3, 224, 224), RESNET18 | {"pretrained": True})
    assert torch.equal(network.network.conv1.weight, torchvision_resnet18.conv1.weight)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda state: state.pop("layer4.1.bn2.weight"),
            r"is not for resnet18.tv_in1k: it lacks layer4.1.bn2.w",
        ),
        (lambda state: state.update(layer5=torch.zeros(1)), r"it also has layer5"),
        (
            lambda state: state.update({"conv1.weight": torch.zeros(64, 1, 7, 7)}),
            r"another shape conv1.weight",
        ),
        (None, "holds a list, not a state dict"),
    ],
)
def test_the_weights_of_another_network_are_refused(damage, message, torchvision_resnet18, tmp_path):
    state = dict(torchvision_resnet18.state_dict())
    if damage:
        damage(state)
    torch.save({"state_dict": state} if damage else [1, 2], tmp_path / "w.pth")
    with pytest.raises(RogaError, match=message):
        networks.ResNet((3, 224, 224), RESNET18 | {"weights": str(tmp_path / "w.pth")})


@pytest.mark.parametrize(
    ("file", "message"),
    [("damaged.pth", "cannot be read as weights"), ("gone.pth", r"no such file: '.*gone.pth'")],
)
def test_a_missing_and_a_damaged_weights_file_are_refused(file, message, tmp_path):
    (tmp_path / "damaged.pth").write_bytes(b"no weights")
    with pytest.raises(RogaError, match=message):
        networks.ResNet((3, 224, 224), RESNET18 | {"weights": str(tmp_path / file)})
