import pandas as pd
import pytest

from datasets_ext.splits import MODES, expand, families_of, frame, group, official, split_indices
from roga_domainbed.errors import RogaError


def rows(*triples):
    """Manifest rows from (recording, identities, split)."""
    return pd.DataFrame(triples, columns=["recording", "identities", "split"])


def everyone(n, split=""):
    return rows(*((f"r{i}", f"p{i}", split) for i in range(n)))


TWO = [
    rows(("a", "p", "train"), ("b", "q", "val"), ("c", "r", "test"), ("d", "s", "train")),
    rows(("c", "r", "test"), ("b", "q", "val"), ("a", "p", "train"), ("e", "t", "")),
]


@pytest.mark.parametrize("trial_seed", [0, 5])  # there is a val part: nothing is drawn
def test_official_gives_train_and_val_to_training_and_test_and_val_to_test_environments(trial_seed):
    assert split_indices("official", TWO, ["A", "B"], trial_seed, 0.2, [1]) == [([0, 3], [1]), ([0], [1])]


def test_official_names_every_environment_without_an_official_split():
    with pytest.raises(RogaError) as caught:
        official([everyone(4), everyone(4, "train"), everyone(3)], ["A", "B", "C"], 0, 0.2)
    message = str(caught.value)
    assert "'A' has no official split" in message
    assert "'C' has no official split" in message
    assert "'B'" not in message
    assert "--split group" in message


def test_official_cuts_a_missing_val_part_from_train_by_recording():
    # 10 recordings of 3 frames: a fifth of 30 frames is 6, two whole recordings
    environment = rows(*((f"r{i // 3}", "", "train") for i in range(30)), ("t", "", "test"))
    other = rows(*((f"r{i}", "", "train") for i in range(10)), ("u", "", "val"))
    (part, untouched) = official([environment, other], ["A", "B"], 3, 0.2)
    assert (part == "val").sum() == 6
    recordings = environment["recording"].to_numpy()
    assert not set(recordings[part == "val"]) & set(recordings[part == "train"])
    assert part[-1] == "test"
    assert list(untouched) == list(other["split"])


def test_the_val_part_is_cut_by_trial_seed_and_alike_in_environments_that_share_recordings():
    one, two = everyone(20, "train"), everyone(20, "train").iloc[::-1].reset_index(drop=True)
    cuts = [official([one, two], ["A", "B"], seed, 0.25) for seed in range(3)]
    for first, second in cuts:
        assert (first == "val").sum() == 5
        assert list(first) == list(second[::-1])
    assert len({tuple(first) for first, _ in cuts}) == 3
    assert (one["split"] == "train").all()  # arguments are not changed


def test_expand_says_which_part_is_missing_where_and_tests_on_the_test_part_without_a_val_part():
    parts = [part["split"].to_numpy() for part in (everyone(2, "test"), everyone(2, "train"))]
    with pytest.raises(RogaError) as caught:
        expand(parts, ["A", "B"], [1])
    message = str(caught.value)
    assert "'A' has no train rows in this split and is a training environment" in message
    assert "'A' has no val rows in this split and is a training environment" in message
    assert "'B' has no test rows in this split and is a test environment" in message
    assert expand(parts[:1], ["A"], [0]) == [([0, 1], [0, 1])]


def test_group_puts_every_frame_into_one_part_and_holds_out_the_fraction():
    parts = group([everyone(30), everyone(30)], 0, 0.2)
    # every person is in both environments: 30 groups of 2 frames, 12 of the 60 frames to val and 12 to test
    assert [len(part) for part in parts] == [30, 30]
    assert list(parts[0]) == list(parts[1])
    assert {name: 2 * (parts[0] == name).sum() for name in ("train", "val", "test")} == {
        "train": 36,
        "val": 12,
        "test": 12,
    }


def test_group_keeps_a_chain_of_shared_recordings_and_people_together():
    # x-y by recording a, y-z by person q across environments, z-w by a pair of people
    chain = [rows(("a", "x", ""), ("a", "q", "")), rows(("b", "q", ""), ("c", "q+z", ""), ("d", "z", ""))]
    filler = [everyone(20), everyone(20)]
    environments = [pd.concat(pair, ignore_index=True) for pair in zip(chain, filler, strict=True)]
    for trial_seed in range(12):
        parts = group(environments, trial_seed, 0.2)
        assert len({*parts[0][:2], *parts[1][:3]}) == 1


def test_group_ignores_people_who_are_not_named_and_equal_names_of_a_recording_and_a_person():
    # without a name the recordings stay apart, else an unlabelled data set would be a single group
    parts = group([rows(*((f"r{i}", "", "") for i in range(10)))], 0, 0.2)
    assert [(parts[0] == name).sum() for name in ("train", "val", "test")] == [6, 2, 2]
    same = rows(*((f"{i}", f"{i + 1}", "") for i in range(10)))
    assert set(group([same], 0, 0.2)[0]) == {"train", "val", "test"}


def test_group_depends_on_the_trial_seed_and_not_on_the_order_of_the_rows():
    environment = rows(*((f"r{i // 2}", f"p{i // 4}", "") for i in range(40)))
    straight = group([environment], 1, 0.2)[0]
    backwards = group([environment.iloc[::-1].reset_index(drop=True)], 1, 0.2)[0]
    assert list(straight) == list(backwards[::-1])
    assert len({tuple(group([everyone(40)], seed, 0.2)[0]) for seed in range(3)}) == 3


def test_group_says_how_many_groups_are_too_few():
    with pytest.raises(RogaError, match=r"2 groups that share no recording and no person are too few"):
        group([rows(("a", "p", ""), ("b", "p", ""), ("c", "q", ""))], 0, 0.2)


def test_group_in_and_out_follow_the_role_of_the_environment():
    environments = [everyone(10), everyone(10)]
    parts = group(environments, 0, 0.2)
    (train, val), (test, test_val) = split_indices("group", environments, ["A", "B"], 0, 0.2, [1])
    assert [list(parts[0][train]), list(parts[0][val])] == [["train"] * 6, ["val"] * 2]
    assert [list(parts[1][test]), list(parts[1][test_val])] == [["test"] * 2, ["val"] * 2]


def test_group_tests_an_environment_whole_that_shares_nobody_with_training():
    def persons(first, n):
        return rows(*((f"r{i}", f"p{i}", "") for i in range(first, first + n)))

    # A and B share person 9; C has people of its own
    environments = [persons(0, 10), persons(9, 10), persons(50, 7)]
    (train_a, val_a), (train_b, val_b), (test, out) = split_indices("group", environments, "ABC", 0, 0.2, [2])
    assert (test, out) == (list(range(7)), list(range(7)))
    # 19 groups of the 20 rows of A and B are train or val: nothing of them is kept for a test
    assert sorted(train_a + val_a) == sorted(train_b + val_b) == list(range(10))
    assert len(val_a) + len(val_b) in (4, 5)
    # Of A and B, the one that is tested on has a test part: somebody of it is trained on.
    (_, _), (test, _), (train_c, val_c) = split_indices("group", environments, "ABC", 0, 0.2, [1])
    assert 0 < len(test) < 10
    assert sorted(train_c + val_c) == list(range(7))
    assert len(val_c) == 2  # a fifth of seven, rounded up to whole people


def test_families_are_joined_by_chains_of_people_and_recordings():
    environments = [rows(("a", "p", "")), rows(("b", "q", "")), rows(("c", "p+q", "")), rows(("d", "", ""))]
    assert families_of(environments, "WXYZ", ()) == ["W + X + Y", "W + X + Y", "W + X + Y", "Z"]
    assert families_of(environments, "WXYZ", [("d", "b")]) == ["W + X + Y + Z"] * 4
    assert families_of(environments[:2], "WX", ()) == ["W", "X"]


def test_frame_holds_out_the_keys_that_domainbed_holds_out_and_keeps_the_order_of_the_rest():
    for trial_seed, env, first_keys in (
        (0, 0, [8, 0, 5, 32, 6, 45, 27, 11, 26, 40]),
        (1, 2, [20, 39, 29, 35, 41, 44, 14, 2, 37, 1]),
    ):
        kept, out = frame([50, 50, 50], trial_seed, 0.2)[env]
        assert out == first_keys
        assert sorted(kept + out) == list(range(50))
    kept, _ = frame([50], 0, 0.2)[0]
    assert kept[:8] == [34, 2, 7, 43, 1, 13, 3, 30]


@pytest.mark.parametrize("mode", MODES)
def test_indices_are_plain_integers_that_json_takes(mode):
    environments = [
        rows(*((f"r{i}", f"p{i}", split) for i, split in enumerate(["train", "val", "test"] * 5)))
    ]
    for part in split_indices(mode, environments, ["A"], 0, 0.2, [])[0]:
        assert part
        assert all(type(index) is int for index in part)


def test_an_unknown_mode_names_the_known_ones():
    with pytest.raises(RogaError, match=r"did you mean 'official'\?\); known: official, group, frame"):
        split_indices("offical", TWO, ["A", "B"], 0, 0.2, [0])
