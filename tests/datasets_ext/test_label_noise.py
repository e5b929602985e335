"""``--label_noise`` and ``--train_fraction``: counted by hand, on any dataset, and in whole runs."""

import json
from collections import Counter

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from prepared_trees import pair_videos, write_tree

from datasets_ext.training_options import TrainingOptions
from datasets_ext.training_rows import drawn_again, fraction, training_data
from roga_domainbed.cli import main
from roga_domainbed.engine.datasets import Debug28
from roga_domainbed.errors import RogaError
from roga_domainbed.inference.evaluation_sets import own_sets
from roga_domainbed.inference.saved_run import load_run
from roga_domainbed.input.environment import OpenDataset
from roga_domainbed.trainer.splits import split_environments

ENVS = ("DF", "F2F", "FS", "NT")
SMALL = {"backbone": "meso4", "pretrained": False, "image_size": 32, "batch_size": 4}
NOT_DRAWN = 5000  # no class that can be drawn


def rng(seed=0):
    return np.random.default_rng(seed)


# --- the two draws --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "n_units", "n_drawn"), [(0, 10, 0), (0.4, 10, 4), (0.34, 10, 3), (0.15, 3, 0), (1, 10, 10)]
)
def test_exactly_a_share_of_the_units_is_drawn_again(share, n_units, n_drawn):
    units = np.repeat(np.arange(n_units), 3)
    found = drawn_again(np.full(3 * n_units, NOT_DRAWN), units, share, 100, rng())
    of_unit = found.reshape(n_units, 3)
    assert (of_unit == of_unit[:, :1]).all(), "the samples of a unit have one label"
    assert (of_unit[:, 0] != NOT_DRAWN).sum() == n_drawn


def test_new_labels_are_uniform_over_all_classes_so_half_of_two_are_wrong():
    n = 9000
    three = drawn_again(np.full(n, NOT_DRAWN), np.arange(n), 1, 3, rng())
    # 3000 each, with a standard deviation of √(9000 · ⅓ · ⅔) = 45
    assert all(abs(count - 3000) < 225 for count in np.bincount(three, minlength=3))
    labels = np.repeat([0, 1], n // 2)
    assert abs((drawn_again(labels, np.arange(n), 1, 2, rng()) != labels).sum() - n / 2) < 240


def test_a_larger_share_of_noise_repeats_a_smaller_one():
    few, many = (
        drawn_again(np.full(100, NOT_DRAWN), np.arange(100), share, 9, rng()) for share in (0.2, 0.7)
    )
    drawn = few != NOT_DRAWN
    assert drawn.sum() == 20
    assert np.array_equal(few[drawn], many[drawn])


@pytest.mark.parametrize(("share", "n_of_0", "n_of_1"), [(0.5, 10, 2), (0.3, 6, 2), (0.01, 1, 1), (1, 20, 5)])
def test_a_share_of_the_units_of_each_class_stays_and_at_least_one(share, n_of_0, n_of_1):
    """20 units of class 0 and 5 of class 1, two samples each; 2.5 is rounded to 2, and 1.5 to 2."""
    units = np.tile(np.arange(25), 2)
    labels = (units >= 20).astype(int)
    stays = fraction(labels, units, share, rng())
    assert np.array_equal(stays[:25], stays[25:]), "whole units"
    assert np.bincount(labels[stays]).tolist() == [2 * n_of_0, 2 * n_of_1]


def test_a_larger_fraction_keeps_what_a_smaller_one_does():
    labels, units = np.repeat([0, 1], 50), np.arange(100)
    few, many = (fraction(labels, units, share, rng()) for share in (0.2, 0.5))
    assert few.sum() == 20
    assert (few <= many).all()


# --- on datasets ----------------------------------------------------------------------------------------------------


class Bare(torch.utils.data.Dataset):
    """An environment of a checkout: samples, and nothing that says a label but reading them."""

    def __init__(self, n, videos=None):
        self.n = n
        if videos is not None:
            self.videos = videos

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        return torch.full((3, 4, 4), float(index)), index % 4


class BareSet(list):
    ENVIRONMENTS = ["a", "b", "c"]
    N_STEPS, CHECKPOINT_FREQ, N_WORKERS = 10, 5, 0
    input_shape, num_classes = (3, 4, 4), 4


def data(dataset, trial_seed=0, test_envs=(2,), **options):
    return training_data(dataset, "frame", trial_seed, 0.2, test_envs, TrainingOptions(**options))


def test_a_dataset_without_labels_and_without_a_manifest_can_have_both():
    dataset = OpenDataset(BareSet([Bare(200), Bare(100), Bare(60)]))
    plain, no_labels = data(dataset)
    assert no_labels == {}
    pairs, labels = data(dataset, label_noise=1)
    assert pairs == plain
    assert sorted(labels) == [0, 1], "the held-out environment keeps its labels"
    true = np.arange(200) % 4
    assert [len(labels[i]) for i in (0, 1)] == [200, 100]
    # a quarter of what is drawn again comes out as it was: 50, with a standard deviation of 6.1
    assert 20 < (labels[0] == true).sum() < 80
    assert not np.array_equal(labels[0][:100], labels[1]), "an environment is drawn on its own"
    assert not np.array_equal(data(dataset, 1, label_noise=1)[1][0], labels[0]), "the trial decides"
    halved, noisy = data(dataset, label_noise=1, train_fraction=0.5)
    assert np.array_equal(noisy[0], labels[0]), "the size of the training part changes no label"
    for env in (0, 1):
        assert halved[env][1] == plain[env][1]
        assert set(halved[env][0]) < set(plain[env][0])
        before, after = (Counter(labels[env][part].tolist()) for part in (plain[env][0], halved[env][0]))
        assert after == {label: round(count / 2) for label, count in before.items()}
    assert halved[2] == plain[2]


def test_videos_that_a_foreign_dataset_knows_stay_whole():
    videos = [f"v{i % 4}-{i // 20}" for i in range(200)]  # 40 videos of 5 frames; the label is i % 4
    dataset = OpenDataset(BareSet([Bare(200, videos), Bare(20), Bare(20)]))
    plain, _ = data(dataset)
    pairs, labels = data(dataset, label_noise=0.5, train_fraction=0.25)
    by_video = pd.DataFrame({"video": videos, "label": labels[0]}).groupby("video")["label"]
    assert (by_video.nunique() == 1).all()
    kept = {videos[i] for i in pairs[0][0]}
    assert pairs[0][0] == [i for i in plain[0][0] if videos[i] in kept]
    of_class = by_video.first().value_counts()
    assert len(kept) == sum(max(1, round(count / 4)) for count in of_class)


def test_a_training_part_of_one_class_is_refused():
    class Two(BareSet):
        num_classes = 2

    class Pair(Bare):
        def __getitem__(self, index):
            return torch.zeros(3, 4, 4), index % 2

    dataset = OpenDataset(Two([Pair(4), Pair(4), Pair(4)]))
    found = []
    for trial_seed in range(
        20
    ):  # four labels at random: one class in an eighth of the draws of an environment
        try:
            pairs, labels = data(dataset, trial_seed, label_noise=1)
            assert all(len(set(labels[env][pairs[env][0]])) == 2 for env in (0, 1))
        except RogaError as error:
            found.append(str(error))
    assert 0 < len(found) < 20
    assert all(
        "has one class; give a smaller share, more data or another --trial_seed" in why for why in found
    )


def test_other_options_still_need_a_manifest():
    dataset = OpenDataset(BareSet([Bare(20), Bare(20), Bare(20)]))
    with pytest.raises(RogaError, match=r"^--balance: these need a manifest, which BareSet does not have$"):
        data(dataset, label_noise=0.5, balance="1:1")


# --- whole runs -----------------------------------------------------------------------------------------------------


def train(folder, *flags, dataset="Debug28", hparams=SMALL):
    argv = ["train", "--dataset", dataset, "--steps", "1", "--output_dir", str(folder), "--n_workers", "0"]
    return main([*argv, "--hparams", json.dumps(hparams), *map(str, flags)])


def labels_of(folder):
    """(environment, part, index) → label, of the run's last scores."""
    rows = pq.read_table(folder / "scores.parquet").to_pandas()
    return {(row.env, row.split, row.index): row.label for row in rows.itertuples(index=False, name="Row")}


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """12 training pairs, 4 to select by and 2 to test on, in four environments; two frames a video."""
    root = tmp_path_factory.mktemp("faces")
    parts = ["train"] * 12 + ["val"] * 4 + ["test"] * 2
    videos = [
        (env, *video)
        for env in ENVS
        for i, part in enumerate(parts)
        for video in pair_videos(env, f"{2 * i:03d}", f"{2 * i + 1:03d}", part)
    ]
    write_tree(root, "FFPP", videos, n_frames=2)
    return root


def faces_frame(folder):
    rows = pq.read_table(folder / "scores.parquet").to_pandas()
    return rows.assign(true=rows["path"].str.contains("1_fake").astype(int))


@pytest.fixture(scope="module")
def noisy(faces, tmp_path_factory):
    """The folder of a run with label noise and a model."""
    folder = tmp_path_factory.mktemp("noisy") / "run"
    flags = ["--data_dir", faces, "--test_envs", 3, "--label_noise", 0.5]
    assert train(folder, *flags, dataset="FFPP") == 0
    return folder


def test_training_and_validation_have_noisy_labels_by_video_and_test_has_true_ones(noisy):
    rows = faces_frame(noisy)
    tested = rows[rows["env"] == 3]
    assert len(tested) == 2 * 2 * 4 + 4 * 2 * 4
    assert (tested["label"] == tested["true"]).all()
    for _, own in rows[rows["env"] != 3].groupby("env"):
        by_video = own.groupby("video")
        assert len(by_video) == 64
        assert (by_video["label"].nunique() == 1).all()
        wrong = own[own["label"] != own["true"]]
        # 32 of 64 videos, of which half are wrong: 16, with a standard deviation of 2.8
        assert 5 <= wrong["video"].nunique() <= 27
        assert set(wrong["split"]) == {"in", "out"}


@pytest.mark.parametrize(
    "flags",
    [["--input", "exact"], ["--algorithm", "CORAL", "--seed", 7], ["--n_workers", 2, "--input", "exact"]],
    ids=["exact", "another-algorithm", "loader-processes"],
)
def test_every_run_of_a_trial_has_the_same_labels(flags, noisy, faces, tmp_path):
    common = ["--data_dir", faces, "--test_envs", 3, "--label_noise", 0.5, "--skip_model_save"]
    assert train(tmp_path / "run", *common, *flags, dataset="FFPP") == 0
    assert labels_of(tmp_path / "run") == labels_of(noisy)


def test_a_cache_on_disk_holds_no_labels(noisy, faces, tmp_path):
    common = ["--data_dir", faces, "--test_envs", 3, "--skip_model_save", "--cache", tmp_path / "cache"]
    assert train(tmp_path / "noisy", *common, "--label_noise", 0.5, dataset="FFPP") == 0
    packed = sorted((tmp_path / "cache").rglob("*"))
    assert labels_of(tmp_path / "noisy") == labels_of(noisy)
    assert train(tmp_path / "clean", *common, dataset="FFPP") == 0
    assert sorted((tmp_path / "cache").rglob("*")) == packed, "one copy for both"
    rows = faces_frame(tmp_path / "clean")
    assert (rows["label"] == rows["true"]).all()


def test_a_saved_model_says_its_noise_and_is_evaluated_as_it_was_trained(noisy):
    record = json.loads((noisy / "results.jsonl").read_text().splitlines()[-1])
    assert record["args"]["label_noise"] == 0.5
    assert "train_fraction" not in record["args"]
    run = load_run(noisy)
    assert ", split official, label noise 50 %, trial_seed 0" in run.describe()
    rows = labels_of(noisy)
    for entry in own_sets(run, None).sets:
        labels = entry.environment.labels_of(entry.indices)
        assert labels.tolist() == [rows[entry.env, entry.part, i] for i in entry.indices]


def test_a_ratio_is_of_the_labels_there_are_then(faces, tmp_path):
    """Everything drawn again, then one video labelled real for two labelled fake, then half of each class."""
    flags = ["--label_noise", 1, "--balance", "1:2", "--train_fraction", 0.5]
    assert train(tmp_path / "run", "--data_dir", faces, "--test_envs", 3, *flags, dataset="FFPP") == 0
    rows = faces_frame(tmp_path / "run")
    # two frames of 4 videos of 4 pairs select, whatever trains
    assert rows[rows["split"] == "out"].groupby("env").size().tolist() == [32, 32, 32, 32]
    for _, own in rows[(rows["env"] != 3) & (rows["split"] == "in")].groupby("env"):
        n_real, n_fake = (own[own["label"] == label]["video"].nunique() for label in (0, 1))
        assert abs(n_fake - 2 * n_real) <= 2
        assert (own["label"] != own["true"]).any()
    run = load_run(tmp_path / "run")
    said = "split official, real:fake 1:2, label noise 100 %, 50 % of the training part, trial_seed 0"
    assert said in run.describe()


def test_a_run_resumes_with_its_labels_and_not_with_others(tmp_path, capsys):
    flags = ["--label_noise", 0.5, "--checkpoint_every", 1, "--checkpoint_freq", 1]
    hparams = {"batch_size": 8}
    assert train(tmp_path / "run", *flags, hparams=hparams) == 0
    (tmp_path / "run" / "done").unlink()
    out = capsys.readouterr().out
    assert "Notice: label noise: " in out
    assert train(tmp_path / "run", *flags[2:], "--label_noise", 0.25, hparams=hparams) == 2
    assert "label_noise" in capsys.readouterr().err


def test_tensors_are_relabelled_and_the_held_out_environment_is_not(tmp_path):
    assert train(tmp_path / "run", "--label_noise", 1, "--test_envs", 1, hparams={"batch_size": 8}) == 0
    found = labels_of(tmp_path / "run")
    environments = Debug28(None, [1], {}).datasets
    wrong = Counter(
        env for (env, _, index), label in found.items() if label != environments[env].labels[index]
    )
    assert wrong.keys() == {0, 2}


def test_domain_adaptation_adapts_to_the_true_environment(tmp_path):
    flags = [
        "--label_noise",
        1,
        "--test_envs",
        1,
        "--task",
        "domain_adaptation",
        "--uda_holdout_fraction",
        0.5,
    ]
    assert train(tmp_path / "run", *flags, hparams={"batch_size": 4}) == 0
    labels = Debug28(None, [1], {}).datasets[1].labels
    tested = {key: label for key, label in labels_of(tmp_path / "run").items() if key[0] == 1}
    assert {part for _, part, _ in tested} == {"in", "out", "uda"}
    assert all(label == labels[index] for (_, _, index), label in tested.items())


@pytest.mark.parametrize(
    ("flags", "messages"),
    [
        (
            ["--label_noise", "1.5", "--train_fraction", "0"],
            [
                "2 problems",
                "--label_noise must be a finite number, at least 0 and at most 1; got 1.5",
                "--train_fraction must be a finite number, above 0 and at most 1; got 0",
            ],
        ),
        (
            ["--label_noise", "nan"],
            ["--label_noise must be a finite number, at least 0 and at most 1; got nan"],
        ),
    ],
)
def test_wrong_values_are_named_before_anything_slow(flags, messages, tmp_path, capsys):
    assert train(tmp_path / "run", *flags) == 2
    error = capsys.readouterr().err
    assert all(message in error for message in messages), error
    assert not (tmp_path / "run").exists()


def test_options_are_said_and_given_where_they_are_not_the_default():
    assert TrainingOptions(label_noise=0, train_fraction=1).given() == {}
    given = TrainingOptions(label_noise=1, train_fraction=0.07).given()
    assert json.dumps(given) == '{"label_noise": 1.0, "train_fraction": 0.07}'
    assert TrainingOptions(label_noise=0.4, train_fraction=0.07).described() == [
        "label noise 40 %",
        "7 % of the training part",
    ]


def test_a_split_of_the_trainer_is_the_same_whoever_asks():
    """``split_environments`` changes no dataset: the checks of a sweep split one several times."""
    dataset = OpenDataset(Debug28(None, [0], {}))
    arguments = (None, [0], 0, 0.2, 0, TrainingOptions(label_noise=1))
    _, first = split_environments(dataset, *arguments)
    _, second = split_environments(dataset, *arguments)
    assert first[0].labels is None
    for one, other in zip(first[1:], second[1:], strict=True):
        assert np.array_equal(one.labels, other.labels)
