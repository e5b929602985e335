"""Heat maps by hand, and against the library's own call, for the backbones of the paper."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from explained_runs import Detector, run_of
from torch import nn

from roga_domainbed.errors import Failed
from roga_domainbed.inference.explain.feature_map import last_feature_map
from roga_domainbed.inference.explain.heat_maps import heat_maps
from roga_domainbed.networks.backbones import timm_backbone
from roga_domainbed.networks.meso4 import Meso4

pytest.importorskip("pytorch_grad_cam")


def maps_of(run, x, method="gradcam"):
    with heat_maps(run, last_feature_map(run), method) as explain:
        return explain(x)


def tiny(fake, real=0.0, n_logits=2):
    """A 1x1 convolution to A = (x, x/2) of 2x2 images, and a linear layer with the weights ``fake``, (2, 2, 2)."""
    conv, linear = nn.Conv2d(1, 2, 1, bias=False), nn.Linear(8, n_logits, bias=False)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([1.0, 0.5]).view(2, 1, 1, 1))
        linear.weight.fill_(real)
        linear.weight[-1] = torch.tensor(fake).flatten()
    return run_of(Detector(conv, nn.Sequential(nn.Flatten(), linear)), (1, 2, 2))


X = torch.tensor([[[[4.0, 1.0], [-2.0, 2.0]]]])
W = [[[1.0, -1.0], [1.0, 1.0]], [[0.0, 2.0], [0.0, 2.0]]]
# A1 = [4 1; -2 2], A2 = [2 .5; -1 1]; the means of the gradients W are 1/2 and 1.
BY_HAND = {
    "gradcam": [[1, 0.25], [0, 0.5]],  # ReLU(A1/2 + A2) = [4 1; 0 2]
    "hirescam": [[1, 0], [0, 1]],  # ReLU(W1 A1 + W2 A2) = [4 0; 0 4]
    "layercam": [[1, 0.25], [0, 1]],  # ReLU([1 0; 1 1] A1 + W2 A2) = [4 1; 0 4]
}


@pytest.mark.parametrize("method", BY_HAND)
@pytest.mark.parametrize("n_logits", [1, 2])
def test_a_map_of_four_places_equals_the_one_worked_by_hand(method, n_logits):
    maps, fake = maps_of(tiny(W, n_logits=n_logits), X, method)
    np.testing.assert_allclose(maps[0], BY_HAND[method], atol=1e-6)
    # the logit of fake is W1 A1 + W2 A2 summed: 4 - 1 - 2 + 2, and 0 + 1 + 0 + 2
    np.testing.assert_allclose(fake, [1 / (1 + np.exp(-6.0))], rtol=1e-6)


def test_it_is_the_logit_of_fake_and_not_that_of_real():
    np.testing.assert_allclose(maps_of(tiny(W, real=7.0), X)[0][0], BY_HAND["gradcam"], atol=1e-6)


def test_where_nothing_speaks_for_fake_the_map_is_zero():
    maps, _ = maps_of(tiny([[[-1.0] * 2] * 2] * 2), X.abs())
    assert (maps == 0).all()


def test_a_batch_gives_what_its_images_give_alone():
    run, x = tiny(W), torch.cat([X, -X, X.flip(3)])
    maps, fake = maps_of(run, x)
    for place in range(3):
        alone, fake_alone = maps_of(run, x[place : place + 1])
        np.testing.assert_allclose(maps[place], alone[0], atol=1e-6)
        np.testing.assert_allclose(fake[place], fake_alone[0], rtol=1e-6)


def test_an_output_that_is_not_finite_has_no_map():
    with pytest.raises(Failed, match="NaN or infinite"):
        maps_of(tiny(W), X * float("inf"))


def test_no_graph_is_kept_in_front_of_the_map_and_no_hook_behind():
    run = tiny(W)
    conv = run.algorithm.featurizer
    run.algorithm.featurizer = nn.Sequential(nn.Conv2d(1, 1, 1), conv)
    seen = []
    run.algorithm.featurizer[0].register_forward_hook(
        lambda module, args, output: seen.append(output.requires_grad)
    )
    where = last_feature_map(run)
    assert where.name == "featurizer"
    seen.clear()
    with heat_maps(run, where, "gradcam") as explain:
        explain(X)
    assert seen == [False]
    assert not where.module._forward_hooks
    assert not conv._forward_hooks


def test_an_index_error_inside_is_not_swallowed():
    run = tiny(W)
    with pytest.raises(IndexError), heat_maps(run, last_feature_map(run), "gradcam"):
        raise IndexError


def _resnet(featurizer, x):
    network = featurizer.network
    return network.layer4, network.forward_features(x), network.forward_head


def _xception(featurizer, x):
    network = featurizer.network
    return network.act4, network.forward_features(x), network.forward_head


def _efficientnet(featurizer, x):
    network = featurizer.network
    return network.bn2, network.forward_features(x), network.forward_head


def _meso4(featurizer, x):
    def head(a):
        return featurizer.hidden(featurizer.blocks[3][3](a).flatten(1))

    return featurizer.blocks[3][2], featurizer.blocks[3][:3](featurizer.blocks[:3](x)), head


#: name → builder, side of the image, and (featurizer, x) → target layer, its output, the rest of the featurizer.
BACKBONES = {
    "resnet34": (timm_backbone, 96, _resnet),
    "legacy_xception": (timm_backbone, 96, _xception),
    "efficientnet_b4": (timm_backbone, 96, _efficientnet),
    "meso4": (lambda name, shape, hparams: Meso4(shape, hparams), 64, _meso4),
}


@pytest.fixture(scope="module", params=BACKBONES)
def backbone(request):
    """A run with random weights, two images, and how its network is taken apart."""
    build, side, parts = BACKBONES[request.param]
    torch.manual_seed(3)
    featurizer = build(request.param, (3, side, side), {"pretrained": False})
    classifier = nn.Linear(featurizer.n_outputs, 2)
    run = run_of(Detector(featurizer, classifier), (3, side, side), backbone=request.param)
    x = torch.randn(2, 3, side, side)
    with torch.no_grad():  # of random weights one sign or the other speaks for fake: take the one that does
        if maps_of(run, x)[0].max() == 0:
            classifier.weight.neg_()
    return run, x, parts


def test_grad_cam_by_hand(backbone):
    """Weights are the gradient's mean over space; ReLU of the weighted sum; resized bilinearly; from 0 to 1."""
    run, x, parts = backbone
    algorithm = run.algorithm
    with torch.no_grad():
        _, a, head = parts(algorithm.featurizer, x)
    a = a.detach().requires_grad_()
    fake = algorithm.classifier(head(a))[:, 1]
    (gradient,) = torch.autograd.grad(fake.sum(), a)
    cam = F.relu((gradient.mean((2, 3), keepdim=True) * a).sum(1, keepdim=True)).detach()
    cam = F.interpolate(cam, x.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    low, high = cam.amin((1, 2), keepdim=True), cam.amax((1, 2), keepdim=True)
    expected = (cam - low) / (high - low)
    maps, probabilities = maps_of(run, x)
    assert maps.shape == (2, *x.shape[2:])
    assert maps.max() > 0.5, "two zero maps would be equal, too"
    np.testing.assert_allclose(maps, expected.numpy(), atol=1e-5)
    expected = torch.softmax(algorithm.predict(x).detach(), 1)[:, 1]
    np.testing.assert_allclose(probabilities, expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("method", ["gradcam", "layercam", "hirescam"])
def test_a_map_is_that_of_the_librarys_own_call(backbone, method):
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    run, x, parts = backbone
    algorithm = run.algorithm
    maps, _ = maps_of(run, x, method)
    assert maps.max() > 0.5
    algorithm.requires_grad_(True)
    layer, _, _ = parts(algorithm.featurizer, x)
    network = nn.Sequential(algorithm.featurizer, algorithm.classifier)
    names = {"gradcam": "GradCAM", "layercam": "LayerCAM", "hirescam": "HiResCAM"}
    own = getattr(pytorch_grad_cam, names[method])(network, [layer])
    np.testing.assert_allclose(maps, own(x, [ClassifierOutputTarget(1)] * 2), atol=1e-5)
