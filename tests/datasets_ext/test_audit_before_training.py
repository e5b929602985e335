"""Training refuses what leaks, before there is a network; on trees in which the leaks were planted."""

import json

import pytest
from prepared_trees import ffpp_videos, other_videos, pair_videos, write_all_trees, write_tree

from datasets_ext.manifest import SPLITS
from roga_domainbed.cli import main
from roga_domainbed.host.backend import host
from roga_domainbed.inference.evaluation_sets import own_sets
from roga_domainbed.inference.saved_run import load_run

ENVS = ("DF", "F2F", "FS", "NT")
SMALL = {"backbone": "meso4", "pretrained": False, "image_size": 32, "batch_size": 2}


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    return write_all_trees(tmp_path_factory.mktemp("trees"))


@pytest.fixture
def no_network(monkeypatch):
    """Fail where a network would be built."""

    def built(*args, **kwargs):
        raise AssertionError("a network was built")

    monkeypatch.setattr(host().algorithms.ERM, "__init__", built)


def train(root, folder, dataset, test_envs, *flags, save=False, hparams=SMALL):
    argv = ["train", "--data_dir", str(root), "--dataset", dataset, "--test_envs", *test_envs.split()]
    argv += ["--steps", "1", "--output_dir", str(folder), "--hparams", json.dumps(hparams)]
    return main([*argv, *flags, *["--skip_model_save"] * (not save)])


def first_record(folder):
    return json.loads((folder / "results.jsonl").read_text().splitlines()[0])


def test_the_official_protocol_trains_and_its_audit_is_in_the_record(trees, tmp_path):
    assert train(trees, tmp_path / "run", "FFPP", "3") == 0
    record = first_record(tmp_path / "run")
    audit = record["provenance"]["audit"]
    assert (audit["leaks"], audit["notes"]) == ([], [])
    # one pair each: 2 reals and, of three methods, 2 fakes; rows repeat the reals
    assert audit["counts"]["train"] == {"frames": 12, "videos": 8, "recordings": 2, "identities": 2}
    assert audit["counts"]["test"] == {"frames": 4, "videos": 4, "recordings": 2, "identities": 2}
    assert "allow_leakage" not in record["args"]


def test_a_frame_split_is_refused_for_what_test_shares_with_training(trees, tmp_path, capsys, no_network):
    assert train(trees, tmp_path / "run", "FFPP", "3", "--split", "frame") == 2
    error = capsys.readouterr().err
    assert "training and test share 6 videos: FFPP/real/000, FFPP/real/001, FFPP/real/002, …" in error
    assert "--allow-leakage trains all the same" in error
    assert "training and selection" not in error  # that is what a frame split says of itself
    assert not (tmp_path / "run" / "results.jsonl").exists()


def test_a_frame_split_of_unrelated_environments_trains_with_a_notice(tmp_path, capsys):
    """Three environments of nobody in common: frames of a video on both sides of training and selection alone."""
    videos = []
    for index, env in enumerate(ENVS):
        videos += [
            (env, label, f"{env}{i}", f"{env}{i}", "", "", "m") for label in (0, 1) for i in range(index + 4)
        ]
    # real and fake of one recording: in a frame split some are apart
    write_tree(tmp_path, "FFPP", videos)
    assert train(tmp_path, tmp_path / "run", "FFPP", "3", "--split", "frame") == 0
    assert "Notice: training and selection share" in capsys.readouterr().out
    audit = first_record(tmp_path / "run")["provenance"]["audit"]
    assert audit["leaks"] == []
    assert audit["notes"][0].startswith("training and selection share")


def test_allow_leakage_trains_says_so_and_is_recorded(trees, tmp_path, capsys):
    assert train(trees, tmp_path / "run", "FFPP", "3", "--split", "frame", "--allow-leakage") == 0
    assert "Notice: training and test share 6 videos" in capsys.readouterr().out
    record = first_record(tmp_path / "run")
    assert record["args"]["allow_leakage"] is True
    assert any("training and test share 6 videos" in line for line in record["provenance"]["audit"]["leaks"])


def test_celebdf_1_against_2_is_refused(trees, tmp_path, capsys, no_network):
    for name in ("FFPP", "CelebDF1", "UADFV", "DFDC", "DFDCP"):
        (tmp_path / name).symlink_to(trees / name)
    # v1 tests on 006 and 007, and v2 on the first two, which v1 trains on or selects by
    write_tree(tmp_path, "CelebDF2", other_videos("CelebDF2", 8, split=True, tested=(0, 1)))
    assert train(tmp_path, tmp_path / "run", "FFPPCross", "5") == 2
    error = capsys.readouterr().err
    assert "Celeb-DF/000" in error
    assert "Celeb-DF/id0" in error
    assert "and do not train on one version of a dataset and test on another" in error


def test_an_identity_planted_in_train_and_test_is_refused(tmp_path, capsys, no_network):
    videos = [list(video) for video in ffpp_videos()]
    for video in videos:
        if (video[0], video[2]) == ("NT", "004_005"):  # a test fake that shows someone of the training part
            video[4] = "000+005"
    write_tree(tmp_path, "FFPP", videos)
    assert train(tmp_path, tmp_path / "run", "FFPP", "3") == 2
    error = capsys.readouterr().err
    assert "1 leak between training, selection and test:\n  training and test share 1 identity: 000" in error


def test_a_recording_that_two_environments_share_is_refused(tmp_path, capsys, no_network):
    shared = {"DF0": "lab", "NT8": "lab"}  # trained on, and tested on
    videos = [
        (env, label, f"{env}{i}", shared.get(f"{env}{i}", f"{env}{i}"), "", split, "m")
        for env in ENVS
        for label in (0, 1)
        for i, split in enumerate(["train"] * 6 + ["val"] * 2 + ["test"] * 2)
    ]
    write_tree(tmp_path, "FFPP", videos)
    assert train(tmp_path, tmp_path / "run", "FFPP", "3") == 2
    assert "training and test share 1 recording: lab" in capsys.readouterr().err


def test_data_without_a_manifest_are_recorded_as_not_audited(tmp_path):
    argv = ["train", "--dataset", "Debug28", "--steps", "1", "--skip_model_save", "--n_workers", "0"]
    assert main([*argv, "--hparams", '{"batch_size": 8}', "--output_dir", str(tmp_path / "run")]) == 0
    assert first_record(tmp_path / "run")["provenance"]["audit"] is None


def test_what_is_trained_on_is_recorded_and_reaches_the_dataset(tmp_path):
    pairs = [(2 * i, "train") for i in range(12)] + [(24, "val"), (26, "test")]
    write_tree(
        tmp_path,
        "FFPP",
        [
            (env, *video)
            for env in ENVS
            for first, split in pairs
            for video in pair_videos(env, f"{first:03d}", f"{first + 1:03d}", split)
        ],
    )
    flags = ["--reals", "partitioned", "--balance", "1:2", "--strict"]
    assert train(tmp_path, tmp_path / "run", "FFPP", "3", *flags, save=True) == 0
    record = first_record(tmp_path / "run")
    given = {name: record["args"][name] for name in ("reals", "balance", "strict")}
    assert given == {"reals": "partitioned", "balance": "1:2", "strict": True}
    # 12 pairs, 4 for each of 3 environments: 8 fakes, and 4 of the 8 reals
    assert record["provenance"]["audit"]["counts"]["train"]["frames"] == 3 * (8 + 4)
    assert record["provenance"]["audit"]["counts"]["train"]["identities"] == 24
    # a saved model is evaluated on what it was trained on, not on more
    run = load_run(tmp_path / "run")
    assert "split official, reals partitioned, real:fake 1:2, strict, trial_seed 0" in run.describe()
    sizes = {(entry.env, entry.part): len(entry.indices) for entry in own_sets(run, None).sets}
    assert sizes == {key: record[f"env{key[0]}_{key[1]}_n"] for key in sizes}
    assert [sizes[env, "in"] for env in range(4)] == [12, 12, 12, 4]


@pytest.mark.parametrize(
    ("dataset", "flags", "message"),
    [
        ("FFPP", ["--balance", "1-4"], "--balance must be the ratio of real to fake videos"),
        ("FFPP", ["--reals", "split"], "known: shared, partitioned"),
        ("FFPP", ["--strict", "--split", "frame"], "--strict needs --split official or group"),
        ("FFPP", ["--reals", "partitioned"], "1 groups that share no recording and no person are too few"),
        ("Debug28", ["--strict", "--balance", "1:1"], "--balance, --strict: these need a manifest"),
        (
            "SynthFake",
            ["--strict"],
            "--strict: no two recordings of SynthFake are known to come from one source",
        ),
    ],
)
def test_an_option_that_cannot_be_is_one_line(dataset, flags, message, trees, tmp_path, capsys, no_network):
    root = trees
    if dataset == "SynthFake":
        root = tmp_path
        write_tree(
            root,
            dataset,
            [
                (env, label, part, f"{env}{part}", "", part, "m")
                for env in ENVS
                for label in (0, 1)
                for part in SPLITS
            ],
        )
    hparams = {"batch_size": 8} if dataset == "Debug28" else SMALL
    assert train(root, tmp_path / "run", dataset, "2", *flags, hparams=hparams) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
