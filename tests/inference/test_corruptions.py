"""Corruptions against independent computations, on a photograph-like crop and on odd sizes."""

import colorsys
import io

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from roga_domainbed.errors import MissingExtra, RogaError
from roga_domainbed.inference.corruptions import CORRUPTIONS, STRENGTHS, chosen


@pytest.fixture(scope="module")
def crop():
    """(64, 64, 3): shapes, shades and grain, as a face has."""
    rng = np.random.RandomState(0)
    shades = ndimage.gaussian_filter(rng.randn(64, 64, 3), (6, 6, 0))
    shades = 128 + 60 * shades / np.abs(shades).max()
    shades[20:40, 16:30] -= 50
    return np.clip(shades + 6 * rng.randn(64, 64, 3), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def photograph():
    """(160, 160, 3): a temple in front of the sky."""
    from sklearn.datasets import load_sample_image

    return np.ascontiguousarray(load_sample_image("china.jpg")[100:260, 200:360])


def damaged(image, name, strength, seed=0):
    return CORRUPTIONS[name](image, strength, np.random.default_rng(seed))


def psnr(image, other):
    return 10 * np.log10(255**2 / np.mean((image.astype(float) - other) ** 2))


@pytest.mark.parametrize("which", ["crop", "photograph"])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_damage_grows_with_strength_and_zero_is_none(name, which, request):
    if name == "h264":
        pytest.importorskip("av")
    crop = request.getfixturevalue(which)
    before = crop.copy()
    assert damaged(crop, name, 0) is crop
    found = [damaged(crop, name, strength) for strength in STRENGTHS]
    values = [psnr(crop, own) for own in found]
    assert values == sorted(values, reverse=True), values
    assert values[0] - values[-1] > 2, "dB"
    assert all(own.dtype == np.uint8 and own.shape == crop.shape for own in found)
    np.testing.assert_array_equal(crop, before)


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (17, 33)])
def test_any_size_keeps_its_size_and_the_same_image_gives_the_same(name, shape):
    if name == "h264":
        pytest.importorskip("av")
    image = np.random.RandomState(1).randint(0, 256, (*shape, 3)).astype(np.uint8)
    for strength in (1, 5):
        once, twice = (damaged(image, name, strength) for _ in range(2))
        assert once.shape == image.shape
        np.testing.assert_array_equal(once, twice)


# ImageNet-C's code, imagenet_c/corruptions.py
IMAGENET_C = {
    "jpeg": [25, 18, 15, 10, 7],
    "blur": [1, 2, 3, 4, 6],
    "noise": [0.08, 0.12, 0.18, 0.26, 0.38],
    "resize": [0.6, 0.5, 0.4, 0.3, 0.25],
    "brightness": [0.1, 0.2, 0.3, 0.4, 0.5],
    "contrast": [0.4, 0.3, 0.2, 0.1, 0.05],
}


@pytest.mark.parametrize("name", IMAGENET_C)
@pytest.mark.parametrize("strength", STRENGTHS)
def test_a_corruption_is_what_its_strength_says(name, strength, crop):
    got = damaged(crop, name, strength).astype(int)
    value = IMAGENET_C[name][strength - 1]
    if name == "jpeg":
        file = io.BytesIO()
        Image.fromarray(crop).save(file, "JPEG", quality=value)
        wanted = np.array(Image.open(file))
    elif name == "blur":
        wanted = np.stack([ndimage.gaussian_filter(crop[..., c].astype(float), value) for c in range(3)], 2)
    elif name == "noise":
        drawn = np.random.default_rng(0).standard_normal(crop.shape, dtype=np.float32)
        wanted = np.clip(crop + 255.0 * value * drawn, 0, 255)
    elif name == "resize":
        small = Image.fromarray(crop).resize((int(64 * value),) * 2, Image.Resampling.BILINEAR)
        wanted = np.array(small.resize((64, 64), Image.Resampling.BILINEAR))
    elif name == "brightness":
        wanted = np.array([brighter(pixel, value) for pixel in crop.reshape(-1, 3)]).reshape(crop.shape)
    else:
        mean = crop.reshape(-1, 3).mean(axis=0)
        wanted = (crop - mean) * value + mean
    # blur and contrast may round the other way in the last digit of float32
    assert np.abs(got - wanted).max() <= (0 if name in ("jpeg", "resize") else 0.51)


def brighter(pixel, summand):
    hue, saturation, value = colorsys.rgb_to_hsv(*(pixel / 255))
    return np.array(colorsys.hsv_to_rgb(hue, saturation, min(value + summand, 1))) * 255


def test_the_noise_of_all_strengths_is_one_field_of_the_stated_sigma():
    grey = np.full((128, 128, 3), 128, np.uint8)
    mild, more = (damaged(grey, "noise", strength, seed=3).astype(float) - 128 for strength in (1, 2))
    assert mild.std() == pytest.approx(0.08 * 255, rel=0.01)
    inside = np.abs(more) < 127
    assert np.abs(more[inside] - 1.5 * mild[inside]).max() <= 1.25, "rounding: 0.5 and 1.5 times 0.5"
    assert not np.array_equal(damaged(grey, "noise", 1, seed=3), damaged(grey, "noise", 1, seed=4))


def test_h264_is_what_another_reader_and_writer_makes(crop):
    """The same clip through a container, by way of PyAV's streams."""
    av = pytest.importorskip("av")
    assert CORRUPTIONS["h264"].values[1] == 23
    assert CORRUPTIONS["h264"].values[4] == 40
    for strength, crf in ((2, 23), (5, 40)):
        file = io.BytesIO()
        with av.open(file, "w", format="matroska") as container:
            stream = container.add_stream("libx264", rate=25, options={"crf": str(crf)})
            stream.width = stream.height = 64
            stream.pix_fmt = "yuv420p"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(crop, format="rgb24")))
            container.mux(stream.encode(None))
        file.seek(0)
        with av.open(file) as container:
            (frame,) = container.decode(video=0)
        wanted = frame.to_ndarray(format="rgb24")
        np.testing.assert_array_equal(damaged(crop, "h264", strength), wanted)


def test_corruptions_are_chosen_by_name_each_once(monkeypatch):
    assert [own.name for own in chosen(["blur", "jpeg", "blur"])] == ["blur", "jpeg"]
    with pytest.raises(RogaError, match=r"unknown corruption 'jpg' .did you mean 'jpeg'"):
        chosen(["jpg"])
    monkeypatch.setattr("roga_domainbed.inference.corruptions.find_spec", lambda name: None)
    assert len(chosen(["noise"])) == 1
    with pytest.raises(
        MissingExtra, match=r"h264 needs the package 'av': pip install 'roga-domainbed\[prepare\]'"
    ):
        chosen([])
