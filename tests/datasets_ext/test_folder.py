import pickle

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile
from prepared_trees import write_tree

from datasets_ext import folder, manifest
from datasets_ext.folder import ManifestDataset
from roga_domainbed.errors import RogaError
from roga_domainbed.input.image_files import read_image
from roga_domainbed.input.minibatches import IndexSampler
from roga_domainbed.input.path import InputOptions, InputPath

HPARAMS = {"image_size": 32, "data_augmentation": True}


class Faces(ManifestDataset):
    NAME = "Faces"
    ENVIRONMENTS = ["A", "B"]


def picture(label, video, frame):
    """Red is 60 for reals and 180 for fakes, the left half is 40 brighter in green."""
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[..., 0] = 60 + 120 * label
    pixels[:, :16, 1] = 40
    pixels[..., 2] = 10 * int(video[1:]) + frame
    return Image.fromarray(pixels)


@pytest.fixture
def root(tmp_path):
    place = tmp_path / "data with ' and spaces"
    videos = [
        (env, label, f"v{i}", f"{env}{i}", f"p{i}", split, env if label else "real")
        for env in "AB"
        for label in (0, 1)
        for i, split in enumerate(manifest.SPLITS)
    ]
    write_tree(place, "Faces", videos, picture, n_frames=2)
    return place


def build(root, test_envs=(0,), **hparams):
    return Faces(root, list(test_envs), {**HPARAMS, **hparams})


def rewrite(root, change):
    rows = change(manifest.read(root / "Faces"))
    rows.to_parquet(root / "Faces" / manifest.FILE, index=False)


def test_it_looks_like_a_domainbed_dataset(root):
    dataset = build(root)
    assert [len(environment) for environment in dataset] == [12, 12]
    assert dataset.input_shape == (3, 32, 32)
    assert dataset.num_classes == 2
    assert dataset.SPLIT_MODES == ("official", "group", "frame")
    environment = dataset[1]
    assert environment.labels.dtype == np.int64
    assert environment.labels.tolist() == [0] * 6 + [1] * 6
    assert environment.videos[:3] == ["B/0/v0", "B/0/v0", "B/0/v1"]
    assert environment.videos[-1] == "B/1/v2"
    with pytest.raises(IndexError):
        environment[12]


def test_an_image_is_normalised_by_one_half_and_comes_with_its_label(root):
    environment = build(root)[0]
    image, label = environment[6]
    assert (image.shape, image.dtype) == ((3, 32, 32), torch.float32)
    assert (label, type(label)) == (1, int)
    assert image[0, 0, 0].item() == pytest.approx((180 / 255 - 0.5) / 0.5, abs=1e-6)
    assert image[1, 0, 0].item() == pytest.approx((40 / 255 - 0.5) / 0.5, abs=1e-6)
    assert image[1, 0, 31].item() == -1.0
    image.zero_()  # a sample can be changed without changing the next read
    assert environment[6][0][0, 0, 0] != 0


def test_training_images_are_flipped_by_the_global_generator_half_of_the_time(root):
    environment = build(root, test_envs=[0])[1]
    draws = []
    for seed in range(200):
        torch.manual_seed(seed)
        draws.append(bool(environment[0][0][1, 0, 0] == -1.0))
        torch.manual_seed(seed)
        assert draws[-1] == bool(environment[0][0][1, 0, 0] == -1.0)
    assert 70 < sum(draws) < 130


@pytest.mark.parametrize(("test_envs", "augment"), [([1], True), ([], False)])
def test_test_environments_and_data_augmentation_false_are_not_augmented(root, test_envs, augment):
    environment = build(root, test_envs=test_envs, data_augmentation=augment)[1]
    assert environment.evaluation is environment
    state = torch.get_rng_state()
    assert all(environment[0][0][1, 0, 0] > -1.0 for _ in range(20))
    assert torch.equal(torch.get_rng_state(), state)


def test_the_evaluation_view_has_the_same_samples_without_augmentation_and_survives_pickling(root):
    environment = build(root, test_envs=[0])[1]
    view = environment.evaluation
    assert len(view) == len(environment)
    assert view.labels is environment.labels
    assert view.evaluation is view
    assert all(view[3][0][1, 0, 0] > -1.0 for _ in range(20))
    copy = pickle.loads(pickle.dumps(view))  # as loader processes get it
    assert torch.equal(copy[0][0], view[0][0])


def test_images_are_resized_to_image_size(root):
    image, _ = build(root, image_size=48)[0][0]
    assert image.shape == (3, 48, 48)
    assert image[0].min() == image[0].max()  # a flat channel stays flat


@pytest.fixture
def decoded(monkeypatch):
    """The paths of the images that are decoded."""
    read = []
    monkeypatch.setattr(
        folder, "read_image", lambda path, **options: (read.append(path), read_image(path, **options))[1]
    )
    return read


def test_images_are_decoded_once_when_the_set_is_small_and_at_each_access_when_it_is_large(
    root, decoded, monkeypatch
):
    environment = build(root)[0]
    assert torch.equal(environment[0][0], environment.evaluation[0][0])
    assert len(decoded) == 1
    first, second = environment.pixels(0), environment.pixels(0)  # for a store: not kept a second time
    assert len(decoded) == 3
    assert np.array_equal(first, second)
    assert not np.shares_memory(first, second)
    monkeypatch.setattr(folder, "_KEPT_BYTES", 24 * 32 * 32 * 3 - 1)
    environment = build(root)[0]
    assert torch.equal(environment[0][0], environment[0][0])
    assert len(decoded) == 5


def test_reading_in_batches_gives_the_samples_flipped_half_of_the_time(root):
    data = build(root, test_envs=[0])
    reader = InputPath(data, InputOptions(), name="Faces", seed=0, n_workers=0, device=torch.device("cpu"))
    assert reader.describe()["augmentation"] == "flip"
    ((_, x, y),) = reader.evaluation([(1, range(12))])
    samples = [data[1].evaluation[i] for i in range(12)]
    assert (x - torch.stack([image for image, _ in samples])).abs().max() < 1e-6
    assert y.tolist() == [label for _, label in samples]
    batches = list(reader.minibatches([1], [IndexSampler(range(12), 12)], "minibatch", range(20)))
    flipped = torch.cat([x[:, 1, 0, 0] == -1.0 for ((x, _),) in batches])
    assert 90 < flipped.sum() < 150  # of 240: four standard deviations


def test_splits_are_those_of_the_manifest(root):
    rows = manifest.read(root / "Faces")
    dataset = build(root, test_envs=[1])
    pairs = dataset.split_indices("official", 0, 0.2, [1])
    for env, (indices, wanted) in zip("AB", [(pairs[0][0], "train"), (pairs[1][0], "test")], strict=True):
        part = rows[rows["env"] == env].reset_index(drop=True)["split"]
        assert indices == part.index[part == wanted].tolist()


def damaged_manifest(root):
    (root / "Faces" / manifest.FILE).write_bytes(b"not parquet at all")


def another_dataset(root):
    rewrite(root, lambda rows: rows.assign(dataset="Other"))


def impossible_cells(root):
    rewrite(root, lambda rows: rows.assign(label=rows["label"] + 1, split="dev", identities=None))


def missing_rows_and_files(root):
    (root / "Faces/B/0_real/v1/0000.png").unlink()
    rewrite(root, lambda rows: rows[(rows["env"] == "B") & (rows["label"] == 0)])


def missing_environment(root):
    (root / "Faces/A").rename(root / "Faces/elsewhere")


def missing_class_folder(root):
    (root / "Faces/B/1_fake").rename(root / "Faces/elsewhere")


def missing_files(root):
    for video in ("v0", "v1"):
        for path in (root / "Faces/A/1_fake" / video).iterdir():
            path.unlink()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (damaged_manifest, ["manifest.parquet cannot be read as a manifest"]),
        (another_dataset, ["column 'dataset' may hold 'Faces'; it has 'Other'"]),
        (
            impossible_cells,
            [
                "column 'label' may hold 0, 1; it has 2",
                "column 'split' may hold '', 'test', 'train', 'val'; it has 'dev'",
                "column 'identities' must hold text",
            ],
        ),
        (
            missing_rows_and_files,
            [
                "3 problems",
                "environment 'A' is not in the manifest, which has B",
                "environment 'B' has no frames of the class '1_fake'",
                "1 files of the manifest are missing",
            ],
        ),
        (missing_environment, ["environment 'A' is in the manifest, but there is no folder "]),
        (missing_class_folder, ["environment 'B' lacks the class folder '1_fake' on disk"]),
        (
            missing_files,
            [
                "4 files of the manifest are missing",
                "'A/1_fake/v0/0000.png', 'A/1_fake/v0/0001.png', 'A/1_fake/v1/0000.png', …",
            ],
        ),
    ],
)
def test_all_that_is_wrong_with_a_tree_is_said_at_once(root, damage, words):
    damage(root)
    with pytest.raises(RogaError) as caught:
        build(root)
    for part in words:
        assert part in str(caught.value)


def test_a_data_dir_that_cannot_be_says_what_to_give(tmp_path):
    for data_dir, words in (
        (None, "Faces lies on disk: give the folder that holds Faces/ with --data_dir"),
        (tmp_path / "nowhere", r"--data_dir '.*nowhere' is not a folder"),
        (tmp_path, r"no manifest.parquet in .*Faces.*roga-domainbed prepare"),
    ):
        with pytest.raises(RogaError, match=words):
            build(data_dir)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: b"", "it is empty"),
        (lambda data: b"hello, I am no image", "it is in no image format"),
        (lambda data: data[: len(data) // 2], "truncated|broken|incomplete"),
        (None, "cannot read the image"),
    ],
    ids=["empty", "foreign", "truncated", "gone"],
)
@pytest.mark.parametrize("pillow_accepts_truncated", [False, True])
def test_a_file_that_is_no_whole_image_is_named_when_read(
    root, monkeypatch, damage, reason, pillow_accepts_truncated
):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", pillow_accepts_truncated)
    path = root / "Faces" / "A" / "0_real" / "v0" / "0000.png"
    noise = np.random.RandomState(0).randint(0, 256, (32, 32, 3)).astype(np.uint8)
    Image.fromarray(noise).save(path)
    environment = build(root)[0]
    path.write_bytes(damage(path.read_bytes())) if damage else path.unlink()
    with pytest.raises(RogaError, match=reason) as caught:
        environment[0]
    assert str(path) in str(caught.value).replace("\\'", "'")
    assert pillow_accepts_truncated == ImageFile.LOAD_TRUNCATED_IMAGES
