"""``--reals``, ``--balance`` and ``--strict``: what is left to train on, counted by hand."""

import numpy as np
import pandas as pd
import pytest
from prepared_trees import ffpp_rows, official_sizes

from datasets_ext import splits
from datasets_ext.ffpp import SAME_YOUTUBE_VIDEO
from datasets_ext.prepare.ffpp_layout import FFPP
from datasets_ext.training_options import TrainingOptions
from datasets_ext.training_rows import balance, keep, partition
from roga_domainbed.errors import RogaError

NAMES = list(FFPP.methods)


def cut(environments, trial_seed=0, test_env=3, **options):
    pairs = splits.split_indices("official", environments, NAMES, trial_seed, 0.2, [test_env])
    return pairs, keep(pairs, environments, NAMES, trial_seed, [test_env], TrainingOptions(**options))


def trained(environments, pairs, kept):
    """The rows that the first three environments train on; nothing but their in-splits may have changed."""
    assert kept[3] == pairs[3]
    assert [out for _, out in kept] == [out for _, out in pairs]
    return [rows.iloc[in_split] for rows, (in_split, _) in zip(environments[:3], kept[:3], strict=True)]


def test_without_options_nothing_is_left_out():
    pairs, kept = cut(official_sizes())
    assert kept == pairs


def test_partitioned_gives_each_of_three_environments_240_reals_and_the_fakes_made_of_them():
    environments = official_sizes(n_frames=2)
    pairs, kept = cut(environments, reals="partitioned")
    seen = set()
    for mine in trained(environments, pairs, kept):
        assert len(mine) == 2 * 480
        reals, fakes = (mine[mine["label"] == label] for label in (0, 1))
        assert reals["video"].nunique() == fakes["video"].nunique() == 240
        people = set(reals["identities"])
        # closed under pairs: target and source of every fake are among the reals
        assert {person for joined in fakes["identities"] for person in joined.split("+")} == people
        assert not people & seen
        seen |= people
    assert len(seen) == 720


def test_who_gets_what_depends_on_the_trial_seed_and_not_on_the_order_of_rows():
    environments = official_sizes()
    backwards = [rows.iloc[::-1].reset_index(drop=True) for rows in environments]
    got = []
    for some, trial_seed in ((environments, 0), (backwards, 0), (environments, 1)):
        _, kept = cut(some, trial_seed, reals="partitioned")
        got.append([set(some[i]["video"].iloc[kept[i][0]]) for i in range(3)])
    assert got[0] == got[1]
    assert got[0] != got[2]


def test_what_one_environment_has_alone_stays_there():
    shared = [("a", "p"), ("b", "q")]
    one, two = (
        pd.DataFrame([*shared, *own] * 2, columns=["recording", "identities"]).assign(label=[0] * 4 + [1] * 4)
        for own in ([("c", "r"), ("d", "s")], [("e", "t"), ("f", "u")])
    )
    kept = partition({0: one, 2: two}, ["A", "B", "C"], 0)
    assert list(kept[0][2:4]) == list(kept[2][2:4]) == [True, True]
    assert all(kept[0][:2] != kept[2][:2])  # each of the two shared ones is in one of the two
    assert sum(kept[0][:2]) == 1


def test_nothing_to_divide_and_too_little_to_divide_are_said():
    apart = [pd.DataFrame({"recording": [x], "identities": [x], "label": [0]}) for x in "ab"]
    with pytest.raises(RogaError, match="no two training environments share a recording or a person"):
        partition(dict(enumerate(apart)), ["A", "B"], 0)
    few = ffpp_rows([("000", "001", "train"), ("002", "003", "val"), ("004", "005", "test")])
    with pytest.raises(
        RogaError, match=r"1 groups .* too few for 3 training environments: 'F2F', 'FS' would"
    ):
        cut(few, reals="partitioned")


@pytest.mark.parametrize(
    ("ratio", "reals", "fakes"),
    [("1:1", 720, 720), ("1:4", 180, 720), ("2:1", 720, 360), ("1:999999", 1, 720)],
)
def test_balance_leaves_out_whole_videos_of_one_class(ratio, reals, fakes):
    environments = official_sizes(n_frames=3)
    for mine in trained(environments, *cut(environments, balance=ratio)):
        frames = mine.groupby("label")["video"].value_counts()
        assert (frames == 3).all()
        assert (len(frames[0]), len(frames[1])) == (reals, fakes)


def test_which_videos_stay_depends_on_the_trial_seed_and_the_environment():
    rows = ffpp_rows([(f"{i:03d}", f"{i + 1:03d}", "train") for i in range(0, 100, 2)])[0]
    chosen = {tuple(balance(rows, (1, 4), seed, env)) for seed in range(2) for env in range(2)}
    assert len(chosen) == 4
    again = balance(rows, (1, 4), 0, 0)
    assert np.array_equal(again, balance(rows, (1, 4), 0, 0))


def test_partitioned_and_balanced_together_are_balanced_within_what_each_environment_got():
    environments = official_sizes()
    _, kept = cut(environments, reals="partitioned", balance="1:2")
    labels = [environments[i]["label"].iloc[kept[i][0]].value_counts().to_dict() for i in range(3)]
    assert labels == [{0: 120, 1: 240}] * 3


# The seven YouTube videos that the official lists of FaceForensics++ separate, each recording with the other half of
# its pair there: (in train, its half), (in val or test, its half), which.
STRADDLERS = [
    (("605", "591"), ("606", "567"), "val"),
    (("639", "841"), ("640", "638"), "val"),
    (("756", "503"), ("755", "759"), "test"),
    (("838", "810"), ("837", "890"), "val"),
    (("876", "891"), ("875", "979"), "val"),
    (("954", "976"), ("955", "078"), "test"),
    (("983", "113"), ("982", "004"), "val"),
]


def straddling():
    """The pairs above, and some of YouTube videos that stay on one side or gave one recording."""
    pairs = [(*pair, "train") for pair, _, _ in STRADDLERS]
    pairs += [(*pair, part) for _, pair, part in STRADDLERS]
    pairs += [(*pair, "train") for pair in (("331", "260"), ("332", "051"), ("000", "003"))]
    return ffpp_rows([*pairs, ("973", "970", "test"), ("974", "953", "test")])


def test_22_youtube_videos_gave_45_recordings():
    assert len(SAME_YOUTUBE_VIDEO) == 22
    assert len({number for numbers in SAME_YOUTUBE_VIDEO for number in numbers}) == 45
    assert {tuple(sorted((a[0], b[0]))) for a, b, _ in STRADDLERS} <= set(SAME_YOUTUBE_VIDEO)


@pytest.mark.parametrize("test_env", [0, 3])
def test_strict_drops_the_seven_straddling_groups_from_train_and_nothing_else(test_env):
    environments = straddling()
    whole = splits.split_indices("official", environments, NAMES, 0, 0.2, [test_env])
    strict = splits.split_indices("official", environments, NAMES, 0, 0.2, [test_env], SAME_YOUTUBE_VIDEO)
    for index, rows in enumerate(environments):
        if index == test_env:
            assert strict[index] == whole[index]
            continue
        assert strict[index][1] == whole[index][1]
        dropped = rows.iloc[sorted(set(whole[index][0]) - set(strict[index][0]))]
        expected = {number for pair, _, _ in STRADDLERS for number in pair}
        assert set(dropped["video"][dropped["label"] == 0]) == expected
        assert len(dropped) == 4 * 7


def test_in_a_group_split_strict_keeps_the_recordings_of_one_youtube_video_together():
    environments = straddling()
    apart = 0
    for trial_seed in range(12):
        for same_source in ((), SAME_YOUTUBE_VIDEO):
            parts = splits.group(environments, trial_seed, 0.2, same_source=same_source)
            part_of = dict(zip(environments[0]["recording"], parts[0], strict=True))
            separated = sum(part_of[a[0]] != part_of[b[0]] for a, b, _ in STRADDLERS)
            assert not (same_source and separated)
            apart += separated
    assert apart  # without it they are


def test_wrong_options_are_a_sentence_each_and_only_what_is_not_the_default_is_recorded():
    wrong = TrainingOptions("partition", "4", True)
    assert wrong.problems("frame") == [
        "unknown way to treat reals (--reals) 'partition' (did you mean 'partitioned'?); known: shared, partitioned",
        "--balance must be the ratio of real to fake videos, such as 1:1 or 1:4; got '4'",
        "--strict needs --split official or group: a frame split mixes all videos anyway",
    ]
    for text in ("0:1", "1:0", "-1:2", "1:4:2", "1.5:1", "1 : 4", "", "half", 1):
        assert len(TrainingOptions(balance=text).problems(None)) == 1, text
    assert TrainingOptions("partitioned", "1:4", True).problems("group") == []
    assert TrainingOptions().given() == {}
    assert TrainingOptions("shared", "1:4", True).given() == {"balance": "1:4", "strict": True}
