"""Which runs stand in one table: by hand, for sweeps that leave one out, that train on one, and that do both."""

import pytest

from roga_domainbed.results.protocols import Planned, by_test_env, grouped
from roga_domainbed.results.runs import as_runs

PAIRS = [(0, 1), (0, 2), (1, 2)]


def runs_of(*sets, dataset="PACS", n_envs=4):
    values = {f"env{env}_{split}_acc": 0.5 for env in range(n_envs) for split in ("in", "out")}
    shared = {"dataset": dataset, "algorithm": "ERM", "trial_seed": 0, "hparams_seed": 0}
    return as_runs([{"args": {**shared, "test_envs": list(envs)}, "step": 0, **values} for envs in sets])


def shown(groups):
    """The tables of each group, with what the runs of each hold out."""
    return [
        {protocol.name: sorted({run.held_out for run in protocol.runs}) for protocol in group.protocols}
        for group in groups
    ]


def test_domainbeds_default_sweep_is_one_table_with_its_pairs_to_select_by():
    sets = [(0,), (1,), (2,), *PAIRS]
    groups = grouped(runs_of(*sets, dataset="Debug28", n_envs=3))
    assert shown(groups) == [{"Debug28": sorted(sets)}]
    (protocol,) = groups[0].protocols
    assert protocol.sets(1) == ((1,),)


def test_each_training_set_has_a_table_in_the_order_of_the_environments():
    sets = [(0, 1, 2), (1, 2, 3), (0, 2, 3), (0, 1, 3)]
    groups = grouped(runs_of(*sets))
    assert [list(group) for group in shown(groups)] == [[f"PACS, trained on {name}" for name in "ACPS"]]
    assert groups[0].training_sets_of == "PACS"
    assert [protocol.held_out for protocol in groups[0].protocols] == [sets[1], sets[2], sets[3], sets[0]]
    assert groups[0].protocols[0].sets(3) == ((1, 2, 3),)


def test_training_sets_of_other_sizes_are_not_averaged_with_them():
    groups = grouped(runs_of((1, 2, 3), (0, 2, 3), (2, 3)))
    assert [list(group) for group in shown(groups)] == [
        ["PACS, trained on A", "PACS, trained on C"],
        ["PACS, trained on A + C"],
    ]


def test_leave_one_out_and_training_sets_in_one_folder_are_told_apart():
    groups = grouped(runs_of((0,), (1,), (0, 1), (1, 2, 3), (0, 2, 3)))
    assert shown(groups) == [
        {"PACS": [(0,), (0, 1), (1,)]},
        {"PACS, trained on A": [(1, 2, 3)], "PACS, trained on C": [(0, 2, 3)]},
    ]


def test_a_pair_that_is_never_held_out_alone_is_what_a_training_set_leaves():
    assert shown(grouped(runs_of((0,), (2, 3)))) == [{"PACS": [(0,)]}, {"PACS, trained on A + C": [(2, 3)]}]


def test_three_environments_are_ambiguous_and_a_plan_decides():
    """With three, a pair is what one environment leaves, and what leave-one-domain-out selects by."""
    runs = runs_of((0,), (1,), (2,), *PAIRS, dataset="Debug28", n_envs=3)
    alone = {(0,), (1,), (2,)}
    both = Planned({"Debug28": alone}, {"Debug28": set(PAIRS)}, True)
    assert shown(grouped(runs, planned=both)) == [
        {"Debug28": sorted(alone)},
        {f"Debug28, trained on {env}": [PAIRS[2 - env]] for env in range(3)},
    ]
    planned = Planned({"Debug28": alone | set(PAIRS)}, {"Debug28": {(1, 2)}}, True)
    assert shown(grouped(runs, planned=planned)) == [
        {"Debug28": sorted([*alone, *PAIRS])},
        {"Debug28, trained on 0": [(1, 2)]},
    ]


def test_a_plan_that_trains_on_two_of_three_holds_out_one_and_is_no_leave_one_out():
    runs = runs_of((2,), dataset="Debug28", n_envs=3)
    planned = Planned({}, {"Debug28": {(2,)}}, True)
    assert shown(grouped(runs, planned=planned)) == [{"Debug28, trained on 0 + 1": [(2,)]}]


@pytest.mark.parametrize("by", ["test_envs", "train_envs"])
def test_one_way_for_all_runs_can_be_asked_for(by):
    mixed = runs_of((0,), (0, 1), (1, 2, 3))
    if by == "train_envs":
        names = [name for group in shown(grouped(mixed, by)) for name in group]
        assert sorted(names) == [f"PACS, trained on {names}" for names in ("A", "C + P + S", "P + S")]
    else:
        assert shown(grouped(mixed, by)) == [{"PACS": [(0,), (0, 1)]}]
        sources = runs_of((1, 2, 3), (0, 2, 3))
        assert (
            shown(grouped(sources, by)) == shown(by_test_env(sources)) == [{"PACS": [(0, 2, 3), (1, 2, 3)]}]
        )
        assert grouped(sources, by)[0].protocols[0].sets(3) == ((0, 2, 3), (1, 2, 3))


def test_a_dataset_that_no_catalog_knows_counts_the_environments_of_its_records():
    (group,) = grouped(runs_of((1, 2), dataset="Mine", n_envs=3))
    assert [protocol.name for protocol in group.protocols] == ["Mine, trained on env0"]


def test_datasets_of_one_table_each_are_averaged_whatever_their_protocol():
    runs = runs_of((0,), (1,)) + runs_of((1, 2), dataset="Debug28", n_envs=3)
    assert [list(group) for group in shown(grouped(runs))] == [["PACS", "Debug28, trained on 0"]]
