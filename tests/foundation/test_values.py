"""Errors, seeds, registries, hyper-parameters, records: the values everything else is built on."""

import json
import math

import numpy as np
import pytest

from roga_domainbed.catalog import ALGORITHMS, AlgorithmInfo
from roga_domainbed.catalog.hparams import (
    HParam,
    choice,
    constant,
    log_uniform,
    overridden,
    parse_overrides,
    resolve,
)
from roga_domainbed.catalog.registry import Registry
from roga_domainbed.errors import MissingExtra, Problems, RogaError, unknown_name
from roga_domainbed.results import records
from roga_domainbed.results.runs import load_runs
from roga_domainbed.seeds import derive, generator, seed_hash, shuffled


def test_an_unknown_name_offers_the_nearest_and_lists_the_known():
    assert unknown_name("algorithm", "Roga", ["ERM", "RoGA"]) == (
        "unknown algorithm 'Roga' (did you mean 'RoGA'?); known: ERM, RoGA"
    )
    assert unknown_name("metric", "xyz", ["acc"]) == "unknown metric 'xyz'; known: acc"


def test_problems_are_raised_together_and_only_if_there_are_any():
    problems = Problems()
    problems.check()
    problems.add("one")
    with pytest.raises(RogaError, match=r"^one$"):
        problems.check()
    problems.add("two")
    with pytest.raises(RogaError, match=r"^2 problems:\n  1\. one\n  2\. two$"):
        problems.check()


def test_a_missing_extra_says_what_to_install():
    message = str(MissingExtra("av", "prepare", "reading videos"))
    assert message == "reading videos needs the package 'av': pip install 'roga-domainbed[prepare]'"


def test_seed_hash_and_shuffled_are_upstreams():  # recorded by running it
    assert seed_hash(0) == 1003224347
    assert seed_hash(1, 2) == 1981683110
    assert seed_hash("RotatedMNIST", "ERM", [0], 0, 0) == 8951917
    assert shuffled(50, 0)[:10] == [28, 11, 10, 41, 2, 27, 38, 31, 22, 4]


def test_seed_hash_refuses_numpy_scalars_whose_repr_changed_between_versions():
    with pytest.raises(TypeError, match="built-in values"):
        seed_hash(np.int64(1))
    with pytest.raises(TypeError, match="built-in values"):
        derive(0, "x", np.int64(1))


def test_generators_are_functions_of_their_arguments():
    draw = generator(0, "minibatch", 3, 1).integers(0, 2**62, 4).tolist()
    assert draw == generator(0, "minibatch", 3, 1).integers(0, 2**62, 4).tolist()
    others = [(1, "minibatch", 3, 1), (0, "augment", 3, 1), (0, "minibatch", 1, 3), (0, "minibatch", 3)]
    assert all(draw != generator(*other).integers(0, 2**62, 4).tolist() for other in others)
    assert 0 <= derive(0, "weights") < 2**63


def test_a_registry_refuses_a_name_twice_and_forgets_temporary_ones():
    registry = Registry("algorithm")
    registry.add(AlgorithmInfo("A"))
    with pytest.raises(ValueError, match="algorithm 'A' is registered already"):
        registry.add(AlgorithmInfo("A"))
    with registry.temporarily(AlgorithmInfo("B")):
        assert registry.names() == ["A", "B"]
    assert "B" not in registry
    with pytest.raises(RogaError, match="unknown algorithm 'B'; known: A"):
        registry.get("B")


def test_the_catalog_starts_with_upstreams_rows_in_upstreams_order():
    names = ALGORITHMS.names()
    assert names[0] == "ERM"
    assert names[:34][-1] == "URM"
    assert names[34:] == [info.name for info in ALGORITHMS if info.plugin]
    assert {"SAM", "ASAM", "GSAM", "SAGM", "RoGA"} <= set(names[34:])


SPECS = [
    HParam("lr", 1e-3, log_uniform(10, -4, -2)),
    HParam("drop", 0.0, choice([0.0, 0.1, 0.5])),
    HParam("kind", "a", constant("a"), choices=("a", "b")),
]


def test_adding_or_moving_a_hyper_parameter_changes_no_other():
    alone = resolve(SPECS[:1], random_seed=7)
    assert resolve(SPECS[::-1], random_seed=7)["lr"] == alone["lr"]
    assert 1e-4 <= alone["lr"] <= 1e-2
    assert list(resolve(SPECS)) == ["lr", "drop", "kind"]


def test_draws_are_built_in_values_that_json_takes():
    for seed in range(20):
        json.dumps(resolve(SPECS, random_seed=seed))


def faults(overrides, specs=SPECS):
    problems = Problems()
    overridden(resolve(specs), overrides, specs, problems)
    return problems.messages


def test_overrides_are_checked_for_name_kind_and_choice():
    problems = Problems()
    assert overridden(resolve(SPECS), {"lr": 1, "kind": "b"}, SPECS, problems) == {
        "lr": 1,
        "drop": 0.0,
        "kind": "b",
    }
    assert problems.messages == []
    assert faults({"lrr": 1, "kind": "c", "drop": True}) == [
        "unknown hparam 'lrr' (did you mean 'lr'?); known: lr, drop, kind",
        "hparam 'kind' must be one of 'a', 'b'; got 'c'",
        "hparam 'drop' must be a finite number; got True",
    ]


def test_a_whole_number_may_be_written_as_a_float_and_stays_an_integer():
    whole = [HParam("n", 1, constant(1), at_least=1)]
    problems = Problems()
    for value in (4, 4.0):
        n = overridden({}, {"n": value}, whole, problems)["n"]
        assert (n, type(n)) == (4, int)
    assert problems.messages == []
    for value in (4.5, 0, True, "4", math.inf, math.nan):
        assert faults({"n": value}, whole) == [
            f"hparam 'n' must be a whole number, at least 1; got {value!r}"
        ]


@pytest.mark.parametrize(
    ("bounds", "good", "bad", "message"),
    [
        ({}, [-2, 0, 1e300], [math.inf, math.nan, 2**64], "must be a finite number"),
        ({"above": 0}, [1e-9], [0, -1], "must be a finite number, above 0"),
        (
            {"at_least": 0, "below": 1},
            [0, 0.99],
            [-0.1, 1],
            "must be a finite number, at least 0 and below 1",
        ),
        ({"above": 0, "at_most": 1}, [0.1, 1], [0, 1.1], "must be a finite number, above 0 and at most 1"),
    ],
)
def test_bounds_are_declared_with_the_hyper_parameter_and_nothing_else_is_refused(bounds, good, bad, message):
    # a plugin's own log_temperature may be negative, whatever its name ends in
    specs = [HParam("log_temperature_dropout", -2.0, constant(-2.0), **bounds)]
    for value in good:
        assert faults({"log_temperature_dropout": value}, specs) == []
    for value in bad:
        assert faults({"log_temperature_dropout": value}, specs) == [
            f"hparam 'log_temperature_dropout' {message}; got {value!r}"
        ]


def test_malformed_overrides_show_where_they_break():
    assert parse_overrides(None) == {}
    with pytest.raises(RogaError, match=r"--hparams is not valid JSON: .*char 1.*got \"\{'lr'"):
        parse_overrides("{'lr': 1}")


def record(step=0, **args):
    whole = {"test_envs": [0], "trial_seed": 0, "dataset": "D", "algorithm": "A", "hparams_seed": 0, **args}
    return {"args": whole, "step": step}


def test_records_survive_the_round_trip_and_bad_lines_are_named(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    records.append_record(run, {**record(0), "env0_out_acc": float("nan")})  # upstream writes NaN
    with open(run / records.RECORDS, "ab") as file:
        file.write(b'\n{"step": 1}\n[1]\n\xff\xfe\n{"args": {"test_envs"')
    (tmp_path / "not-started").mkdir()
    (tmp_path / "results.txt").write_text("a table")
    loaded = load_runs(tmp_path, "acc")
    (read,) = records.read_records(run / records.RECORDS).records
    assert np.isnan(read.pop("env0_out_acc"))
    assert read == record(0)
    assert loaded.folders == ["run"]
    assert [problem.split(", ")[1].split(":")[0] for problem in loaded.problems] == [
        f"line {n}" for n in (2, 3, 4, 5, 6)
    ]
    assert not records.is_done(run)
    records.mark_done(run)
    assert (run / "done").read_bytes() == b"done"
