import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image, ImageFile

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


def write_tree(root, envs=("A", "B"), n_videos=3, n_frames=2):
    """A small tree; the red channel is 60 for reals and 180 for fakes, the left half is 40 brighter in green."""
    rows = []
    for env in envs:
        for label, class_folder in enumerate(manifest.CLASS_FOLDERS):
            for video in range(n_videos):
                place = root / "Faces" / env / class_folder / f"v{video}"
                place.mkdir(parents=True)
                for frame in range(n_frames):
                    pixels = np.zeros((32, 32, 3), np.uint8)
                    pixels[..., 0] = 60 + 120 * label
                    pixels[:, :16, 1] = 40
                    pixels[..., 2] = 10 * video + frame
                    Image.fromarray(pixels).save(place / f"{frame}.png")
                    rows.append(
                        {
                            "path": f"{env}/{class_folder}/v{video}/{frame}.png",
                            "dataset": "Faces",
                            "env": env,
                            "method": env if label else "real",
                            "compression": "",
                            "label": label,
                            "video": f"v{video}",
                            "recording": f"{env}{video}",
                            "identities": f"p{video}",
                            "split": manifest.SPLITS[video % 3],
                            "frame": frame,
                        }
                    )
    rows = pd.DataFrame(rows)
    manifest.write(root / "Faces", rows)
    return rows


@pytest.fixture
def root(tmp_path):
    place = tmp_path / "data with ' and spaces"
    write_tree(place)
    return place


def build(root, test_envs=(0,), **hparams):
    return Faces(root, list(test_envs), {**HPARAMS, **hparams})


def rewrite(root, change):
    rows = manifest.read(root / "Faces")
    rows = change(rows)
    rows.to_parquet(root / "Faces" / manifest.FILE, index=False)


def test_it_looks_like_a_domainbed_dataset(root):
    dataset = build(root)
    assert len(dataset) == 2
    assert [len(environment) for environment in dataset] == [12, 12]
    assert dataset.input_shape == (3, 32, 32)
    assert dataset.num_classes == 2
    assert dataset.SPLIT_MODES == ("official", "group", "frame")


def test_an_image_is_normalised_by_one_half_and_comes_with_its_label(root):
    environment = build(root)[0]
    fake = int(np.flatnonzero(environment.labels == 1)[0])
    image, label = environment[fake]
    assert (image.shape, image.dtype) == ((3, 32, 32), torch.float32)
    assert (label, type(label)) == (1, int)
    assert image[0, 0, 0].item() == pytest.approx((180 / 255 - 0.5) / 0.5, abs=1e-6)
    assert image[1, 0, 0].item() == pytest.approx((40 / 255 - 0.5) / 0.5, abs=1e-6)
    assert image[1, 0, 31].item() == -1.0


def test_labels_and_videos_come_from_the_manifest(root):
    environment = build(root)[1]
    assert environment.labels.dtype == np.int64
    assert environment.labels.tolist() == [0] * 6 + [1] * 6
    assert environment.videos[:3] == ["B/0/v0", "B/0/v0", "B/0/v1"]
    assert environment.videos[-1] == "B/1/v2"


def test_an_index_past_the_end_is_an_index_error(root):
    with pytest.raises(IndexError):
        build(root)[0][12]


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


def test_the_evaluation_view_has_the_same_samples_without_augmentation(root):
    environment = build(root, test_envs=[0])[1]
    view = environment.evaluation
    assert len(view) == len(environment)
    assert view.labels is environment.labels
    assert view.evaluation is view
    assert all(view[3][0][1, 0, 0] > -1.0 for _ in range(20))


def test_images_are_resized_to_image_size(root):
    image, _ = build(root, image_size=48)[0][0]
    assert image.shape == (3, 48, 48)
    assert image[0].min() == image[0].max()  # a flat channel stays flat


def test_an_image_is_decoded_once_when_the_set_is_small(root, monkeypatch):
    environment = build(root)[0]
    before, _ = environment[0]
    monkeypatch.setattr(folder, "read_image", None)
    assert torch.equal(environment.evaluation[0][0], before)


def test_images_are_decoded_at_each_access_when_the_set_is_large(root, monkeypatch):
    monkeypatch.setattr(folder, "_KEPT_BYTES", 24 * 32 * 32 * 3 - 1)
    environment = build(root)[0]
    read = []
    monkeypatch.setattr(
        folder, "read_image", lambda path, **options: (read.append(path), read_image(path, **options))[1]
    )
    assert torch.equal(environment[0][0], environment[0][0])
    assert len(read) == 2


def test_pixels_for_a_store_are_not_kept_a_second_time(root, monkeypatch):
    environment, read = build(root)[0], []
    monkeypatch.setattr(
        folder, "read_image", lambda path, **options: (read.append(path), read_image(path, **options))[1]
    )
    first, second = environment.pixels(0), environment.pixels(0)
    assert len(read) == 2
    assert np.array_equal(first, second)
    assert not np.shares_memory(first, second)


def test_a_sample_can_be_changed_without_changing_the_next_read(root):
    environment = build(root)[0]
    environment[0][0].zero_()
    assert environment[0][0][0, 0, 0] != 0


def test_an_environment_survives_pickling_for_loader_processes(root):
    environment = build(root)[1].evaluation
    copy = pickle.loads(pickle.dumps(environment))
    assert torch.equal(copy[0][0], environment[0][0])


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


def test_no_data_dir_says_what_to_give():
    with pytest.raises(
        RogaError, match="Faces lies on disk: give the folder that holds Faces/ with --data_dir"
    ):
        build(None)


def test_a_data_dir_that_is_no_folder_is_named(tmp_path):
    with pytest.raises(RogaError, match=r"--data_dir '.*nowhere' is not a folder"):
        build(tmp_path / "nowhere")


def test_a_data_dir_without_the_data_set_says_how_to_make_it(tmp_path):
    with pytest.raises(RogaError, match=r"no manifest.parquet in .*Faces.*roga-domainbed prepare"):
        build(tmp_path)


def test_a_damaged_manifest_is_named(root):
    (root / "Faces" / manifest.FILE).write_bytes(b"not parquet at all")
    with pytest.raises(RogaError, match=r"manifest.parquet cannot be read as a manifest"):
        build(root)


def test_a_manifest_of_another_data_set_is_refused(root):
    rewrite(root, lambda rows: rows.assign(dataset="Other"))
    with pytest.raises(RogaError, match="column 'dataset' may hold 'Faces'; it has 'Other'"):
        build(root)


def test_cells_that_no_manifest_has_are_reported_together(root):
    rewrite(root, lambda rows: rows.assign(label=rows["label"] + 1, split="dev", identities=None))
    with pytest.raises(RogaError) as caught:
        build(root)
    message = str(caught.value)
    assert "column 'label' may hold 0, 1; it has 2" in message
    assert "column 'split' may hold '', 'test', 'train', 'val'; it has 'dev'" in message
    assert "column 'identities' must hold text" in message


def test_missing_environments_classes_and_files_are_reported_together(root):
    (root / "Faces" / "B" / "0_real" / "v1" / "0.png").unlink()
    rewrite(root, lambda rows: rows[(rows["env"] == "B") & (rows["label"] == 0)])
    with pytest.raises(RogaError) as caught:
        build(root)
    message = str(caught.value)
    assert message.startswith("3 problems")
    assert "environment 'A' is not in the manifest, which has B" in message
    assert "environment 'B' has no frames of the class '1_fake'" in message
    assert "1 files of the manifest are missing" in message


def test_an_environment_that_is_not_on_disk_is_named(root):
    (root / "Faces" / "A").rename(root / "Faces" / "elsewhere")
    with pytest.raises(RogaError, match=r"environment 'A' is in the manifest, but there is no folder .*A"):
        build(root)


def test_a_class_folder_that_is_not_on_disk_is_named(root):
    (root / "Faces" / "B" / "1_fake").rename(root / "Faces" / "elsewhere")
    with pytest.raises(RogaError, match=r"^environment 'B' lacks the class folder '1_fake' on disk$"):
        build(root)


def test_missing_files_are_counted_and_the_first_three_named(root):
    for video in ("v0", "v1"):
        for frame in (0, 1):
            (root / "Faces" / "A" / "1_fake" / video / f"{frame}.png").unlink()
    with pytest.raises(RogaError) as caught:
        build(root)
    message = str(caught.value)
    assert "4 files of the manifest are missing" in message
    assert message.endswith("'A/1_fake/v0/0.png', 'A/1_fake/v0/1.png', 'A/1_fake/v1/0.png', …")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: b"", "it is empty"),
        (lambda data: b"hello, I am no image", "it is in no image format"),
        (lambda data: data[: len(data) // 2], "truncated|broken|incomplete"),
    ],
    ids=["empty", "foreign", "truncated"],
)
@pytest.mark.parametrize("pillow_accepts_truncated", [False, True])
def test_a_file_that_is_no_whole_image_is_named_when_read(
    root, monkeypatch, damage, reason, pillow_accepts_truncated
):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", pillow_accepts_truncated)
    path = root / "Faces" / "A" / "0_real" / "v0" / "0.png"
    noise = np.random.RandomState(0).randint(0, 256, (32, 32, 3)).astype(np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(damage(path.read_bytes()))
    environment = build(root)[0]
    with pytest.raises(RogaError, match=reason) as caught:
        environment[0]
    assert str(path) in str(caught.value).replace("\\'", "'")
    assert pillow_accepts_truncated == ImageFile.LOAD_TRUNCATED_IMAGES


def test_a_file_that_vanished_is_named_when_read(root):
    environment = build(root)[0]
    (root / "Faces" / "A" / "0_real" / "v0" / "0.png").unlink()
    with pytest.raises(RogaError, match=r"cannot read the image .*0.png"):
        environment[0]
