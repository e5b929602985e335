"""Phase images against numpy's FFT, residuals worked by hand, and the networks that look at them."""

import numpy as np
import pytest
import timm
import torch

from roga_domainbed import catalog
from roga_domainbed.engine import algorithms, networks
from roga_domainbed.engine.hparams_registry import default_hparams
from roga_domainbed.errors import RogaError
from roga_domainbed.networks.phase import phase_image
from roga_domainbed.networks.srm import residuals

SMALL = {"backbone": "meso4", "pretrained": False}


def images(*shape, seed=0, dtype=torch.float64):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("size", [(8, 8), (8, 6), (7, 9)])
def test_the_phase_image_is_numpys_with_the_amplitude_of_mean_square_one(size):
    x = images(2, 3, *size)
    for image, found in zip(x.numpy(), phase_image(x).numpy(), strict=True):
        spectrum = np.fft.fft2(image.mean(axis=0))
        theirs = np.fft.ifft2(np.exp(1j * np.angle(spectrum)))
        assert np.abs(theirs.imag).max() < 1e-12
        assert np.allclose(found[0], theirs.real * np.sqrt(size[0] * size[1]), atol=1e-10)
        assert np.mean(found**2) == pytest.approx(1)


def test_all_amplitudes_of_a_phase_image_are_equal_and_its_phases_are_the_images():
    x = images(1, 3, 16, 12)
    before, after = (np.fft.fft2(y.numpy()) for y in (x[0].mean(dim=0), phase_image(x)[0, 0]))
    assert np.allclose(np.abs(after), np.sqrt(16 * 12))
    assert np.allclose(after / np.abs(after), before / np.abs(before))


def test_the_phase_image_of_one_bright_pixel_is_that_pixel():
    # its spectrum is exp(-i(ua + vb)): of amplitude 1 already
    x = torch.zeros(1, 3, 6, 8)
    x[0, :, 2, 5] = 0.3
    expected = torch.zeros(6, 8)
    expected[2, 5] = 48**0.5
    assert torch.allclose(phase_image(x)[0, 0], expected, atol=1e-5)


def test_a_phase_image_is_of_its_own_image_and_of_the_colours_alone():
    x = images(3, 3, 8, 8)
    # Not to the bit: how many images are transformed at once decides the last digits on some processors.
    torch.testing.assert_close(phase_image(x)[1:2], phase_image(x[1:2]))
    with_context = torch.cat([x, images(3, 1, 8, 8, seed=1)], dim=1)  # as ARM's
    torch.testing.assert_close(phase_image(with_context), phase_image(x))
    assert torch.allclose(phase_image(x.roll(3, dims=2)), phase_image(x).roll(3, dims=2))


def test_phases_are_computed_in_32_bits_under_autocast():
    x = images(2, 3, 12, 12, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = phase_image(x)
    assert found.dtype == torch.float32
    assert torch.equal(found, phase_image(x))
    assert torch.allclose(phase_image(x.bfloat16()), phase_image(x.bfloat16().float()))


def test_residuals_of_an_impulse_are_the_filters():
    x = torch.zeros(1, 3, 9, 9)
    x[0, 1, 4, 4] = 1.0
    found = residuals(x)[0, :, 2:7, 2:7]
    row, square = torch.tensor([1.0, -2, 1]), torch.tensor([[-1.0, 2, -1], [2, -4, 2], [-1, 2, -1]])
    assert torch.equal(found[0, 1:4, 1:4], square / 4)
    assert torch.allclose(found[1, 2], torch.tensor([-2.0, 8, -12, 8, -2]) / 12)
    assert torch.allclose(found[1, 0], torch.tensor([-1.0, 2, -2, 2, -1]) / 12)
    assert torch.equal(found[2, 2, 1:4], row / 2)
    assert found.sum(dim=(1, 2)).abs().max() < 1e-6
    assert (found[0].count_nonzero(), found[1].count_nonzero(), found[2].count_nonzero()) == (9, 25, 3)


def test_residuals_of_polynomials_are_their_mixed_derivatives():
    y, x = torch.meshgrid(torch.arange(12.0), torch.arange(12.0), indexing="ij")
    inside = (..., slice(3, -3), slice(3, -3))  # edges reflect
    plane = (2 * x + 3 * y + 1)[None, None] / 10
    assert residuals(plane)[inside].abs().max() < 1e-5
    # along a row (1, -2, 1)/2 of x² is 1; the square filter takes second differences both ways: -(2·2)/4 of x²y²
    assert torch.allclose(residuals((x**2)[None, None])[0, 2][inside], torch.tensor(1.0))
    assert torch.allclose(residuals((x**2)[None, None])[0, 0][inside], torch.tensor(0.0))
    assert torch.allclose(residuals((x**2 * y**2)[None, None])[0, 0][inside], torch.tensor(-1.0))


def test_residuals_add_up_the_colours_and_end_at_three():
    x = images(1, 3, 8, 8)
    assert torch.allclose(residuals(x), residuals(x.sum(dim=1, keepdim=True)))
    assert residuals(1000 * x).abs().max() == 3
    assert torch.equal(residuals(torch.cat([x, 5 * x], dim=1)), residuals(x))


@pytest.mark.parametrize(("frequency", "width"), [("none", 16), ("phase", 16), ("srm", 32)])
def test_any_backbone_gets_the_stream(frequency, width):
    featurizer = networks.Featurizer((3, 64, 64), {**SMALL, "frequency": frequency})
    assert featurizer.n_outputs == width
    assert featurizer(images(2, 3, 64, 64, dtype=torch.float32)).shape == (2, width)


def test_the_network_sees_the_phase_and_the_noise():
    x = images(2, 3, 64, 64, dtype=torch.float32)
    featurizer = networks.Featurizer((3, 64, 64), {**SMALL, "frequency": "phase"}).eval()
    expected = featurizer.network(torch.cat([x, phase_image(x)], dim=1))
    assert torch.equal(featurizer(x), expected)
    featurizer = networks.Featurizer((3, 64, 64), {**SMALL, "frequency": "srm"}).eval()
    assert torch.equal(featurizer(x)[:, :16], featurizer.image(x))
    assert torch.equal(featurizer(x)[:, 16:], featurizer.noise(residuals(x)))


def test_a_network_chosen_by_the_images_side_gets_the_stream_too():
    featurizer = networks.Featurizer((1, 28, 28), {"frequency": "phase"})
    assert next(featurizer.parameters()).shape[1] == 2
    assert featurizer(images(2, 1, 28, 28, dtype=torch.float32)).shape == (2, featurizer.n_outputs)


def test_weights_from_a_file_are_spread_over_the_fourth_channel_and_start_both_streams(tmp_path):
    file = tmp_path / "resnet10t.pth"
    saved = timm.create_model("resnet10t", num_classes=0).state_dict()
    torch.save(saved, file)
    hparams = {"backbone": "resnet10t", "weights": str(file)}
    first = (
        networks.Featurizer((3, 64, 64), {**hparams, "frequency": "phase"}).network.network.conv1[0].weight
    )
    colours = saved["conv1.0.weight"]
    # timm's rule: the colours' weights over again, made smaller so that the sum over the channels keeps its size
    assert torch.allclose(first, torch.cat([colours, colours[:, :1]], dim=1) * 3 / 4)
    both = networks.Featurizer((3, 64, 64), {**hparams, "frequency": "srm"})
    for stream in (both.image, both.noise):
        assert all(torch.equal(value, saved[name]) for name, value in stream.network.state_dict().items())


@pytest.mark.parametrize("frequency", ["phase", "srm"])
@pytest.mark.parametrize("algorithm", ["ERM", "RoGA", "Fish"])
def test_algorithms_train_with_the_stream(algorithm, frequency):
    hparams = {**default_hparams(algorithm, "SynthFake"), **SMALL, "frequency": frequency}
    torch.manual_seed(0)
    made = algorithms.get_algorithm_class(algorithm)((3, 64, 64), 2, 2, hparams)
    first = [parameter.detach().clone() for parameter in made.parameters()]
    batch = [
        (images(4, 3, 64, 64, seed=i, dtype=torch.float32), torch.tensor([0, 1, 0, 1])) for i in range(2)
    ]
    assert np.isfinite(made.update(batch)["loss"])
    changed = [not torch.equal(old, new) for old, new in zip(first, made.parameters(), strict=True)]
    assert sum(changed) > len(changed) / 2


def test_what_cannot_be_is_said():
    with pytest.raises(
        RogaError, match=r"unknown hparam 'frequency' 'phases' .did you mean 'phase'.*none, phase, srm"
    ):
        networks.Featurizer((3, 64, 64), {**SMALL, "frequency": "phases"})
    with pytest.raises(
        RogaError, match=r"'frequency' 'srm' is for images, and samples have the shape \(7,\)"
    ):
        networks.Featurizer((7,), {**SMALL, "frequency": "srm"})


def test_the_hparam_names_the_streams():
    (frequency,) = [spec for spec in catalog.BACKBONE_HPARAMS if spec.name == "frequency"]
    assert frequency.default == "none"
    for name in frequency.choices:
        networks.Featurizer((3, 64, 64), {**SMALL, "frequency": name})
