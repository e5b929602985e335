"""The selection rules against DomainBed's own answers, and where they differ from it on purpose."""

import json
import math
import tarfile
from pathlib import Path

import numpy as np
import pytest

from roga_domainbed.metrics import ACCURACY, get_metric
from roga_domainbed.results import selection
from roga_domainbed.results.runs import as_runs, load_runs
from roga_domainbed.results.selected import select
from roga_domainbed.results.selection import (
    RULES,
    UPSTREAM,
    environments_in,
    group_by_test_env,
    held_out_with,
    merge_auto_lr_stages,
    metrics_in,
    rank_runs,
)

DATA = Path(__file__).parents[1] / "data"
CASES = json.loads((DATA / "selection" / "model_selection_synthetic.json").read_text())
VLCS = json.loads((DATA / "selection" / "model_selection.json").read_text())
UPSTREAM_NAMES = {
    "iid": "IIDAccuracySelectionMethod",
    "loo": "LeaveOneOutSelectionMethod",
    "oracle": "OracleSelectionMethod",
}


def record(step=0, test_envs=(0,), hparams_seed=0, trial_seed=0, output_dir="o", **values):
    args = {
        "dataset": "D",
        "algorithm": "A",
        "test_envs": list(test_envs),
        "hparams_seed": hparams_seed,
        "trial_seed": trial_seed,
        "output_dir": output_dir,
    }
    return {"args": args, "step": step, **values}


def choose(records, rule, test_env=0, **options):
    """What the rule picks from records of one run."""
    return selection.choose(as_runs(records), RULES.get(rule), test_env, **options)


def sweep_value(records, rule, metric=ACCURACY, compat=None):
    """The value that tables show for environment 0 of a sweep with these records of one algorithm and trial."""
    values = select(as_runs(records), RULES.get(rule), metric, compat=compat).values
    return values.get("A", {}).get(("D", 0, 0))


def accuracies(*in_and_out):
    """Keys of as many environments as there are (in, out) pairs."""
    return {
        f"env{i}_{split}_acc": value
        for i, pair in enumerate(in_and_out)
        for split, value in zip(("in", "out"), pair, strict=True)
    }


@pytest.fixture(scope="module")
def vlcs_groups(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    with tarfile.open(DATA / "report" / "vlcs_sweep.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return group_by_test_env(load_runs(folder / "vlcs_sweep", "acc").runs)


@pytest.mark.parametrize("expected", VLCS, ids=lambda case: f"{case['algorithm']}-{case['test_env']}")
def test_a_sweep_is_ranked_as_upstream_ranks_it(vlcs_groups, expected):
    env = expected["test_env"]
    group = vlcs_groups[expected["trial_seed"], expected["dataset"], expected["algorithm"], env]
    assert sum(map(len, group)) == expected["n_records"]
    for name, upstream_name in UPSTREAM_NAMES.items():
        rule, upstreams = RULES.get(name), expected[upstream_name]
        assert rule.title == upstreams["name"]
        ranked = [
            {"hparams_seed": run.hparams_seed, "val_acc": run.choice.val, "test_acc": run.choice.test}
            for run in rank_runs(group, rule, env, compat=UPSTREAM)
        ]
        assert ranked == upstreams["hparams_accs_best_first"]
        assert (ranked[0]["test_acc"] if ranked else None) == upstreams["sweep_acc"]


@pytest.mark.parametrize("rule", UPSTREAM_NAMES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_compat_gives_upstreams_answer(case, rule):
    expected = case["expected"][UPSTREAM_NAMES[rule]]
    got = sweep_value(case["records"], rule, compat=UPSTREAM)
    assert got == pytest.approx(expected["sweep_acc"], abs=1e-15)
    if expected["run_acc"] != "n/a":
        choice = choose(case["records"], rule, compat=UPSTREAM)
        if expected["run_acc"] is None:
            assert choice is None
        else:
            val = float(expected["run_acc"]["val_acc"])
            assert (choice.val, choice.test) == pytest.approx(
                (val, expected["run_acc"]["test_acc"]), nan_ok=True
            )


def test_default_never_lets_nan_or_null_win():
    for missing in (math.nan, None):
        first = record(step=0, **accuracies((0.1, 0.1), (0.2, missing)))
        later = record(step=1, **accuracies((0.9, 0.9), (0.9, 0.3)))
        choice = choose([first, later], "iid")
        assert (choice.val, choice.test, choice.step) == (0.3, 0.9, 1)
        assert choose([first], "iid") is None


def test_null_test_metric_gives_no_value():
    run = [record(**accuracies((None, 0.1), (0.2, 0.5)))]
    assert sweep_value(run, "iid") is None
    assert math.isnan(sweep_value(run, "iid", compat=UPSTREAM))


def test_lower_is_better_for_the_equal_error_rate():
    worse = record(
        step=0, hparams_seed=1, env0_in_eer=0.1, env0_out_eer=0.1, env1_in_eer=0.4, env1_out_eer=0.4
    )
    better = record(
        step=0, hparams_seed=0, env0_in_eer=0.3, env0_out_eer=0.3, env1_in_eer=0.2, env1_out_eer=0.2
    )
    assert sweep_value([worse, better], "iid", metric=get_metric("eer")) == 0.3
    assert get_metric("video_eer").lower_is_better
    assert not get_metric("auc").lower_is_better


def test_ties_go_to_the_earliest_record_and_the_largest_hparams_seed():
    same = (0.5, 0.5)
    early = record(step=0, **accuracies((0.1, 0.0), same))
    late = record(step=9, **accuracies((0.2, 0.0), same))
    other = record(step=0, hparams_seed=3, **accuracies((0.3, 0.0), same))
    assert choose([early, late], "iid").step == 0
    assert sweep_value([other, early, late], "iid") == 0.3


def test_leave_one_out_survives_a_folder_that_was_run_twice():
    single = record(**accuracies((0.1, 0), (0, 0), (0, 0)))
    again = record(**accuracies((0.2, 0), (0, 0), (0, 0)))
    pairs = [
        record(test_envs=(0, 1), **accuracies((0, 0), (0.5, 0), (0, 0))),
        record(test_envs=(2, 0), **accuracies((0, 0), (0, 0), (0.7, 0))),
    ]
    choice = choose([single, *pairs, again], "loo")
    assert choice.val == pytest.approx(0.6)
    assert choice.test == 0.2
    assert choose([single, *pairs, again], "loo", compat=UPSTREAM) is None


def test_last_step_takes_the_last_record_and_ranks_hparams_by_training_validation():
    runs = [
        record(step=0, hparams_seed=0, **accuracies((0.9, 0.9), (0.9, 0.9))),
        record(step=5, hparams_seed=0, **accuracies((0.3, 0.9), (0.9, 0.6))),
        record(step=5, hparams_seed=1, **accuracies((0.4, 0.1), (0.9, 0.7))),
    ]
    assert sweep_value(runs, "last") == 0.4
    assert sweep_value(runs, "oracle") == 0.3


def test_several_test_environments_at_once_are_each_a_column():
    run = [record(test_envs=(1, 2), **accuracies((0.1, 0.8), (0.5, 0.0), (0.6, 0.0)))]
    assert held_out_with(as_runs(run), 1) == ((1, 2),)
    assert held_out_with(as_runs(run), 0) == ()
    choice = choose(run, "iid", 2, tested=(1, 2))
    assert (choice.val, choice.test) == (0.8, 0.6)


def test_pairs_do_not_count_where_an_environment_was_held_out_alone():
    runs = as_runs([record(test_envs=(1,)), record(test_envs=(0, 1)), record(test_envs=(0, 2))])
    assert held_out_with(runs, 1) == ((1,),)
    assert held_out_with(runs, 0) == (), "two different lists: neither is the protocol"


def test_runs_that_train_on_one_environment_each_all_count():
    sets = [(1, 2), (0, 2), (0, 1)]
    runs = as_runs([record(test_envs=envs) for envs in sets])
    assert held_out_with(runs, 0) == ((0, 1), (0, 2))
    assert held_out_with([*runs, *as_runs([record(test_envs=(0, 1, 2))])], 0) == (), (
        "one trains on nothing else"
    )


def test_a_run_joins_the_group_of_each_test_environment_in_order_of_appearance():
    groups = group_by_test_env(as_runs([record(test_envs=(2, 0)), record(test_envs=(0,), trial_seed=1)]))
    assert [(trial, env, len(group)) for (trial, _, _, env), group in groups.items()] == [
        (0, 2, 1), (0, 0, 1), (1, 0, 1)
    ]  # fmt: skip


def test_metrics_are_those_with_both_splits_and_counts_are_none():
    values = {
        "env0_in_acc": 0.1,
        "env0_out_acc": 0.1,
        "env0_in_auc": None,
        "env0_out_auc": 0.5,
        "env0_in_n": 5,
        "env0_out_n": 5,
        "env0_in_ap": 0.5,
        "env0_out_video_auc": "why",
        "env0_in_video_auc": 0.5,
        "loss": 1.0,
    }
    assert metrics_in(as_runs([record(**values)])) == ["acc", "auc"]
    assert environments_in(as_runs([record(**accuracies((0, 0), (0, 0)))])) == {0, 1}


def test_auto_lr_stages_merge_into_one_record():
    first = record(step=9, env0_in_acc=0.1)
    first["args"]["holdout_fraction"] = 0.2
    second = record(step=3, fd_env0_in_acc=0.7)
    second["args"]["holdout_fraction"] = 0.0
    (merged,) = merge_auto_lr_stages(as_runs([first, second]))
    assert merged.steps == (3,)
    assert merged.columns == ("env0_in_acc", "fd_env0_in_acc")
    assert merged.values.tolist() == [[0.1, 0.7]]


def test_auto_lr_shows_the_second_stage():
    values = {"env0_in_acc": 0.1, "env0_out_acc": 0.2, "env1_out_acc": 0.5}
    choice = choose([record(**values, fd_env0_in_acc=0.7)], "auto_lr")
    assert (choice.val, choice.test) == (0.5, 0.7)


@pytest.mark.parametrize("n_envs", [2, 4, 9, 20])
def test_the_mean_over_training_environments_has_the_bits_of_numpys_mean_of_each_record(n_envs):
    rng = np.random.RandomState(n_envs)
    run = [record(step=i, **accuracies(*rng.rand(n_envs, 2))) for i in range(17)]
    for judged in (run, [*run, record(step=17, **accuracies(*rng.rand(n_envs + 1, 2)))]):
        best = max(
            np.mean([entry[f"env{i}_out_acc"] for i in range(1, n_envs + 2) if f"env{i}_out_acc" in entry])
            for entry in judged
        )
        assert choose(judged, "iid").val == best
