import os

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch.utils.data import DataLoader

from roga_domainbed.engine import datasets
from roga_domainbed.engine.datasets.transforms import augmenting_transform
from roga_domainbed.errors import RogaError
from roga_domainbed.input.environment import OpenDataset
from roga_domainbed.input.image_files import UnreadableImage, read_image

PAIR = {"0_real": 2, "1_fake": 3}


class Methods(datasets.MultipleEnvironmentImageFolder):
    ENVIRONMENTS = ["DF", "FS"]


def folder_of(root, test_envs=(), augment=False, **hparams):
    return datasets.MultipleEnvironmentImageFolder(root, list(test_envs), augment, hparams)


def test_environments_are_the_folders_in_alphabetical_order(make_tree):
    dataset = folder_of(make_tree({"b": PAIR, "a": {"0_real": 1, "1_fake": 1}}), image_size=16)
    assert [environment.name for environment in dataset] == ["a", "b"]
    assert [len(environment) for environment in dataset] == [2, 5]
    assert dataset[1].labels.tolist() == [0, 0, 1, 1, 1]
    assert dataset[1].labels.dtype == np.int64
    assert (dataset.input_shape, dataset.num_classes, dataset.classes) == ((3, 16, 16), 2, ["real", "fake"])
    image, label = dataset[1][2]
    assert (image.shape, image.dtype, label) == ((3, 16, 16), torch.float32, 1)
    assert type(label) is int


def test_images_are_224_unless_told_and_folders_may_have_spaces_and_quotes(make_tree):
    dataset = folder_of(make_tree({'it\'s "raw" data': PAIR}))
    assert dataset.input_shape == dataset[0][0][0].shape == (3, 224, 224)


def test_samples_are_in_the_order_of_torchvision(make_tree):
    root = make_tree({"a": {"fake": 2, "real": 3}})
    for name in ("v10", "v2", "V1"):
        (root / "a" / "fake" / name).mkdir()
        for frame in ("10.png", "9.JPG"):
            Image.new("RGB", (4, 4)).save(root / "a" / "fake" / name / frame)
    reference = torchvision.datasets.ImageFolder(str(root / "a"))
    samples = folder_of(root)[0].samples
    assert [path for path, _ in samples] == [path for path, _ in reference.samples]
    # torchvision numbers by the alphabet: fake 0, real 1
    assert [label for _, label in samples] == [1 - label for _, label in reference.samples]


def test_hidden_and_stray_things_are_passed_over(make_tree):
    root = make_tree({"a": PAIR, "b": PAIR})
    (root / ".cache" / "0_real").mkdir(parents=True)
    (root / "a" / ".ipynb_checkpoints").mkdir()
    (root / "a" / "0_real" / ".thumbnails").mkdir()
    for stray in ("readme.txt", "a/list.csv", "a/cover.png", "a/0_real/notes.txt", "a/0_real/._0.png"):
        (root / stray).write_text("stray")
    (root / "a" / "0_real" / ".thumbnails" / "0.png").write_text("stray")
    assert [len(environment) for environment in folder_of(root)] == [5, 5]


def test_media_that_are_left_out_are_counted_in_a_note(make_tree):
    root = make_tree({"a": PAIR, "b": PAIR})
    for stray in (
        "top.png",
        "a/cover.jpg",
        "a/clip.mp4",
        "b/0_real/clip.mp4",
        "b/0_real/.hidden.png",
        "a/list.csv",
    ):
        (root / stray).write_text("stray")
    outside, videos = folder_of(root).notes
    assert outside.startswith(
        f"images and videos in no class folder are left out, 3: {str(root / 'top.png')!r}"
    )
    assert videos == f"videos are left out, only images are read, 1: {str(root / 'b/0_real/clip.mp4')!r}"
    assert OpenDataset(folder_of(root)).notes == [outside, videos]


def test_linked_folders_count_once_and_loops_end(make_tree, tmp_path):
    root = make_tree({"a": PAIR, "b": PAIR})
    pool = make_tree({"pool": {"v1": 4}}, "elsewhere") / "pool"
    for name in ("linked", "again"):
        (root / "a" / "0_real" / name).symlink_to(pool)
    (root / "a" / "1_fake" / "loop").symlink_to("..")
    (root / "a" / "1_fake" / "others").symlink_to("../0_real")
    (root / "a" / "up").symlink_to("../..")
    (root / "loop").symlink_to(".")
    os.mkfifo(root / "b" / "0_real" / "pipe.png")
    dataset = folder_of(root)
    assert [environment.labels.tolist() for environment in dataset] == [[0] * 6 + [1] * 3, [0, 0, 1, 1, 1]]


def test_labels_are_known_without_decoding_and_have_one_number_in_all_environments(make_tree, monkeypatch):
    root = make_tree({"a": {"fake": 1, "real": 2}, "b": {"0_real": 1, "1_fake": 3}})
    monkeypatch.setattr(Image, "open", lambda *args: pytest.fail("an image was decoded"))
    dataset = folder_of(root)
    assert [environment.labels.tolist() for environment in dataset] == [[1, 0, 0], [0, 1, 1, 1]]
    assert dataset.num_classes == 2


def test_evaluation_resizes_and_normalizes_with_imagenets_statistics(make_tree):
    root = make_tree({"a": {"x": 0, "y": 1}})
    Image.new("RGB", (20, 10), (255, 0, 51)).save(root / "a" / "x" / "plain.png")
    image, _ = folder_of(root, image_size=32)[0][0]
    expected = torch.tensor([(1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (0.2 - 0.406) / 0.225])
    torch.testing.assert_close(image, expected.view(3, 1, 1).expand(3, 32, 32))


def test_augmentation_is_upstreams():
    crop, flip, jitter, grey, _, normalize = augmenting_transform(224).transforms
    assert (crop.size, crop.scale, crop.ratio) == ((224, 224), (0.7, 1.0), (3 / 4, 4 / 3))
    assert (flip.p, grey.p) == (0.5, 0.1)
    assert jitter.brightness == jitter.contrast == jitter.saturation == (0.7, 1.3)
    assert jitter.hue == (-0.3, 0.3)
    assert (normalize.mean, normalize.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_only_training_environments_are_augmented_and_their_evaluation_view_is_not(make_tree):
    tree = make_tree({"a": PAIR, "b": PAIR})
    dataset, plain = folder_of(tree, [1], True, image_size=8), folder_of(tree, [], False, image_size=8)
    torch.manual_seed(0)
    assert not torch.equal(dataset[0][0][0], dataset[0][0][0])
    assert torch.equal(dataset[0].evaluation[0][0], plain[0][0][0])
    assert dataset[0].evaluation.labels.tolist() == dataset[0].labels.tolist()
    assert torch.equal(dataset[1][0][0], plain[1][0][0])
    for environment in (dataset[1], plain[0], dataset[0].evaluation):
        assert environment.evaluation is environment


def test_an_environment_without_a_class_is_refused_and_all_faults_come_at_once(make_tree):
    root = make_tree({"DF": {"0_real": 1}, "F2F": {"0_real": 1, "1_fake": 0}, "FS": {}, "NT": PAIR})
    with pytest.raises(RogaError) as caught:
        folder_of(root)
    lines = str(caught.value).splitlines()
    assert lines[0] == "3 problems:"
    assert "environment 'DF' lacks the class 'fake'; in" in lines[1]
    assert lines[1].endswith("there are: 0_real")
    assert "environment 'F2F': the class folder" in lines[2]
    assert f"{root / 'F2F' / '1_fake'} has no images (.jpg .jpeg .png" in lines[2]
    assert "environment 'FS'" in lines[3]
    assert lines[3].endswith("has no class folders")


def test_a_missing_root_an_empty_one_and_a_single_class_are_refused(make_tree, tmp_path):
    with pytest.raises(
        RogaError, match=r"no such folder: '.*gone'; Methods is expected there.*Check --data_dir"
    ):
        Methods(tmp_path / "gone", [], False, {})
    with pytest.raises(RogaError, match=r"no environments in '.*': expected folders <environment>/<class>"):
        folder_of(tmp_path)
    with pytest.raises(RogaError, match="has one class only, '1_fake'; at least two are needed"):
        folder_of(make_tree({"a": {"1_fake": 1}}))


@pytest.mark.parametrize("folders", [("DF",), ("DF", "F2F", "FS"), ("DF", "NT")])
def test_folders_that_are_not_the_environments_are_refused_with_both_lists(make_tree, folders):
    root = make_tree(dict.fromkeys(folders, PAIR))
    with pytest.raises(RogaError) as caught:
        Methods(root, [], False, {})
    message = str(caught.value)
    assert message.startswith("Methods has the environments DF, FS, but ")
    assert f"has the folders {', '.join(folders)}: there must be one folder for each" in message


def test_environments_named_like_the_folders_keep_the_order_of_the_class(make_tree):
    class Reversed(datasets.MultipleEnvironmentImageFolder):
        ENVIRONMENTS = ["z", "a"]

    dataset = Reversed(make_tree({"a": PAIR, "z": PAIR}), [], False, {})
    assert [environment.name for environment in dataset] == ["z", "a"]


#: The folders that upstream's download makes.
BENCHMARKS = {
    "VLCS": ("VLCS", ["Caltech101", "LabelMe", "SUN09", "VOC2007"]),
    "PACS": ("PACS", ["art_painting", "cartoon", "photo", "sketch"]),
    "OfficeHome": ("office_home", ["Art", "Clipart", "Product", "Real World"]),
    "TerraIncognita": ("terra_incognita", ["location_100", "location_38", "location_43", "location_46"]),
    "DomainNet": ("domain_net", ["clipart", "infograph", "painting", "quickdraw", "real", "sketch"]),
    "SVIRO": (
        "sviro",
        ["aclass", "escape", "hilux", "i3", "lexus", "tesla", "tiguan", "tucson", "x5", "zoe"],
    ),
}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_upstreams_datasets_are_found_in_upstreams_folders(make_tree, name):
    folder, environments = BENCHMARKS[name]
    root = make_tree({name: {"cat": 1, "dog": 1} for name in environments}, folder=f"data/{folder}")
    dataset = datasets.get_dataset_class(name)(root.parent, [1], {"data_augmentation": True})
    assert [environment.name for environment in dataset] == environments
    assert (dataset.input_shape, dataset.num_classes) == ((3, 224, 224), 2)
    augmented = [environment.evaluation is not environment for environment in dataset]
    assert augmented == [index != 1 for index in range(len(environments))]


@pytest.mark.parametrize("locked", ["a", "v1"])
def test_a_folder_that_may_not_be_read_is_named(make_tree, monkeypatch, locked):
    root = make_tree({"a": PAIR})
    (root / "a" / "0_real" / "v1").mkdir()
    scandir = os.scandir

    def refuse(path):
        if os.path.basename(path) == locked:
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(RogaError, match=rf"cannot list the folder '.*{locked}': Permission denied"):
        folder_of(root)


@pytest.mark.parametrize("size", [0, -1, 64.0, "64"])
def test_an_impossible_image_size_is_refused(make_tree, size):
    with pytest.raises(RogaError, match="'image_size' must be a whole number of pixels"):
        folder_of(make_tree({"a": PAIR}), image_size=size)


def _truncate(path):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    os.truncate(path, os.path.getsize(path) // 2)


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "webp"])
@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_truncate, ""),
        (lambda path: path.write_bytes(b""), "it is empty"),
        (lambda path: path.write_text("<html>404</html>"), "it is in no image format"),
    ],
    ids=["truncated", "empty", "text"],
)
def test_an_unreadable_image_is_named_when_it_is_read(make_tree, suffix, damage, reason):
    root = make_tree({"a": PAIR})
    bad = root / "a" / "0_real" / f"bad.{suffix}"
    damage(bad)
    environment = folder_of(root, image_size=8)[0]
    index = [path for path, _ in environment.samples].index(str(bad))
    with pytest.raises(UnreadableImage) as caught:
        environment[index]
    assert str(caught.value).startswith(f"cannot read the image '{bad}' ({reason}")
    assert str(caught.value).endswith("remove it or put a good copy in its place")
    assert caught.value.path == str(bad)
    assert environment[index + 1][0].shape == (3, 8, 8)


def test_an_image_that_vanished_is_named(tmp_path):
    with pytest.raises(UnreadableImage, match=r"gone\.png"):
        read_image(str(tmp_path / "gone.png"))


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK"])
def test_images_of_every_mode_become_rgb(tmp_path, mode):
    path = tmp_path / "image.tif"
    Image.new(mode, (4, 4)).save(path)
    assert read_image(str(path)).mode == "RGB"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_an_unreadable_image_is_a_fault_of_the_user_in_loader_processes_too(make_tree):
    root = make_tree({"a": PAIR})
    (root / "a" / "0_real" / "bad.png").write_bytes(b"")
    with pytest.raises(RogaError, match=r"cannot read the image '.*bad.png'"):
        list(DataLoader(folder_of(root, image_size=8)[0], 2, num_workers=1))
