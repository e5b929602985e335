"""The last feature map: known modules of known networks, and networks that have none."""

import pytest
import torch
import torch.nn.functional as F
from explained_runs import Detector, run_of
from torch import nn

from roga_domainbed.errors import RogaError
from roga_domainbed.inference.explain.feature_map import last_feature_map
from roga_domainbed.networks.backbones import timm_backbone
from roga_domainbed.networks.meso4 import Meso4

# Module and size from each network's paper or timm's own names: what its pooling gets.
KNOWN = [
    ("resnet34", 64, "featurizer.network.layer4", 2),
    ("resnet34", 32, "featurizer.network.layer3", 2),  # layer4 has a single position
    ("legacy_xception", 64, "featurizer.network.act4", 2),
    ("efficientnet_b4", 64, "featurizer.network.bn2", 2),
    (
        "mobilenetv3_small_050",
        64,
        "featurizer.network.blocks",
        2,
    ),  # its last convolution is behind the pooling
    ("convnext_atto", 64, "featurizer.network.norm_pre", 2),  # channels last inside
    ("densenet121", 64, "featurizer.network.features", 2),
]


def timm_run(name, side):
    featurizer = timm_backbone(name, (3, side, side), {"pretrained": False})
    return run_of(Detector(featurizer, nn.Linear(featurizer.n_outputs, 2)), (3, side, side), backbone=name)


@pytest.mark.parametrize(("name", "side", "module", "size"), KNOWN)
def test_the_map_is_what_the_global_pooling_gets(name, side, module, size):
    run = timm_run(name, side)
    found = last_feature_map(run)
    assert (found.name, found.height, found.width) == (module, size, size)
    assert found.module is run.algorithm.get_submodule(module)
    with torch.no_grad():
        run.algorithm.predict(torch.zeros(1, 3, side, side))  # the hooks are gone
    assert not any(module._forward_hooks for module in run.algorithm.modules())


def test_meso4s_map_is_the_one_before_its_last_pooling():
    run = run_of(Detector(Meso4((3, 64, 96), {}), nn.Linear(16, 2)), (3, 64, 96))
    found = last_feature_map(run)
    assert (found.name, found.height, found.width) == ("featurizer.blocks.3.2", 8, 12)


def test_tokens_of_a_vision_transformer_are_refused_with_its_name():
    with pytest.raises(
        RogaError, match=r"vit_tiny_patch16_224 goes on with tokens .* 'explain tsne' takes any"
    ):
        last_feature_map(timm_run("vit_tiny_patch16_224", 64))


def test_a_perceptron_has_no_map():
    algorithm = Detector(nn.Sequential(nn.Flatten(), nn.Linear(48, 5)), nn.Linear(5, 2))
    with pytest.raises(RogaError, match="ERM has no convolution whose output has more than one position"):
        last_feature_map(run_of(algorithm, (3, 4, 4)))


class Pooled(nn.Module):
    """A convolution, then ``after``, then the mean over space."""

    def __init__(self, after):
        super().__init__()
        self.conv, self.after = nn.Conv2d(3, 4, 3, padding=1), after

    def forward(self, x):
        return self.after(self.conv(x)).mean((2, 3))


def test_a_map_that_is_overwritten_is_not_taken_for_one():
    algorithm = Detector(Pooled(lambda x: F.relu(x, inplace=True)), nn.Linear(4, 2))
    with pytest.raises(RogaError, match="has no single feature map"):
        last_feature_map(run_of(algorithm, (3, 6, 6)))


def test_a_module_that_overwrites_is_taken_in_its_place():
    algorithm = Detector(Pooled(nn.ReLU(inplace=True)), nn.Linear(4, 2))
    assert last_feature_map(run_of(algorithm, (3, 6, 6))).name == "featurizer.after"


def test_a_module_that_runs_twice_has_two_maps_and_is_passed_over():
    twice = nn.ReLU()
    featurizer = Pooled(nn.Sequential(twice, nn.Conv2d(4, 4, 1), twice))
    found = last_feature_map(run_of(Detector(featurizer, nn.Linear(4, 2)), (3, 6, 6)))
    assert found.name == "featurizer.after", "the container runs once"
    featurizer = Pooled(nn.Sequential(twice, nn.Conv2d(4, 4, 1)))
    featurizer.after.forward = lambda x: twice(featurizer.after[1](twice(x)))
    found = last_feature_map(run_of(Detector(featurizer, nn.Linear(4, 2)), (3, 6, 6)))
    assert found.name == "featurizer.after"


def test_a_branch_that_no_logit_is_made_from_is_passed_over():
    class WithAside(Pooled):
        def forward(self, x):
            features = super().forward(x)
            self.aside(x)
            return features

    featurizer = WithAside(nn.Identity())
    featurizer.aside = nn.Conv2d(3, 4, 3, padding=1)
    found = last_feature_map(run_of(Detector(featurizer, nn.Linear(4, 2)), (3, 6, 6)))
    assert found.name == "featurizer.after"
