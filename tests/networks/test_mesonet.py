"""Meso-4 and MesoInception-4 against the paper's numbers and against layers worked out with numpy."""

import numpy as np
import pytest
import torch
from torch import nn

from roga_domainbed.errors import RogaError
from roga_domainbed.networks.meso4 import Meso4
from roga_domainbed.networks.mesoinception4 import Inception, MesoInception4


@pytest.mark.parametrize(
    ("network", "published"),
    [
        (Meso4, 27_977),
        (MesoInception4, 28_615),
    ],  # arXiv:1809.00888, section III; so large are its authors' files
)
def test_with_the_papers_output_they_have_its_number_of_weights(network, published):
    with_output = nn.Sequential(network((3, 256, 256), {}), nn.Linear(16, 1))
    assert sum(weight.numel() for weight in with_output.parameters()) == published


@pytest.mark.parametrize(("network", "name"), [(Meso4, "meso4"), (MesoInception4, "mesoinception4")])
def test_any_side_from_32_on_gives_16_features(network, name):
    for shape in ((3, 32, 32), (1, 40, 70), (3, 256, 256)):
        assert network(shape, {})(torch.zeros(2, *shape)).shape == (2, 16)
    with pytest.raises(RogaError, match=rf"{name} pools by 32 in all and .*at least 32x32; got 64x31"):
        network((3, 64, 31), {})


@pytest.mark.parametrize("network", [Meso4, MesoInception4])
def test_the_dropout_is_the_hyper_parameter(network):
    found = [
        module.p
        for module in network((3, 32, 32), {"meso4_dropout": 0.3}).modules()
        if isinstance(module, nn.Dropout)
    ]
    assert found == [0.3, 0.3]


def convolution(x, weight, bias, dilation=1):
    """(channels, height, width) → the same size: for each output and offset a multiple of the shifted image."""
    n_out, n_in, side, _ = weight.shape
    _, height, width = x.shape
    border = dilation * (side // 2)
    padded = np.pad(x, ((0, 0), (border, border), (border, border)))
    y = np.zeros((n_out, height, width)) + bias[:, None, None]
    for o in range(n_out):
        for i in range(n_in):
            for row in range(side):
                for column in range(side):
                    top, left = row * dilation, column * dilation
                    y[o] += weight[o, i, row, column] * padded[i, top : top + height, left : left + width]
    return y


def normalized(x, norm):
    mean, var, scale, shift = (
        value.detach().numpy()[:, None, None]
        for value in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    return (x - mean) / np.sqrt(var + norm.eps) * scale + shift


def pooled(x, by):
    n, height, width = x.shape
    return x.reshape(n, height // by, by, width // by, by).max(axis=(2, 4))


def relu(x):
    return np.maximum(x, 0)


def arrays(layer):
    return layer.weight.detach().numpy(), layer.bias.detach().numpy()


def hidden(x, layer):
    weight, bias = arrays(layer)
    y = weight @ x.reshape(-1) + bias
    return np.where(y > 0, y, 0.1 * y)


def with_statistics(network):
    """In float64 and evaluation, its batch norms as after some training."""
    generator = torch.Generator().manual_seed(1)
    network.double().eval()
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for values, low in (
                (norm.running_mean, -0.3),
                (norm.running_var, 0.5),
                (norm.weight.data, 0.5),
                (norm.bias.data, -0.2),
            ):
                values.copy_(low + torch.rand(values.shape, generator=generator, dtype=torch.float64))
    return network


def test_meso4_is_four_blocks_of_convolution_relu_norm_and_pooling():
    torch.manual_seed(0)
    network = with_statistics(Meso4((3, 32, 64), {}))
    image = torch.randn(1, 3, 32, 64, dtype=torch.float64)
    x = image[0].numpy()
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert [tuple(c.weight.shape) for c in convolutions] == [
        (8, 3, 3, 3),
        (8, 8, 5, 5),
        (16, 8, 5, 5),
        (16, 16, 5, 5),
    ]
    for conv, norm, by in zip(convolutions, norms, (2, 2, 2, 4), strict=True):
        x = pooled(normalized(relu(convolution(x, *arrays(conv))), norm), by)
    expected = hidden(x, network.hidden[1])
    np.testing.assert_allclose(network(image)[0].detach().numpy(), expected, rtol=1e-10)


def test_mesoinception4_is_two_inception_modules_and_two_blocks():
    torch.manual_seed(0)
    network = with_statistics(MesoInception4((3, 64, 32), {}))
    image = torch.randn(1, 3, 64, 32, dtype=torch.float64)
    x = image[0].numpy()
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for block, norm in zip(network.blocks[:2], norms[:2], strict=True):
        convolutions = [module for module in block.modules() if isinstance(module, nn.Conv2d)]
        first, *pairs = convolutions
        outputs = [relu(convolution(x, *arrays(first)))]
        for dilation in (1, 2, 3):
            one, three = pairs[2 * dilation - 2 : 2 * dilation]
            outputs.append(relu(convolution(relu(convolution(x, *arrays(one))), *arrays(three), dilation)))
        x = pooled(normalized(np.concatenate(outputs), norm), 2)
    for block, norm, by in zip(network.blocks[2:], norms[2:], (2, 4), strict=True):
        x = pooled(normalized(relu(convolution(x, *arrays(block[0]))), norm), by)
    expected = hidden(x, network.hidden[1])
    np.testing.assert_allclose(network(image)[0].detach().numpy(), expected, rtol=1e-10)


def test_an_inception_module_reaches_1_3_5_and_7_pixels_far():
    module = Inception(1, (1, 1, 1, 1))
    with torch.no_grad():
        for weight in module.parameters():
            weight.fill_(1.0 if weight.dim() == 4 else 0.0)
    point = torch.zeros(1, 1, 9, 9)
    point[0, 0, 4, 4] = 1
    found = [set(zip(*np.nonzero(channel.numpy()), strict=True)) for channel in module(point)[0].detach()]
    spread = [
        {(4 + d * row, 4 + d * column) for row in (-1, 0, 1) for column in (-1, 0, 1)} for d in (1, 2, 3)
    ]
    assert found == [{(4, 4)}, *spread]


def test_an_inception_module_has_the_widths_of_its_branches():
    assert Inception(5, (2, 4, 4, 2))(torch.zeros(1, 5, 8, 8)).shape == (1, 12, 8, 8)
