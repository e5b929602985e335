"""Files of DeepfakeBench and of efficientnet_pytorch: names made here by the rule that those projects follow."""

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

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
