"""Which images runs are explained on: test samples of all of them, each image once, none that a model has seen."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from datasets_ext import manifest
from datasets_ext.synthfake.generate import generate
from roga_domainbed.errors import RogaError
from roga_domainbed.inference.explain.grid import as_seen, first_samples
from roga_domainbed.inference.explain.runs import _names, load_runs
from roga_domainbed.inference.explain.test_data import DataOptions, open_test_data, read
from roga_domainbed.input.augmentation.spec import Recipe
from roga_domainbed.trainer.config import TrainConfig
from roga_domainbed.trainer.run import train


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    generate(folder, n_identities=6, n_frames=2)
    return folder


@pytest.fixture(scope="module")
def run_with(data, tmp_path_factory):
    """Train a run of one step with these arguments."""

    def make(**given):
        folder = tmp_path_factory.mktemp("runs") / "run"
        hparams = json.dumps({"batch_size": 4})
        train(
            TrainConfig(
                str(data), "SynthFake", output_dir=str(folder), hparams=hparams, steps=1, n_workers=0, **given
            )
        )
        return str(folder)

    return make


@pytest.fixture(scope="module")
def official(run_with):
    return run_with(test_envs=[3])


def test_the_published_test_part_of_every_environment_is_taken(data, official):
    found = open_test_data(load_runs([official]), DataOptions())
    rows = manifest.read(data / "SynthFake").query("split == 'test'")
    paths = [found.set_of(sample).environment.relative_paths[sample.index] for sample in found.samples]
    assert sorted(paths) == sorted(rows["path"])
    labels = dict(zip(rows["path"], rows["label"], strict=True))
    assert [labels[path] for path in paths] == [sample.label for sample in found.samples]
    assert found.notes == []


def test_another_split_leaves_the_held_out_environments_of_all_runs(run_with):
    first, second = run_with(test_envs=[2, 3], split="group"), run_with(test_envs=[3], split="group")
    alone = open_test_data(load_runs([first]), DataOptions())
    assert {sample.env_names for sample in alone.samples} == {("FS",), ("NT",)}
    both = open_test_data(load_runs([first, second], ["a", "b"]), DataOptions())
    assert {sample.env_names for sample in both.samples} == {("NT",)}
    other = run_with(test_envs=[0], split="group")
    with pytest.raises(RogaError, match="no image of SynthFake is a test image of all 2 runs"):
        open_test_data(load_runs([second, other], ["a", "b"]), DataOptions())


def test_runs_of_several_datasets_need_to_be_told_which(official):
    runs = load_runs([official, official], ["a", "b"])
    runs["b"].args["dataset"] = "FFPP"
    with pytest.raises(RogaError, match=r"trained on different datasets, SynthFake, FFPP: .* --dataset NAME"):
        open_test_data(runs, DataOptions())


def test_a_folder_with_training_images_is_refused_and_with_the_flag_it_is_said(data, official):
    folder = str(data / "SynthFake" / "DF")
    with pytest.raises(RogaError, match="ERM: the model was trained on or selected by"):
        open_test_data(load_runs([official]), DataOptions(folder=folder))
    found = open_test_data(load_runs([official]), DataOptions(folder=folder, allow_leakage=True))
    assert found.notes[0].startswith("LEAK: ERM: the model was trained on or selected by")


@pytest.fixture
def sharing(tmp_path):
    """A folder with a manifest: environments a and b have the same two reals, b a third one; and a fake each."""
    rows, rng = [], np.random.default_rng(0)
    for env, label, video in [
        ("a", 0, "v1"), ("a", 0, "v2"), ("a", 1, "v1"), ("b", 0, "v1"), ("b", 0, "v2"), ("b", 0, "v3"), ("b", 1, "v1"),
    ]:  # fmt: skip
        for frame in range(2):
            path = f"{env}/{manifest.CLASS_FOLDERS[label]}/{video}/{frame}.png"
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(tmp_path / path)
            method = "swap" if label else "real"
            rows.append([path, "Other", env, method, "", label, video, video, video, "test", frame])
    manifest.write(tmp_path, pd.DataFrame(rows, columns=list(manifest.COLUMNS)))
    return str(tmp_path)


def test_a_real_that_several_environments_share_is_there_once(official, sharing):
    found = open_test_data(load_runs([official]), DataOptions(folder=sharing))
    counted = pd.Series([(sample.env_names, sample.label) for sample in found.samples]).value_counts()
    assert dict(counted) == {(("a", "b"), 0): 4, (("b",), 0): 2, (("a",), 1): 2, (("b",), 1): 2}


def test_the_first_images_are_of_different_videos_as_far_as_there_are_so_many(official, sharing):
    found = open_test_data(load_runs([official]), DataOptions(folder=sharing))

    def files(n):
        return [
            found.set_of(sample).environment.relative_paths[sample.index]
            for sample in first_samples(found, n)
        ]

    real, fake = manifest.CLASS_FOLDERS
    assert files(1) == [
        f"a/{real}/v1/0.png",
        f"a/{fake}/v1/0.png",
        f"b/{real}/v3/0.png",
        f"b/{fake}/v1/0.png",
    ]
    assert files(2)[:4] == [
        f"a/{real}/v1/0.png",
        f"a/{real}/v2/0.png",
        f"a/{fake}/v1/0.png",
        f"a/{fake}/v1/1.png",
    ]
    assert files(3)[:3] == [f"a/{real}/v1/0.png", f"a/{real}/v1/1.png", f"a/{real}/v2/0.png"]


def test_images_are_read_in_the_order_of_the_samples_and_shown_as_the_network_gets_them(official):
    runs = load_runs([official])
    found = open_test_data(runs, DataOptions(envs=["NT", "F2F"]))
    samples = first_samples(found, 2)
    (run,) = runs.values()
    x = torch.cat(list(read(run, found.opened[0], samples)))
    for one, sample in zip(x, samples, strict=True):
        environment = found.set_of(sample).environment
        expected, _ = environment[sample.index]
        torch.testing.assert_close(one, expected, atol=1e-6, rtol=0)
        with Image.open(environment.file(sample.index)) as image:
            assert image.size == (64, 64), "nothing is resized"
            np.testing.assert_array_equal(as_seen(one, environment.recipe), np.asarray(image.convert("RGB")))


def test_a_normalization_is_undone():
    recipe = Recipe(1, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    x = (torch.tensor([0.2, 0.4, 1.0]) - torch.tensor(recipe.mean)) / torch.tensor(recipe.std)
    assert as_seen(x.view(3, 1, 1), recipe).tolist() == [[[51, 102, 255]]]
    assert as_seen(torch.tensor([-3.0, 0.0, 7.0]).view(3, 1, 1), None).tolist() == [[[0, 76, 255]]]


@pytest.mark.parametrize(
    ("rows", "names"),
    [
        ([{"algorithm": "ERM", "row": "SRM"}, {"algorithm": "ERM"}], ["SRM", "ERM"]),
        ([{"algorithm": "ERM"}, {"algorithm": "ERM"}], ["a", "b"]),
    ],
)
def test_runs_are_called_by_their_rows_or_by_their_folders(rows, names):
    assert _names(["x/a", "x/b"], [SimpleNamespace(args=args) for args in rows]) == names
