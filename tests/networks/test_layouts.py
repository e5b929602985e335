"""Files of DeepfakeBench and of efficientnet_pytorch: names made here by the rule that those projects follow."""

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from roga_domainbed.catalog import load_backbone
from roga_domainbed.errors import RogaError
from roga_domainbed.networks.backbones import timm_backbone
from roga_domainbed.networks.meso4 import Meso4
from roga_domainbed.networks.mesoinception4 import MesoInception4


def saved(state, path):
    torch.save(state, path)
    return {"weights": str(path)}


def first_weights_of(network):
    return next(module.first_weights for module in network.modules() if hasattr(module, "first_weights"))


@pytest.mark.parametrize("prefix", ["", "backbone.", "module.backbone."])
def test_resnet_as_a_sequence_of_torchvisions_children(prefix, tmp_path):
    torch.manual_seed(0)
    reference = torchvision.models.resnet18()
    detector = nn.Module()
    detector.resnet = nn.Sequential(*list(reference.children())[:-2])
    detector.fc = nn.Linear(512, 2)
    detector.adjust_channel = nn.Conv2d(512, 512, 1)
    state = {prefix + name: value for name, value in detector.state_dict().items()}
    network = timm_backbone("resnet18", (3, 64, 64), saved(state, tmp_path / "w.pth")).eval()
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = detector.resnet.eval()(image).mean((2, 3))
        torch.testing.assert_close(network(image), expected)
    assert "(in DeepfakeBench's names): all of its 120 tensors fit, left out: fc.weight" in first_weights_of(
        network
    )


def efficientnet_pytorch_names(blocks_of_stages):
    """In the order in which that package's layers follow each other; its first stage does not widen."""
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    yield "_conv_stem.weight"
    yield from (f"_bn0.{part}" for part in norm)
    stages = [stage for stage, n in enumerate(blocks_of_stages) for _ in range(n)]
    for i, stage in enumerate(stages):
        if stage > 0:
            yield f"_blocks.{i}._expand_conv.weight"
            yield from (f"_blocks.{i}._bn0.{part}" for part in norm)
        yield f"_blocks.{i}._depthwise_conv.weight"
        yield from (f"_blocks.{i}._bn1.{part}" for part in norm)
        yield from (
            f"_blocks.{i}.{layer}.{part}"
            for layer in ("_se_reduce", "_se_expand")
            for part in ("weight", "bias")
        )
        yield f"_blocks.{i}._project_conv.weight"
        yield from (f"_blocks.{i}._bn2.{part}" for part in norm)
    yield "_conv_head.weight"
    yield from (f"_bn1.{part}" for part in norm)


@pytest.mark.parametrize(
    ("prefix", "last", "said"),
    [
        ("", "_fc", "(in the names of efficientnet_pytorch)"),
        (
            "backbone.efficientnet.",
            "backbone.last_layer",
            "(in the names of DeepfakeBench, whose network pads",
        ),
    ],
)
def test_efficientnet_with_its_blocks_in_one_row(prefix, last, said, tmp_path):
    torch.manual_seed(0)
    first = timm.create_model("tf_efficientnet_b1", num_classes=0)
    names = efficientnet_pytorch_names(
        (2, 3, 3, 4, 4, 5, 2)
    )  # EfficientNet-B1's; two blocks that do not widen
    state = {prefix + name: value for name, value in zip(names, first.state_dict().values(), strict=True)}
    state |= {f"{last}.weight": torch.zeros(2, 1280), f"{last}.bias": torch.zeros(2)}
    given = saved(state, tmp_path / "w.pth")
    again = timm_backbone("tf_efficientnet_b1", (3, 64, 64), given)
    for name, value in first.state_dict().items():
        assert torch.equal(again.network.state_dict()[name], value), name
    assert said in first_weights_of(again)
    with pytest.raises(RogaError, match="padding and batch norms are TensorFlow's, and efficientnet_b1 has others: "
                                        "set hparams 'backbone' to 'tf_efficientnet_b1'"):  # fmt: skip
        timm_backbone("efficientnet_b1", (3, 64, 64), given)


def shared_norm_meso4():
    torch.manual_seed(0)
    state = {"fc1.weight": torch.randn(16, 64) / 8, "fc1.bias": torch.randn(16)}
    state |= {"fc2.weight": torch.randn(2, 16), "fc2.bias": torch.randn(2)}
    for i, shape in enumerate(((8, 3, 3, 3), (8, 8, 5, 5), (16, 8, 5, 5), (16, 16, 5, 5)), 1):
        state[f"conv{i}.weight"] = torch.randn(shape) / 10
    for name, width in (("bn1", 8), ("bn2", 16)):
        state |= {f"{name}.weight": torch.rand(width) + 0.5, f"{name}.bias": torch.randn(width)}
        state |= {f"{name}.running_mean": torch.randn(width), f"{name}.running_var": torch.rand(width) + 0.5}
        state[f"{name}.num_batches_tracked"] = torch.tensor(7)
    return state


def test_meso4_with_a_batch_norm_for_two_blocks_and_no_biases(tmp_path):
    state = shared_norm_meso4()
    x = image = torch.randn(2, 3, 64, 64)
    for i, by in enumerate((2, 2, 2, 4), 1):
        norm = "bn1" if i < 3 else "bn2"
        x = F.conv2d(x, state[f"conv{i}.weight"], padding="same").relu()
        x = F.batch_norm(
            x, *(state[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        )
        x = F.max_pool2d(x, by)
    expected = F.leaky_relu(F.linear(x.flatten(1), state["fc1.weight"], state["fc1.bias"]), 0.1)
    file = {f"backbone.{name}": value for name, value in state.items()}
    network = Meso4((3, 64, 64), saved(file, tmp_path / "w.pth")).eval()
    with torch.no_grad():
        torch.testing.assert_close(network(image), expected)


def test_mesoinception4_without_relus_is_refused(tmp_path):
    state = {"backbone.Incption1_conv1.weight": torch.zeros(1, 3, 1, 1)}
    with pytest.raises(
        RogaError, match="DeepfakeBench's MesoInception-4, which has no ReLU in its inception modules"
    ):
        MesoInception4((3, 64, 64), saved(state, tmp_path / "w.pth"))


def test_the_layout_of_another_network_is_only_compared(tmp_path):
    given = saved({"resnet.0.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "w.pth")
    with pytest.raises(
        RogaError, match=r"is not for meso4: it lacks blocks.0.0.weight.*also has resnet.0.weight; 0 of"
    ):
        Meso4((3, 64, 64), given)


def xception_names():
    """Those of FaceForensics++'s Xception, which DeepfakeBench has: blocks of ReLU, separable convolution, norm."""
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    separable = ("conv1.weight", "pointwise.weight")
    for i in (1, 2):
        yield from (f"conv{i}.weight", *(f"bn{i}.{part}" for part in norm))
    for block in range(1, 13):
        first = 0 if block == 1 else 1  # the first block begins without a ReLU
        for at in range(first, first + (3 if 4 <= block <= 11 else 2) * 3, 3):
            yield from (f"block{block}.rep.{at}.{part}" for part in separable)
            yield from (f"block{block}.rep.{at + 1}.{part}" for part in norm)
        if block in (1, 2, 3, 12):  # those with a stride
            yield from (f"block{block}.skip.weight", *(f"block{block}.skipbn.{part}" for part in norm))
    for i in (3, 4):
        yield from (*(f"conv{i}.{part}" for part in separable), *(f"bn{i}.{part}" for part in norm))


def detector_file(name):
    """Name → tensor of DeepfakeBench's detector of that name, with random weights; and how many are the network's."""
    torch.manual_seed(0)
    if name == "resnet34":
        children = list(torchvision.models.resnet34().children())[:-2]
        inside = {f"resnet.{key}": value for key, value in nn.Sequential(*children).state_dict().items()}
        beside = {"fc.weight": torch.zeros(2, 512), "fc.bias": torch.zeros(2)}
    elif name == "xception":
        shapes = timm.create_model("legacy_xception", num_classes=0).state_dict()
        inside = {
            key: torch.rand_like(shapes[key].double()).to(shapes[key].dtype) for key in xception_names()
        }
        beside = {"last_linear.1.weight": torch.zeros(2, 2048), "last_linear.1.bias": torch.zeros(2)}
        beside |= {"adjust_channel.0.weight": torch.zeros(512, 2048, 1, 1)}
    elif name == "tf_efficientnet_b4":
        values = timm.create_model(name, num_classes=0).state_dict().values()
        names = efficientnet_pytorch_names((2, 4, 4, 6, 6, 8, 2))  # EfficientNet-B4's blocks
        inside = {f"efficientnet.{key}": value for key, value in zip(names, values, strict=True)}
        beside = {"last_layer.weight": torch.zeros(2, 1792), "last_layer.bias": torch.zeros(2)}
    else:
        inside = shared_norm_meso4()
        inside["fc1.weight"] = torch.randn(16, 16 * 8 * 8)  # images of 256 pixels
        beside = {key: inside.pop(key) for key in ("fc2.weight", "fc2.bias")}
    return {f"backbone.{key}": value for key, value in {**inside, **beside}.items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "n_tensors"), [("resnet34", 216), ("xception", 274), ("tf_efficientnet_b4", 704), ("meso4", 30)]
)
def test_the_four_backbones_of_deepfakebench_are_read(name, n_tensors, tmp_path):
    file = detector_file(name)
    network = load_backbone(name)((3, 256, 256), saved(file, tmp_path / "w.pth"))
    said = first_weights_of(network)
    assert f"all of its {n_tensors} tensors fit, left out: " in said
    ours = [value for value in network.state_dict().values() if value.dim() == 4]
    theirs = [value for key, value in file.items() if value.dim() == 4 and "adjust_channel" not in key]
    ours.sort(key=lambda value: (value.shape, value.sum().item()))
    theirs.sort(key=lambda value: (value.shape, value.sum().item()))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    (noted,) = (
        module.weights_statistics for module in network.modules() if hasattr(module, "weights_statistics")
    )
    assert noted == ((0.5,) * 3, (0.5,) * 3)
