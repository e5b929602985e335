"""``roga_domainbed.load``: what it takes, what it refuses, and that it says what ``predict`` says."""

import io
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from saved_models import pictures, save_model

import roga_domainbed
from roga_domainbed.cli import main
from roga_domainbed.errors import RogaError


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def model(run):
    return roga_domainbed.load(run, device="cpu")


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, roga_domainbed as r; r.load; sys.exit(bool({'torch', 'numpy', 'PIL'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("kind", ["faces", "folders"])
def test_it_says_what_predict_says_to_the_bit(kind, tmp_path, capsys):
    run = save_model(tmp_path / "run", kind=kind)
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    files = [folder / f"{i:03d}.png" for i in range(70)]  # more than a batch
    for i, file in enumerate(files):
        height, width = rng.integers(20, 60, 2)  # resized, and not square
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(file)
        if i % 10 == 0:
            Image.open(file).convert("L").save(file)
    assert main(["predict", str(run), str(folder), "--no_detect", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)["results"]
    assert [result["path"] for result in found] == list(map(str, files))
    expected = np.array([result["faces"][0]["probability"] for result in found])
    assert np.ptp(expected) > 0.1

    model = roga_domainbed.load(run)
    arrays = [np.asarray(Image.open(file).convert("RGB")) for file in files]
    for images in (files, map(str, files), map(Image.open, files), arrays):
        probabilities = model.predict(images)
        assert (probabilities.dtype, probabilities.shape) == (np.float64, (70,))
        assert probabilities.tobytes() == expected.tobytes()


def test_one_image_and_a_stack_and_none(model, tmp_path):
    stack = pictures(3, 32)
    expected = model.predict(list(stack))
    assert np.array_equal(model.predict(stack), expected)
    Image.fromarray(stack[1]).save(tmp_path / "a.png")
    for one in (stack[1], Image.fromarray(stack[1]), tmp_path / "a.png", str(tmp_path / "a.png")):
        assert model.predict(one) == pytest.approx(expected[1:2], abs=1e-6)  # another size of batch
    assert model.predict([]).shape == (0,)


def test_an_open_image_is_seen_as_its_file_and_stays_as_it_is(model, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.fromarray(pictures(2, 32)[1]).resize((40, 24)).save(tmp_path / "turned.jpg", exif=exif)
    with Image.open(tmp_path / "turned.jpg") as image:
        assert model.predict(image) == model.predict(tmp_path / "turned.jpg")
        assert (image.size, image.getexif()[0x0112]) == ((40, 24), 6)
    levels = (np.arange(32 * 32, dtype=np.uint16) * 60).reshape(32, 32)
    Image.fromarray(levels).save(tmp_path / "deep.png")  # 16 bits
    with Image.open(tmp_path / "deep.png") as image:
        assert model.predict(image) == model.predict(tmp_path / "deep.png")


def test_it_says_what_it_is(model):
    assert model.classes == ("real", "fake")
    assert model.is_detector
    assert (
        model.trained_on
        == "ERM, trained on SynthFake without test_envs 3, trial_seed 0, hparams_seed 0, seed 0"
    )
    assert repr(model) == f"<{model.trained_on}; real or fake; 32x32 pixels>"
    assert not model.run.algorithm.training


def test_the_probability_is_of_fake_whatever_the_number_of_that_class(tmp_path):
    images = pictures(5, 32)
    usual = roga_domainbed.load(save_model(tmp_path / "a", classes=("0_real", "1_fake")))
    turned = roga_domainbed.load(save_model(tmp_path / "b", classes=("altered", "original")))
    assert usual.classes == ("0_real", "1_fake")
    assert turned.classes == ("original", "altered")
    assert turned.predict(images) == pytest.approx(1 - usual.predict(images))


@pytest.mark.parametrize("classes", [("cat", "dog", "fish"), ("cat", "dog")])
def test_other_models_have_a_column_a_class(classes, tmp_path):
    model = roga_domainbed.load(save_model(tmp_path, classes=classes, kind="folders"))
    assert not model.is_detector
    assert model.classes == classes
    found = model.predict(pictures(4, 32))
    assert (found.shape, found.dtype) == ((4, len(classes)), np.float64)
    assert found.sum(axis=1) == pytest.approx(np.ones(4))
    assert model.predict([]).shape == (0, len(classes))


TAKEN = "predict takes PIL images, paths of image files and uint8 arrays"


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (np.zeros((8, 8, 3)), r"image 0 is of type ndarray of float64 and shape \(8, 8, 3\); " + TAKEN),
        (np.zeros((8, 8), np.uint8), r"image 0 is of type ndarray of uint8 and shape \(8, 8\); " + TAKEN),
        (np.zeros((8, 8, 4), np.uint8), r"shape \(8, 8, 4\)"),
        (np.zeros((3, 8, 8), np.uint8), r"shape \(3, 8, 8\)"),
        (np.zeros((0, 8, 3), np.uint8), r"shape \(0, 8, 3\)"),
        (
            [np.zeros((8, 8, 3), np.uint8), torch.zeros(3, 8, 8)],
            "image 1 is of type Tensor of torch.float32 and shape",
        ),
        ([None], "image 0 is of type NoneType; " + TAKEN),
        (7, TAKEN + ".*; got int"),
        (b"abc", "; got bytes"),
        ({"a.png": 1}, "; got dict"),
        ("no/such.png", "cannot read the image 'no/such.png'"),
        (["."], "cannot read the image '.'"),
        ([Image.new("F", (8, 8))], "image 0 cannot be read: its pixels are numbers whose range is not known"),
    ],
)
def test_what_is_no_image_is_refused(images, said, model):
    with pytest.raises(RogaError, match=said):
        model.predict(images)


def test_a_truncated_open_image_is_refused(model, tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(pictures(2, 64)[1]).save(buffer, "PNG")
    with (
        Image.open(io.BytesIO(buffer.getvalue()[:-2000])) as image,
        pytest.raises(RogaError, match="image 1 cannot be read: "),
    ):
        model.predict([pictures(1, 32)[0], image])


def test_no_number_is_given_for_nan(run):
    model = roga_domainbed.load(run)
    with torch.no_grad():
        next(model.run.algorithm.parameters()).fill_(float("nan"))
    with pytest.raises(RogaError, match="output is NaN for 3 of 3 images, first for image 0"):
        model.predict(pictures(3, 32))


@pytest.mark.parametrize("device", ["cuda:99", "tpu", "meta", ""])
def test_a_device_that_cannot_compute_here_is_refused(device, run):
    with pytest.raises(RogaError, match=f"device '{device}' cannot be used here: "):
        roga_domainbed.load(run, device=device)


def test_no_run_and_a_model_of_no_images_are_refused(tmp_path):
    with pytest.raises(RogaError, match="no such run"):
        roga_domainbed.load(tmp_path / "nowhere")
    run = save_model(tmp_path / "digits", kind=None, dataset="RotatedMNIST", classes=list("0123456789"))
    with pytest.raises(RogaError, match="trained on RotatedMNIST, whose samples are no image files"):
        roga_domainbed.load(run)
