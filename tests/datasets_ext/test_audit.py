"""Leaks that were planted are found, and the official protocol of FaceForensics++ has none."""

import pandas as pd
import pytest
from prepared_trees import official_sizes, other_videos, write_all_trees, write_tree

from datasets_ext import splits
from datasets_ext.audit import KINDS, audit
from datasets_ext.prepare.ffpp_layout import FFPP
from roga_domainbed.catalog import DATASETS
from roga_domainbed.catalog.registry import load
from roga_domainbed.cli import main
from roga_domainbed.errors import RogaError

METHODS = list(FFPP.methods)
HPARAMS = {"data_augmentation": False, "image_size": 8}


def rows(*items):
    """Rows of one frame each from (video, recording, identities)."""
    columns = ["video", "recording", "identities"]
    return pd.DataFrame(items, columns=columns).assign(dataset="D", method="real")


def found(result):
    return {(item.kind, item.first, item.second): (item.names, item.is_leak) for item in result.overlaps}


@pytest.mark.parametrize("test_env", range(4))
@pytest.mark.parametrize("mode", ["official", "group"])
def test_the_official_protocol_of_ffpp_and_its_group_split_pass(test_env, mode):
    environments = official_sizes()
    pairs = splits.split_indices(mode, environments, METHODS, 0, 0.2, [test_env])
    result = audit(pairs, environments, [test_env])
    assert result.overlaps == ()
    result.check()
    if mode == "official":
        # 720 reals, and 720 fakes of each of three methods; 140 and 140 are tested on
        assert result.counts == {
            "train": {"frames": 3 * 1440, "videos": 4 * 720, "recordings": 720, "identities": 720},
            "select": {"frames": 3 * 280, "videos": 4 * 140, "recordings": 140, "identities": 140},
            "test": {"frames": 280, "videos": 280, "recordings": 140, "identities": 140},
        }


def test_a_frame_split_leaks_and_the_refusal_says_how_much_with_three_names():
    environments = official_sizes(n_frames=8)
    pairs = splits.split_indices("frame", environments, METHODS, 0, 0.2, [3])
    result = audit(pairs, environments, [3])
    common = found(result)
    # With 3 × 8 frames of each real among what trains, hardly any is without: the held-out method has all 1000.
    names, is_leak = common["videos", "train", "test"]
    assert is_leak
    assert 990 <= len(names) <= 1000
    assert set(names) <= {f"FFPP/real/{i:03d}" for i in range(1000)}
    assert {kind for kind, *_ in common} == {"videos", "recordings", "identities"}
    assert ("videos", "train", "select") in common
    with pytest.raises(RogaError) as caught:
        result.check()
    text = str(caught.value)
    assert (
        f"training and test share {len(names)} videos: FFPP/real/000, FFPP/real/001, FFPP/real/002, …" in text
    )
    assert "--split official or group" in text


def test_a_recording_that_two_environments_share_is_caught():
    one = rows(("a", "r1", "p1"), ("b", "r2", "p2"))
    two = rows(("c_fake", "r1", "p3"), ("d", "r4", "p4"))
    result = audit([([0], [1]), ([0, 1], [0, 1])], [one, two], [1])
    assert found(result) == {("recordings", "train", "test"): (("r1",), True)}
    with pytest.raises(RogaError, match="training and test share 1 recording: r1"):
        result.check()


def test_an_identity_planted_in_train_and_test_is_caught():
    train, test = rows(("a", "r1", "p1+p2"), ("b", "r2", "p3")), rows(("c", "r3", "p2+p9"))
    result = audit([([0], [1]), ([0], [0])], [train, test], [1])
    assert found(result) == {("identities", "train", "test"): (("p2",), True)}
    with pytest.raises(RogaError, match="training and test share 1 identity: p2"):
        result.check()


def test_what_selects_must_not_be_tested_on_either():
    train, test = rows(("a", "r1", "p1"), ("b", "r2", "p2")), rows(("c", "r2", ""))
    result = audit([([0], [1]), ([0], [0])], [train, test], [1])
    assert found(result) == {("recordings", "select", "test"): (("r2",), True)}


def test_people_on_both_sides_of_training_and_selection_are_said_and_no_leak():
    train, test = rows(("a", "r1", "p"), ("b", "r2", "p")), rows(("c", "r3", "q"))
    result = audit([([0], [1]), ([0], [0])], [train, test], [1])
    assert found(result) == {("identities", "train", "select"): (("p",), False)}
    result.check()
    assert "note: training and selection share 1 identity: p" in str(result)
    assert str(result).endswith("no leak")


def test_rows_that_are_not_chosen_empty_keys_and_equal_names_of_unrelated_videos_do_not_count():
    train = rows(("a", "", ""), ("b", "r2", "p2"), ("x", "r9", "p9"))
    test = rows(("c", "", ""), ("x", "r9", "p9"), ("y", "r2", "p2"))
    assert audit([([0], [1]), ([0], [2])], [train, test], [1]).overlaps == ()
    train, test = rows(("0001", "lab 1", "")), rows(("0001", "web 1", ""))
    assert audit([([0], []), ([0], [0])], [train, test], [1]).overlaps == ()


def test_where_nobody_said_who_is_in_a_video_the_audit_says_so():
    train, test = (
        rows(("a", "r1", ""), ("a", "r1", ""), ("b", "r2", "p"), ("c", "r3", "")),
        rows(("d", "r4", "q")),
    )
    result = audit([([0, 1, 2], [3]), ([0], [0])], [train, test], [1])
    assert result.n_unknown == {"train": 1, "select": 1, "test": 0}
    assert "the people in 1 of the 2 training videos are not published" in str(result)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_all_trees(tmp_path_factory.mktemp("trees"))


def audited(name, root, test_envs, mode="official"):
    dataset = load(DATASETS.get(name).target)(root, test_envs, HPARAMS)
    return audit(dataset.split_indices(mode, 0, 0.3, test_envs), dataset.environment_rows, test_envs)


@pytest.mark.parametrize("mode", ["official", "group"])
def test_leaving_one_dataset_out_passes_and_so_does_training_on_ffpp_alone(root, mode):
    for test_env in range(5):
        assert audited("DeepfakeDatasets", root, [test_env], mode).leaks == ()
    assert audited("FFPPCross", root, [4, 5, 6, 7, 8]).leaks == ()
    assert audited("FFPPSeenCross", root, [4, 5, 6, 7, 8, 9], mode).leaks == ()


def test_celebdf_1_against_2_is_caught_by_recording_and_person(root, tmp_path):
    for tree in ("FFPP", "CelebDF1", "UADFV", "DFDC", "DFDCP"):
        (tmp_path / tree).symlink_to(root / tree)
    # v1 tests on 006 and 007, and v2 on the first two, which v1 trains on or selects by.
    write_tree(tmp_path, "CelebDF2", other_videos("CelebDF2", 8, split=True, tested=(0, 1)))
    leaks = audited("FFPPCross", tmp_path, [5]).leaks
    names = {kind: {n for leak in leaks if leak.kind == kind for n in leak.names} for kind in KINDS}
    assert names["recordings"] == {"Celeb-DF/000", "Celeb-DF/001"}
    assert names["identities"] == {"Celeb-DF/id0", "Celeb-DF/id1"}
    assert {leak.second for leak in leaks} == {"test"}
    assert audited("FFPPCross", tmp_path, [5], "group").leaks == ()
    assert audited("FFPPCross", tmp_path, [4, 5]).leaks == ()  # both are tested on


@pytest.mark.parametrize(("split", "status"), [("official", 0), ("group", 0), ("frame", 1)])
def test_the_command_says_it_and_its_status_too(root, capsys, split, status):
    argv = f"audit {root} --dataset DeepfakeDatasets --test_envs 1 --split {split}"
    assert main(argv.split()) == status
    out = capsys.readouterr().out
    assert out.startswith(f"DeepfakeDatasets, tested on CelebDF2, split {split}, trial seed 0\n")
    assert ("  no leak" in out) == (status == 0)


def test_wrong_arguments_come_at_once_and_a_dataset_without_a_manifest_is_refused(capsys):
    argv = "audit nowhere --dataset FFPP --test_envs 7 --split oficial --holdout_fraction 2"
    assert main(argv.split()) == 2
    error = capsys.readouterr().err
    assert "4 problems" in error
    assert "'nowhere' is not a folder" in error
    assert "did you mean 'official'?" in error
    assert main(["audit", ".", "--dataset", "PACS"]) == 2
    assert "PACS has no manifest" in capsys.readouterr().err
