"""Our backward pass of batch norm against torch's, against differences, and where it is used."""

import pytest
import torch
from torch import nn

from roga_domainbed.networks import few_channels
from roga_domainbed.networks.few_channels import FewChannelsBatchNorm2d

SHAPES = [(4, 4, 6, 10), (3, 4, 7, 7), (2, 4, 32, 32), (1, 4, 1, 2)]


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def calls(monkeypatch):
    """How often the backward pass here was taken."""
    found, backward = [], few_channels._backward
    monkeypatch.setattr(few_channels, "_backward", lambda *args: found.append(1) or backward(*args))
    return found


def pair(channels=4, dtype=torch.float64, **options):
    ours, theirs = (cls(channels, dtype=dtype, **options) for cls in (FewChannelsBatchNorm2d, nn.BatchNorm2d))
    with torch.no_grad():
        ours.weight.uniform_(0.5, 2)
        ours.bias.normal_()
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def images(shape, dtype=torch.float64):
    x = 3 + torch.randn(shape, dtype=dtype)
    return x.contiguous(memory_format=torch.channels_last).requires_grad_()


def outcome(layer, x, towards):
    y = layer(x)
    return y, *torch.autograd.grad(y, (x, layer.weight, layer.bias), towards)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("contiguous", [True, False], ids=["nchw gradient", "channels-last gradient"])
def test_values_gradients_and_statistics_are_torchs(shape, contiguous, calls):
    ours, theirs = pair()
    x, towards = images(shape), torch.randn(shape, dtype=torch.float64)
    towards = towards if contiguous else towards.contiguous(memory_format=torch.channels_last)
    for _ in range(2):
        for found, expected in zip(outcome(ours, x, towards), outcome(theirs, x, towards), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    for name, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value)
    assert len(calls) == 2


def test_first_and_second_derivatives_are_those_of_differences():
    ours, _ = pair(3)
    x = images((2, 3, 3, 2))
    inputs = (x, ours.weight, ours.bias)

    def function(x, weight, bias):
        return torch.func.functional_call(ours, {"weight": weight, "bias": bias}, (x,))

    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


def test_float32_is_as_near_to_float64_as_torchs_own(calls):
    shape = (8, 8, 32, 32)
    ours, theirs = pair(8, torch.float32)
    x, towards = images(shape, torch.float32), torch.randn(shape)
    exact = outcome(theirs.double(), x.detach().double().requires_grad_(), towards.double())
    for layer in (ours, theirs.float()):
        errors = [
            ((found - expected).abs().max() / expected.abs().max()).item()
            for found, expected in zip(outcome(layer, x, towards), exact, strict=True)
        ]
        assert max(errors) < 2e-5, errors
    assert calls


def test_statistics_that_are_not_tracked_do_not_move():
    ours, theirs = pair()
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    ours.track_running_stats = theirs.track_running_stats = False
    x = images((4, 4, 6, 6))
    torch.testing.assert_close(ours(x), theirs(x))
    assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())


def test_vmapped_parameters_have_torchs_gradients():
    ours, theirs = pair(track_running_stats=False)
    x = images((2, 4, 6, 6)).detach()
    weights = torch.rand(3, 4, dtype=torch.float64)

    def gradient(layer):
        def loss(weight):
            return torch.func.functional_call(layer, {"weight": weight}, (x,)).pow(3).sum()

        return torch.vmap(torch.func.grad(loss))(weights)

    torch.testing.assert_close(gradient(ours), gradient(theirs))


@pytest.mark.parametrize(
    "elsewhere",
    ["one thread", "evaluation", "contiguous", "a whole cache line", "no affine", "average of all batches"],
)
def test_elsewhere_it_is_torchs_own(elsewhere, monkeypatch):
    monkeypatch.setattr(few_channels._BatchNorm, "apply", lambda *_: pytest.fail("the pass here was taken"))
    ours = FewChannelsBatchNorm2d(
        16 if elsewhere == "a whole cache line" else 8,
        affine=elsewhere != "no affine",
        momentum=None if elsewhere == "average of all batches" else 0.1,
    ).train(elsewhere != "evaluation")
    x = images((2, ours.num_features, 4, 4), torch.float32)
    if elsewhere == "one thread":
        torch.set_num_threads(1)
    ours(x.detach().contiguous() if elsewhere == "contiguous" else x).sum().backward()


def test_one_value_a_channel_is_refused_as_by_torch():
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        FewChannelsBatchNorm2d(8)(torch.zeros(1, 8, 1, 1))
