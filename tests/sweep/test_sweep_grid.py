import json
import tarfile
from pathlib import Path

import pytest

from roga_domainbed.errors import RogaError
from roga_domainbed.sweep.jobs import train_job
from roga_domainbed.sweep.plan import Plan, all_test_env_combinations

DATA = Path(__file__).parents[1] / "data"
ORACLE = json.loads((DATA / "sweep" / "sweep_args.json").read_text())
ALGORITHMS = json.loads((DATA / "sweep" / "upstream_algorithms.json").read_text())


def grid(datasets, algorithms=("ERM",), n_trials=1, n_hparams=(0, 1), single=False, steps=None, **kwargs):
    first, end = n_hparams
    given = {"n_hparams_from": first, "n_hparams": end, "steps": steps, "single_test_envs": single, **kwargs}
    plan = Plan(list(datasets), list(algorithms), n_trials=n_trials, **{"data_dir": "/data", **given})
    return list(plan.train_args())


@pytest.mark.parametrize("n", ORACLE["combos"])
def test_combinations_are_each_environment_followed_by_its_pairs(n):
    assert all_test_env_combinations(int(n)) == ORACLE["combos"][n]


def test_fewer_than_three_environments_leave_nothing_to_train_on():
    with pytest.raises(RogaError, match="--single_test_envs"):
        all_test_env_combinations(2)


@pytest.mark.parametrize(
    ("key", "single"),
    [("per_dataset_default_one_algorithm_one_trial_one_hparam", False), ("per_dataset_single", True)],
)
def test_number_of_jobs_of_each_dataset(key, single):
    assert {name: len(grid([name], single=single)) for name in ORACLE[key]} == ORACLE[key]


def test_number_of_jobs_of_upstreams_default_sweep():
    # 34 algorithms, 3 trials, 20 hparams: the count is that of one (algorithm, trial, hparams) times 2040.
    one = len(grid(ORACLE["sweep_DATASETS"]))
    assert one * len(ALGORITHMS) * 3 * 20 == ORACLE["all_defaults"]
    assert len(grid(ORACLE["sweep_DATASETS"], ["ERM", "SD"], 2, (0, 3))) == one * 2 * 2 * 3


def test_first_arguments_equal_upstreams():
    expected = ORACLE["first_args_ERM_Debug28"]
    n_hparams = (0, max(args["hparams_seed"] for args in expected) + 1)
    got = grid(["Debug28"], n_hparams=n_hparams, steps=3)
    assert got[: len(expected)] == expected
    assert [list(args) for args in got[: len(expected)]] == [list(args) for args in expected]
    assert (
        len(grid(["Debug28"], n_trials=2, n_hparams=(1, 3)))
        == ORACLE["ERM_Debug28_n_hparams_from_1_to_3_2trials"]
    )


def test_folders_of_the_bundled_sweep_are_found_again():
    with tarfile.open(DATA / "report" / "vlcs_sweep.tar.gz") as archive:
        folders = {name.split("/")[1] for name in archive.getnames()}
    args = grid(["VLCS"], n_trials=2, n_hparams=(0, 2), steps=1001, data_dir="/checkpoint/dlp/datasets_new")
    assert len(args) == ORACLE["ERM_VLCS_2hp_2trials"] == 40
    assert {train_job(one, "x").id for one in args} == folders


def test_optional_arguments_enter_only_when_given():
    plain = grid(["Debug28"], split=None, skip_model_save=False, eval_parts="all", rows=[])
    assert plain == grid(["Debug28"])
    assert grid(["Debug28"], split="frame")[0] == {**plain[0], "split": "frame"}
    assert grid(["Debug28"], eval_parts="needed")[0] == {**plain[0], "eval_parts": "needed"}


def test_environments_can_be_held_out_together():
    (args,) = grid(["SynthFake"], test_envs=[2, 3])
    assert args["test_envs"] == [2, 3]


def test_some_environments_can_be_held_out_each_alone():
    every = grid(["SynthFake"], single=True)
    assert grid(["SynthFake"], test_envs=[2, 3], single=True) == every[2:]


def test_training_sets_can_be_named_and_the_jobs_hold_out_the_others():
    held_out = [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]
    assert [one["test_envs"] for one in grid(["SynthFake"], single_train_envs=True)] == held_out
    (together,) = grid(["SynthFake"], train_envs=[0, 3])
    assert together["test_envs"] == [1, 2]
    each = grid(["SynthFake"], train_envs=[3, 0], single_train_envs=True)
    assert [one["test_envs"] for one in each] == [[0, 1, 2], [1, 2, 3]]
    # The same runs, in the same folders, as those that are told what to hold out: DomainBed's pair, for one.
    assert grid(["SynthFake"], train_envs=[0, 3]) == grid(["SynthFake"], test_envs=[1, 2])
    pairs = [one for one in grid(["Debug28"]) if len(one["test_envs"]) == 2]
    ours = grid(["Debug28"], single_train_envs=True)
    assert sorted(train_job(one, "x").id for one in ours) == sorted(train_job(one, "x").id for one in pairs)
