"""The fast path: the same whatever reads ahead, the samples' own images, kept where it says."""

import numpy as np
import pytest
import torch
from PIL import Image

from roga_domainbed.catalog import INPUT_HPARAMS
from roga_domainbed.engine.datasets import MultipleEnvironmentImageFolder
from roga_domainbed.errors import RogaError
from roga_domainbed.input import store
from roga_domainbed.input.augmentation.spec import AUGMENTATIONS
from roga_domainbed.input.environment import environment_of
from roga_domainbed.input.images import estimated_bytes, images_of
from roga_domainbed.input.minibatches import IndexSampler
from roga_domainbed.input.path import InputOptions, InputPath

CPU = torch.device("cpu")
SIDE = 16


@pytest.fixture
def root(tmp_path):
    """Two environments, two classes, images of different sizes."""
    rng = np.random.default_rng(0)
    for env in ("a", "b", "c"):
        for label in ("0_real", "1_fake"):
            folder = tmp_path / "data" / env / label
            folder.mkdir(parents=True)
            for i in range(6):
                pixels = rng.integers(0, 256, (20 + i, 24, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return tmp_path / "data"


def dataset(root, augment=True):
    return MultipleEnvironmentImageFolder(root, [0], augment, {"image_size": SIDE})


def path(environments, n_workers=0, seed=0, **options):
    return InputPath(
        environments, InputOptions(**options), name="Faces", seed=seed, n_workers=n_workers, device=CPU
    )


def minibatches(reader, steps=range(4), envs=(1, 2), batch_size=5):
    draws = [IndexSampler(range(12), batch_size) for _ in envs]
    return [
        torch.cat([torch.cat([x.flatten(1), y[:, None].float()], 1) for x, y in batches])
        for batches in reader.minibatches(envs, draws, "minibatch", steps)
    ]


def equal(left, right):
    return len(left) == len(right) and all(map(torch.equal, left, right))


@pytest.mark.parametrize("cache", ["auto", "off", "folder"])
@pytest.mark.parametrize("n_workers", [0, 1, 3])
def test_neither_readers_nor_caches_change_a_pixel(root, tmp_path, cache, n_workers):
    cache = str(tmp_path / "cache") if cache == "folder" else cache
    expected = minibatches(path(dataset(root)))
    assert equal(expected, minibatches(path(dataset(root), n_workers, cache=cache)))


def test_a_stream_that_starts_later_draws_what_the_unbroken_one_would_have(root):
    assert equal(minibatches(path(dataset(root)))[2:], minibatches(path(dataset(root)), range(2, 4)))


def test_seeds_draw_differently(root):
    assert not equal(minibatches(path(dataset(root))), minibatches(path(dataset(root), seed=1)))


def test_evaluation_gives_what_the_samples_own_code_gives(root):
    data = dataset(root)
    parts = [(0, [3, 1, 11]), (1, list(range(12)))]
    found = list(path(data).evaluation(parts))
    exact = list(path(data, mode="exact").evaluation(parts))
    for (part, x, y), (other_part, other_x, other_y) in zip(found, exact, strict=True):
        assert part == other_part
        assert torch.equal(y, other_y)
        assert (x - other_x).abs().max() < 1.01 / 255 / 0.224  # one level
    for position, (env, indices) in enumerate(parts):
        x = torch.cat([x for part, x, _ in exact if part == position])
        assert torch.equal(x, torch.stack([data[env].evaluation[i][0] for i in indices]))


def test_evaluation_is_the_same_each_time_and_leaves_no_part_out(root):
    reader = path(dataset(root), n_workers=2)
    parts = [(env, list(range(12))) for env in range(3)]
    first, second = ([(part, x) for part, x, _ in reader.evaluation(parts)] for _ in range(2))
    assert [part for part, _ in first] == [0, 1, 2]
    assert all(torch.equal(x, other) for (_, x), (_, other) in zip(first, second, strict=True))


def test_training_images_are_the_samples_own_where_nothing_is_augmented(root):
    data = dataset(root, augment=False)
    draws = [IndexSampler(range(12), 6)]
    ((x, y),) = next(path(data).minibatches([1], draws, "minibatch", range(1)))
    indices = draws[0].at(0, "minibatch", 0, 0)
    assert y.tolist() == [data[1][int(i)][1] for i in indices]
    assert (x - torch.stack([data[1][int(i)][0] for i in indices])).abs().max() < 1.01 / 255 / 0.224


def test_images_are_decoded_once_in_memory_and_each_time_without(root, monkeypatch):
    from roga_domainbed.engine.datasets import image_folder

    read = []
    original = image_folder.read_image
    monkeypatch.setattr(image_folder, "read_image", lambda name: (read.append(name), original(name))[1])
    for cache, at_most in (("auto", 24), ("off", 40)):
        read.clear()
        reader = path(dataset(root), cache=cache)
        minibatches(reader)
        assert len(read) <= at_most
        assert (len(read) == len(set(read))) == (cache == "auto")
        assert reader.describe() == {"path": "fast", "augmentation": "domainbed"}
        assert {"auto": "kept in memory", "off": "decoded at each access"}[cache] in reader.sentence()


def test_what_does_not_fit_a_quarter_of_the_memory_is_not_kept(root, monkeypatch):
    images = [images_of(environment) for environment in dataset(root)]
    needed = sum(environment.nbytes for environment in images)
    assert needed == 3 * 2 * sum(3 * 24 * (20 + i) for i in range(6))
    monkeypatch.setattr(store, "available_memory", lambda: 4 * needed)
    assert store.open_store(images, "auto", "x").kind == "memory"
    monkeypatch.setattr(store, "available_memory", lambda: 4 * needed - 1)
    assert store.open_store(images, "auto", "x").kind == "none"


def test_a_packed_file_is_made_once_and_anew_when_the_images_change(root, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    minibatches(path(dataset(root), cache=str(cache)))
    (made,) = cache.glob("*.pixels")
    assert made.name.startswith("Faces-")
    assert made.stat().st_size == 3 * 2 * sum(3 * 24 * (20 + i) for i in range(6))
    monkeypatch.setattr(store, "_pack", None)  # a second use does not make it again
    minibatches(path(dataset(root), cache=str(cache)))
    monkeypatch.undo()
    Image.new("RGB", (30, 30)).save(root / "a" / "0_real" / "0.png")
    minibatches(path(dataset(root), cache=str(cache)))
    assert len(list(cache.glob("*.pixels"))) == 2
    assert not list(cache.glob("*.part"))


def test_an_image_that_cannot_be_read_is_named_when_it_is_asked_for(root, tmp_path):
    bad = root / "b" / "0_real" / "2.png"
    bad.write_bytes(b"")
    for cache in ("auto", str(tmp_path / "cache")):
        reader = path(dataset(root), n_workers=1, cache=cache)
        assert len(list(reader.evaluation([(1, [0, 1, 3])]))) == 1
        with pytest.raises(RogaError, match=r"cannot read the image .*2\.png"):
            list(reader.evaluation([(1, [1, 2])]))


def test_a_cache_folder_that_cannot_be_is_one_sentence(root, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(RogaError, match=r"--cache '.*file/x' cannot be used"):
        path(dataset(root), cache=str(tmp_path / "file" / "x"))
    monkeypatch.setattr(store.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 100}))
    with pytest.raises(RogaError, match=r"has 0\.0 GiB free and the decoded images need about"):
        path(dataset(root), cache=str(tmp_path / "cache"))


def test_sizes_are_estimated_from_headers(root):
    paths = [file for file, _ in dataset(root)[0].samples]
    assert estimated_bytes(paths) == 2 * sum(3 * 24 * (20 + i) for i in range(6))
    (root / "a" / "0_real" / "0.png").write_bytes(b"no image")
    assert estimated_bytes(paths) > 0


def test_another_augmentation_replaces_that_of_training_environments_alone(root):
    reader = path(dataset(root), augmentation="none")
    assert reader.describe()["augmentation"] == "none"
    plain = minibatches(path(dataset(root, augment=False)))
    assert equal(minibatches(reader), plain)
    assert not equal(minibatches(path(dataset(root), augmentation="deepfakebench")), plain)


@pytest.mark.parametrize("augmentation", ["cnn_aug_0.5", "sbi"])
def test_augmentations_of_bytes_are_the_same_whatever_reads_ahead_and_where_a_stream_starts(
    root, augmentation
):
    expected = minibatches(path(dataset(root), augmentation=augmentation))
    for n_workers, cache in ((1, "auto"), (3, "auto"), (2, "off")):
        reader = path(dataset(root), n_workers, cache=cache, augmentation=augmentation)
        assert equal(expected, minibatches(reader))
    later = minibatches(path(dataset(root), 2, augmentation=augmentation), range(2, 4))
    assert equal(expected[2:], later)
    assert reader.describe()["augmentation"] == augmentation


def test_self_blending_trains_on_reals_and_their_blends_alone(root):
    data = dataset(root)
    real = [i for i, (_, label) in enumerate(data[1].samples) if label == 0]
    reader = path(data, augmentation="sbi")
    sampler = IndexSampler(range(12), 7)
    ((_, y),) = next(reader.minibatches([1], [sampler], "minibatch", range(1)))
    assert y.tolist() == [0, 0, 0, 0, 1, 1, 1]
    seen = []
    original, reader._store.get = reader._store.get, lambda env, i: (seen.append(i), original(env, i))[1]
    for _ in reader.minibatches([1], [sampler], "minibatch", range(20)):
        pass
    assert set(seen) == set(real)
    ((_, _, y),) = reader.evaluation([(1, list(range(12)))])
    assert sorted(y.tolist()) == [0] * 6 + [1] * 6


def test_self_blending_is_for_reals_and_fakes(root, tmp_path):
    for env in ("a", "b", "c"):
        (root / env / "2_other").mkdir()
        Image.new("RGB", (8, 8)).save(root / env / "2_other" / "0.png")
    with pytest.raises(
        RogaError, match=r"'sbi' is for the classes 0 real and 1 fake; the data has 3 classes"
    ):
        path(dataset(root), augmentation="sbi")


def test_a_subclass_that_reads_its_samples_its_own_way_is_left_to_it(root):
    class Darker(type(dataset(root)[1])):
        def __getitem__(self, index):
            x, y = super().__getitem__(index)
            return x - 1, y

    environment = dataset(root)[1]
    environment.__class__ = Darker
    assert images_of(environment) is None
    assert path([environment]).describe() == {"path": "exact"}
    with pytest.raises(RogaError, match="'augmentation' works on decoded images"):
        path([environment], augmentation="flip")


def test_torchvisions_image_folders_are_read_fast_as_upstreams_are_made_of_them(root):
    from torchvision.datasets import ImageFolder

    from roga_domainbed.engine.datasets.transforms import augmenting_transform

    environment = ImageFolder(root / "a", transform=augmenting_transform(SIDE))
    images = images_of(environment_of(environment))
    assert images.recipe.augmentation == AUGMENTATIONS["domainbed"]
    assert np.array_equal(images.read(3), np.asarray(Image.open(environment.samples[3][0])))
    assert images.labels.tolist() == environment.targets
    environment.transform.transforms.append(lambda x: x)
    assert images_of(environment_of(environment)) is None


def test_hparams_name_the_known_augmentations():
    (augmentation,) = [spec for spec in INPUT_HPARAMS if spec.name == "augmentation"]
    assert set(augmentation.choices) == {"", *AUGMENTATIONS}
