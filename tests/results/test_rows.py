"""Rows of tables: names from a sweep's plan or from ``--rows``, and their order."""

import pytest

from roga_domainbed.errors import RogaError
from roga_domainbed.metrics import ACCURACY
from roga_domainbed.results.rows import name_rows, row_name, rows_of
from roga_domainbed.results.runs import as_runs
from roga_domainbed.results.selected import select
from roga_domainbed.results.selection import RULES


def runs_of(*settings):
    """A run for each (algorithm, row or None, hparams)."""
    records = []
    for seed, (algorithm, row, hparams) in enumerate(settings):
        args = {"dataset": "Debug28", "algorithm": algorithm, "test_envs": [0], "trial_seed": 0}
        args |= {"hparams_seed": seed, "steps": 300 + seed, **({"row": row} if row else {})}
        records.append({"args": args, "hparams": hparams, "step": 0, "env0_in_acc": 0.5, "env0_out_acc": 0.5})
    return as_runs(records)


def named(runs, *keys):
    name_rows(runs, keys)
    return [row_name(run.args) for run in runs]


def test_rows_are_in_the_catalogs_order_of_algorithms_and_in_natural_order_of_names():
    settings = [("Mine", None), ("SAM", "SAM, ρ 0.2"), ("SAM", "SAM, ρ 0.05"), ("SAM", "SAM, 10 steps")]
    settings += [("SAM", "SAM, 9 steps"), ("ERM", None), ("SAM", "SAM, ρ 1e-3")]
    found = rows_of(runs_of(*[(algorithm, row, {}) for algorithm, row in settings]))
    assert list(found) == [
        "ERM", "SAM, 9 steps", "SAM, 10 steps", "SAM, ρ 1e-3", "SAM, ρ 0.05", "SAM, ρ 0.2", "Mine"
    ]  # fmt: skip
    assert found["SAM, ρ 0.2"] == "SAM"


def test_rows_are_named_after_arguments_and_hparams():
    settings = [("ERM", None, {"backbone": "resnet34"}), ("SAM", None, {"backbone": "vit", "rho": 0.05})]
    assert named(runs_of(*settings), "algorithm", "hparams.backbone") == [
        "ERM, backbone resnet34",
        "SAM, backbone vit",
    ]
    assert named(runs_of(*settings), "algorithm", "steps") == ["ERM, steps 300", "SAM, steps 301"]
    assert named(runs_of(*settings), "algorithm", "hparams.rho") == ["ERM", "SAM, rho 0.05"], "ERM has no rho"
    assert named(runs_of(("SAM", "SAM, ρ 0.05", {})), "algorithm", "row") == ["SAM, SAM, ρ 0.05"]


def test_an_unknown_key_lists_those_there_are():
    with pytest.raises(
        RogaError, match=r"did you mean 'hparams\.rho'\?.*known: dataset, algorithm, .*, hparams\.rho$"
    ):
        named(runs_of(("SAM", None, {"rho": 0.05})), "algorithm", "hparams.roh")


def test_two_algorithms_are_never_in_one_row():
    settings = [("ERM", None, {"backbone": "vit"}), ("SAM", None, {"backbone": "vit"})]
    with pytest.raises(
        RogaError, match="row 'backbone vit' would hold runs of ERM and of SAM; add algorithm to --rows"
    ):
        named(runs_of(*settings), "hparams.backbone")


def test_selection_over_hparams_stays_within_a_row():
    runs = runs_of(("SAM", "a", {}), ("SAM", "a", {}), ("SAM", "b", {}))
    for run, value in zip(runs, (0.6, 0.7, 0.9), strict=True):
        run.values[:] = value
    place = ("Debug28", 0, 0)
    assert select(runs, RULES.get("oracle"), ACCURACY).values == {"a": {place: 0.7}, "b": {place: 0.9}}
