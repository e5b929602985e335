"""Runs as columns: what becomes of each kind of line, with orjson and without it."""

import json
import math

import numpy as np
import pytest

from roga_domainbed.results import records as records_file
from roga_domainbed.results.runs import load_runs
from roga_domainbed.results.selection import metrics_in

ARGS = {"dataset": "PACS", "algorithm": "ERM", "test_envs": [0], "trial_seed": 0, "hparams_seed": 0}


def record(step, args=(), **values):
    metrics = {
        f"env{i}_{part}_acc": 0.5 + 0.01 * i + 0.001 * step for i in range(4) for part in ("in", "out")
    }
    return {"args": {**ARGS, **dict(args)}, "step": step, "hparams": {}, "loss": 1.0, **metrics, **values}


def write(folder, name, lines):
    (folder / name).mkdir()
    content = b"".join(
        line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines
    )
    (folder / name / "results.jsonl").write_bytes(content)


NOT_JSON, NOT_A_RECORD = "not a JSON record, skipped", "not a DomainBed record"

#: The lines of a file → the steps of the runs in it, and what is said of the lines that are no records.
FILES = {
    "as a trainer writes it": ([record(0), record(1)], [[0, 1]], []),
    "null and NaN": (
        [record(0, env1_out_acc=None), record(1, env1_out_acc=math.nan)],
        [[0, 1]],
        ["line 2: NaN or infinity"],
    ),
    "whole numbers": ([record(0, env1_out_acc=1), record(1)], [[0, 1]], []),
    "text for a number": ([record(0, env1_out_acc="0.9"), record(1)], [[0, 1]], []),
    "keys that come and go": (
        [record(0), record(1, env4_in_acc=0.1, env4_out_acc=0.2), record(2)],
        [[0], [1], [2]],
        [],
    ),
    "two runs in one file": ([record(0), record(0, {"hparams_seed": 1}), record(1)], [[0], [0], [1]], []),
    "other hparams": ([record(0), record(1, hparams={"lr": 1})], [[0], [1]], []),
    "a step twice": ([record(0), record(1), record(1)], [[0, 1, 1]], []),
    "a blank line": ([record(0), b"\n", record(1)], [[0, 1]], ["line 2: blank, skipped"]),
    "garbage": ([record(0), b"\xff\x00garbage\n", record(1)], [[0, 1]], [f"line 2: {NOT_JSON}"]),
    "no end of line": ([record(0), json.dumps(record(1)).encode()], [[0, 1]], []),
    "cut in a line": ([record(0), json.dumps(record(1)).encode()[:50]], [[0]], [f"line 2: {NOT_JSON}"]),
    "two records on a line": (
        [json.dumps(record(0)).encode() + b"," + json.dumps(record(1)).encode() + b"\n"],
        [],
        [f"line 1: {NOT_JSON}"],
    ),
    "a list": ([record(0), b"[1, 2]\n"], [[0]], [f"line 2: {NOT_A_RECORD}"]),
    "no step": (
        [record(0), {"args": ARGS, "env0_in_acc": 0.3}],
        [[0]],
        [f"line 2: {NOT_A_RECORD} (lacks step)"],
    ),
    "a step that is text": (
        [record(0), {**record(0), "step": "1"}],
        [[0]],
        ["line 2: not a DomainBed record (step), skipped"],
    ),
    "args of another shape": (
        [record(0), record(1, {"test_envs": "0"})],
        [[0]],
        ["line 2: not a DomainBed record (args.test_envs), skipped"],
    ),
    "empty": ([], [], ["empty"]),
}


@pytest.mark.parametrize("case", FILES)
@pytest.mark.parametrize("with_orjson", [True, False])
def test_a_file_gives_its_runs_and_every_other_line_is_named(tmp_path, monkeypatch, case, with_orjson):
    lines, steps, said = FILES[case]
    if not with_orjson:
        monkeypatch.setattr(records_file, "_orjson", None)
    write(tmp_path, "run", lines)
    loaded = load_runs(tmp_path, "acc")
    assert [list(run.steps) for run in loaded.runs] == steps
    sentences = loaded.problems + loaded.notes
    assert len(sentences) == len(said)
    for sentence, part in zip(sentences, said, strict=True):
        assert sentence.startswith(str(tmp_path / "run" / "results.jsonl"))
        assert part in sentence


def test_what_is_no_number_is_nan_and_whole_numbers_are_numbers(tmp_path):
    odd = [None, math.nan, "0.9", 1, 0.25]
    write(tmp_path, "run", [record(step, env1_out_acc=value) for step, value in enumerate(odd)])
    (run,) = load_runs(tmp_path, "acc").runs
    np.testing.assert_array_equal(run.column("env1_out_acc"), [np.nan, np.nan, np.nan, 1, 0.25])
    assert np.isnan(run.column("env9_in_acc")).all()


def test_one_metric_is_kept_and_all_are_known(tmp_path):
    more = {"env0_in_auc": 0.7, "env0_out_auc": 0.8, "env0_in_n": 7, "env0_out_n": 7, "env1_in_x": 1.0}
    write(tmp_path, "run", [record(0, **more)])
    (run,) = load_runs(tmp_path, "auc").runs
    assert run.columns == ("env0_in_auc", "env0_out_auc")
    assert metrics_in([run]) == ["acc", "auc"]


def test_a_run_has_the_args_and_hparams_of_its_records_and_knows_its_folder(tmp_path):
    write(
        tmp_path,
        "run",
        [record(0, {"row": "SAM, small"}, hparams={"rho": 0.05}), {**record(9), "hparams": 3}],
    )
    first, second = load_runs(tmp_path, "acc").runs
    assert (first.args["row"], first.hparams, first.source) == (
        "SAM, small",
        {"rho": 0.05},
        f"{tmp_path}/run",
    )
    assert second.hparams == {}
