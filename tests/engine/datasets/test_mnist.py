import json
import shutil
import struct

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as TF
from PIL import Image
from torchvision.datasets import MNIST

from roga_domainbed.engine.datasets import ColoredMNIST, RotatedMNIST
from roga_domainbed.errors import RogaError
from roga_domainbed.input.environment import OpenDataset
from roga_domainbed.trainer.config import TrainConfig
from roga_domainbed.trainer.run import train

N_TRAIN, N_TEST = 500, 100


def _write_idx(path, array):
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


@pytest.fixture(scope="module")
def pictures():
    """600 pictures whose corner tells the digit, and the digits."""
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (N_TRAIN + N_TEST, 28, 28), dtype=np.uint8)
    digits = draw.integers(0, 10, N_TRAIN + N_TEST)
    images[:, 0, 0] = 10 + digits
    return images, digits


@pytest.fixture(scope="module")
def root(pictures, tmp_path_factory):
    images, digits = pictures
    root = tmp_path_factory.mktemp("mnist")
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, rows in (("train", slice(0, N_TRAIN)), ("t10k", slice(N_TRAIN, None))):
        _write_idx(raw / f"{part}-images-idx3-ubyte", images[rows])
        _write_idx(raw / f"{part}-labels-idx1-ubyte", digits[rows])
    return root


def test_rotated_digits_are_dealt_evenly_and_each_once(root, pictures):
    dataset = RotatedMNIST(root, [0], {})
    assert (len(dataset), dataset.input_shape, dataset.num_classes) == (6, (1, 28, 28), 10)
    assert OpenDataset(dataset).class_names == list("0123456789")
    assert [len(environment) for environment in dataset] == [100] * 6
    dealt = [image.numpy().tobytes() for environment in dataset for image in environment.images]
    assert sorted(dealt) == sorted(image.tobytes() for image in pictures[0])


def test_rotation_is_bilinear_by_the_angle_of_the_environment(root):
    dataset = RotatedMNIST(root, [0], {})
    for environment, angle in zip(dataset, [0, 15, 30, 45, 60, 75], strict=True):
        original = Image.fromarray(environment.images[3].numpy())
        expected = TF.to_tensor(TF.rotate(original, angle, TF.InterpolationMode.BILINEAR, fill=(0,)))
        image, label = environment[3]
        assert torch.equal(image, expected)
        assert type(label) is int
        assert label == environment.labels[3] == environment.images[3, 0, 0] - 10


def test_colour_agrees_with_the_label_as_often_as_the_environment_says(root):
    dataset = ColoredMNIST(root, [0], {})
    assert (len(dataset), dataset.input_shape, dataset.num_classes) == (3, (2, 28, 28), 2)
    assert OpenDataset(dataset).class_names == ["5 to 9", "0 to 4"]
    for environment, agreement in zip(dataset, [0.9, 0.8, 0.1], strict=True):
        empty = (environment.images.flatten(2).amax(2) == 0).numpy()
        assert (empty.sum(1) == 1).all()  # one channel of two is black
        colour = empty.argmin(1)
        digit = environment.images[:, :, 0, 0].amax(1).numpy() - 10
        # 200 samples: four standard errors are 0.09 to 0.12
        assert (colour == environment.labels).mean() == pytest.approx(agreement, abs=0.1)
        assert ((digit < 5) == environment.labels).mean() == pytest.approx(0.75, abs=0.12)
        image, label = environment[0]
        assert (image.dtype, type(label)) == (torch.float32, int)
        torch.testing.assert_close(image * 255, environment.images[0].float())


@pytest.mark.parametrize("kind", [RotatedMNIST, ColoredMNIST])
def test_digits_of_half_the_side_are_means_of_four_pixels_of_the_finished_image(root, kind):
    whole, half = kind(root, [0], {"image_size": 28}), kind(root, [0], {"image_size": 14})
    channels = whole.input_shape[0]
    assert (whole.input_shape, half.input_shape) == ((channels, 28, 28), (channels, 14, 14))
    for environment, smaller in zip(whole, half, strict=True):
        (image, label), (mean, same) = environment[3], smaller[3]
        assert label == same
        pixels = image.numpy()
        four = (pixels[:, ::2, ::2], pixels[:, 1::2, ::2], pixels[:, ::2, 1::2], pixels[:, 1::2, 1::2])
        np.testing.assert_allclose(mean.numpy(), sum(four) / 4, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", [RotatedMNIST, ColoredMNIST])
def test_without_image_size_digits_are_those_of_28_pixels(root, kind):
    for environment, same in zip(kind(root, [0], {}), kind(root, [0], {"image_size": 28}), strict=True):
        assert torch.equal(environment[7][0], same[7][0])


@pytest.mark.parametrize("side", [20, 32])
def test_digits_of_any_side_keep_their_range_and_their_grey(root, side):
    image, _ = RotatedMNIST(root, [0], {"image_size": side})[0][3]
    original, _ = RotatedMNIST(root, [0], {})[0][3]
    assert image.shape == (1, side, side)
    assert original.min() <= image.min()
    assert image.max() <= original.max()
    assert image.mean().item() == pytest.approx(original.mean().item(), rel=0.02)


@pytest.mark.parametrize("path", ["fast", "exact"])
def test_a_run_on_14_pixels_trains_the_small_perceptron(root, path, tmp_path):
    hparams = {"image_size": 14, "backbone": "mlp", "batch_size": 8}
    train(
        TrainConfig(
            dataset="RotatedMNIST", data_dir=str(root), hparams=json.dumps(hparams), steps=2, n_workers=0,
            input=path, output_dir=str(tmp_path / path),
        )
    )  # fmt: skip
    saved = torch.load(tmp_path / path / "model.pkl", weights_only=True)
    assert saved["model_input_shape"] == (1, 14, 14)
    shapes = {tuple(value.shape) for value in saved["model_dict"].values()}
    assert shapes == {(128, 196), (128,), (10, 128), (10,)}


@pytest.mark.parametrize("kind", [RotatedMNIST, ColoredMNIST])
def test_partition_and_flips_do_not_depend_on_torchs_random_state(root, kind):
    torch.manual_seed(0)
    first = kind(root, [0], {})
    torch.manual_seed(1)
    for one, other in zip(first, kind(root, [0], {}), strict=True):
        assert torch.equal(one.images, other.images)
        assert (one.labels == other.labels).all()


def test_without_a_network_the_refusal_says_where_to_put_the_four_files(tmp_path, monkeypatch):
    def fail(self):
        raise RuntimeError("Error downloading\nno route")

    monkeypatch.setattr(MNIST, "download", fail)
    with pytest.raises(RogaError) as caught:
        RotatedMNIST(tmp_path / "data", [0], {})
    message = str(caught.value)
    for kind in ("images-idx3", "labels-idx1"):
        assert f"train-{kind}-ubyte" in message
        assert f"t10k-{kind}-ubyte" in message
    assert f"(unpacked) into '{tmp_path / 'data' / 'MNIST' / 'raw'}'" in message
    assert message.endswith("The download said: Error downloading no route")
    assert not list((tmp_path / "data").iterdir())


def test_a_download_is_moved_into_place(root, tmp_path, monkeypatch):
    def fetch(self):
        shutil.copytree(root / "MNIST" / "raw", self.raw_folder)

    monkeypatch.setattr(MNIST, "download", fetch)
    assert len(RotatedMNIST(tmp_path, [0], {})[0]) == 100
    assert [path.name for path in tmp_path.iterdir()] == ["MNIST"]
    monkeypatch.setattr(MNIST, "download", lambda self: pytest.fail("downloaded again"))
    assert len(RotatedMNIST(tmp_path, [0], {})[0]) == 100


def test_damaged_files_are_refused(root, tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in (root / "MNIST" / "raw").iterdir():
        (raw / file.name).write_bytes(file.read_bytes()[:1000])
    with pytest.raises(RogaError, match=r"the MNIST files in '.*raw' are damaged .*: remove them"):
        RotatedMNIST(tmp_path, [0], {})
