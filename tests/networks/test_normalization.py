"""``hparams['normalize']``: the affine map in front of a backbone, worked by hand; where it comes from; where it is."""

import copy

import pytest
import timm
import torch
import torchvision
from torch import nn

from roga_domainbed.engine import algorithms, networks
from roga_domainbed.engine.hparams_registry import default_hparams
from roga_domainbed.errors import RogaError
from roga_domainbed.networks.normalization import Renormalized, fit
from roga_domainbed.networks.phase import phase_image
from roga_domainbed.networks.srm import residuals

PLUS_MINUS_1 = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(scope="module")
def resnet_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "w.pth"
    torch.manual_seed(0)
    torch.save(timm.create_model("resnet10t", num_classes=0).state_dict(), path)
    return str(path)


def erm(weights, side=32, algorithm="ERM", **hparams):
    hparams = {
        **default_hparams(algorithm, "SynthFake"),
        "backbone": "resnet10t",
        "weights": weights,
        **hparams,
    }
    torch.manual_seed(0)
    return algorithms.get_algorithm_class(algorithm)(
        (3, side, side), 2, 3, {"normalize": "backbone", **hparams}
    )


def fitted(algorithm, statistics=PLUS_MINUS_1):
    said = fit(algorithm, "Faces", (3, 32, 32), statistics)
    return said, [module for module in algorithm.modules() if isinstance(module, Renormalized)]


def test_black_and_white_pixels_become_what_imagenets_networks_know(resnet_file):
    said, (first,) = fitted(erm(resnet_file))
    seen = []
    first.network.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    black, white = -torch.ones(1, 3, 32, 32), torch.ones(1, 3, 32, 32)
    first.eval()(torch.cat([black, white]))
    # (0 - 0.485) / 0.229 and (1 - 0.485) / 0.229, and so on: torchvision's documented normalization
    expected = [[-2.117904, -2.035714, -1.804444], [2.248908, 2.428571, 2.640000]]
    assert seen[0][:, :, 0, 0].tolist() == [pytest.approx(row, abs=1e-5) for row in expected]
    assert said == (
        "colours reach the backbone with mean 0.485/0.456/0.406 and standard deviation 0.229/0.224/0.225 subtracted "
        "and divided by, as its weights know them; Faces has 0.5 and 0.5"
    )


def test_equal_statistics_change_no_bit(resnet_file):
    _, (first,) = fitted(erm(resnet_file), IMAGENET)
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(first.eval()(x), first.network(x))


def test_the_dataset_is_the_default_and_leaves_the_network_and_its_names_as_they_were(resnet_file):
    shape = (3, 32, 32)
    plain, said = (
        networks.Featurizer(shape, {"backbone": "resnet10t", "weights": resnet_file, **more})
        for more in ({}, {"normalize": "dataset"})
    )
    assert list(plain.state_dict()) == list(said.state_dict())
    assert not any(isinstance(module, Renormalized) for module in said.modules())


def test_a_model_has_its_map_in_its_state_and_it_is_no_weight(resnet_file):
    first = erm(resnet_file)
    fitted(first)
    names = [name for name in first.state_dict() if name.endswith((".scale", ".shift"))]
    assert {name.removeprefix("featurizer.") for name in names} >= {"scale", "shift"}
    assert not any(name.endswith((".scale", ".shift")) for name, _ in first.named_parameters())
    # as a saved model is built: no weights, no dataset, and all from the file
    again = erm("", pretrained=False)
    x = torch.randn(2, 3, 32, 32)
    assert again.eval().predict(x).isnan().all()  # and never an answer with another map
    again.load_state_dict(first.state_dict())
    assert torch.equal(again.eval().predict(x), first.eval().predict(x))


@pytest.mark.parametrize("algorithm", ["RoGA", "ARM", "ERMPlusPlus", "ADRMX", "Fish", "MLDG", "URM"])
def test_algorithms_train_with_it(algorithm, resnet_file):
    model = erm(resnet_file, algorithm=algorithm, linear_steps=0, batch_size=4)
    fitted(model)
    before = copy.deepcopy([module.scale for module in model.modules() if isinstance(module, Renormalized)])
    batches = [(torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 0, 1])) for _ in range(3)]
    losses = model.update(batches)
    assert all(torch.isfinite(torch.as_tensor(value)).all() for value in losses.values())
    assert model.predict(batches[0][0]).isfinite().all()
    after = [module.scale for module in model.modules() if isinstance(module, Renormalized)]
    assert before
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=False))


def test_frequencies_are_of_the_datasets_pixels(resnet_file):
    seen = {}
    for frequency, at in (("phase", "network"), ("srm", "image")):
        model = erm(resnet_file, frequency=frequency)
        _, (first,) = fitted(model)
        assert first is getattr(model.featurizer, at)
        for name, module in model.featurizer.named_children():
            inner = module.network if isinstance(module, Renormalized) else module
            inner.register_forward_pre_hook(lambda module, args, name=name: seen.update({name: args[0]}))
        x = torch.rand(2, 3, 32, 32) * 2 - 1
        model.eval().predict(x)
        colours = torch.stack(
            [(x[:, c] * 0.5 + 0.5 - m) / s for c, m, s in zip(range(3), *IMAGENET, strict=True)], 1
        )
        torch.testing.assert_close(seen[at][:, :3], colours)
        if frequency == "phase":
            torch.testing.assert_close(seen[at][:, 3:], phase_image(x))
        else:
            torch.testing.assert_close(seen["noise"], residuals(x))


def test_deepfakebenchs_files_are_of_images_in_plus_minus_1(tmp_path):
    detector = nn.Module()
    detector.resnet = nn.Sequential(*list(torchvision.models.resnet18().children())[:-2])
    torch.save(
        {f"backbone.{name}": value for name, value in detector.state_dict().items()}, tmp_path / "w.pth"
    )
    _, (first,) = fitted(erm(str(tmp_path / "w.pth"), backbone="resnet18"), IMAGENET)
    # x = 0 is ImageNet's mean colour: 2 · 0.485 − 1
    assert first.shift.flatten().tolist() == pytest.approx([-0.03, -0.088, -0.188])
    assert first.scale.flatten().tolist() == pytest.approx([0.458, 0.448, 0.450])


def test_xception_is_of_images_in_plus_minus_1_already(tmp_path):
    torch.save(timm.create_model("legacy_xception", num_classes=0).state_dict(), tmp_path / "w.pth")
    _, (first,) = fitted(erm(str(tmp_path / "w.pth"), backbone="xception", side=64))
    assert first.scale.flatten().tolist() == [1, 1, 1]
    assert first.shift.flatten().tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("hparams", "algorithm"),
    [
        ({"pretrained": False}, "ERM"),
        ({"backbone": "meso4"}, "ERM"),
        ({"pretrained": False}, "ForensicTransfer"),  # brings its network
    ],
)
def test_weights_of_unknown_statistics_are_refused(hparams, algorithm):
    model = erm("", algorithm=algorithm, **hparams)
    with pytest.raises(RogaError, match="first weights were trained on images normalized in a known way, and those of "
                                        f"this {algorithm} were not: leave it out"):  # fmt: skip
        fitted(model)


@pytest.mark.parametrize(("shape", "statistics"), [((1, 28, 28), PLUS_MINUS_1), ((3, 32, 32), None)])
def test_data_of_unknown_statistics_are_refused(shape, statistics, resnet_file):
    with pytest.raises(
        RogaError, match="for colour images whose normalization is known, and that of Digits is not"
    ):
        fit(erm(resnet_file), "Digits", shape, statistics)
