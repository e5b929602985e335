"""Columns of records: whichever way a file is read, the same runs come out, and tables do not see the difference."""

import json
import math

import numpy as np
import pytest

from roga_domainbed.results import records as records_file
from roga_domainbed.results import runs as runs_module
from roga_domainbed.results.runs import as_runs, load_runs
from roga_domainbed.results.selection import RULES, Metric, metrics_in, rank_runs

ARGS = {"dataset": "PACS", "algorithm": "ERM", "test_envs": [0], "trial_seed": 0, "hparams_seed": 0}
METRIC = Metric("acc")


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


ODD = {
    "as a trainer writes it": [record(0), record(1)],
    "null and NaN": [record(0, env1_out_acc=None), record(1, env1_out_acc=math.nan)],
    "whole numbers": [record(0, env1_out_acc=1), record(1)],
    "text for a number": [record(0, env1_out_acc="0.9"), record(1)],
    "true for a number": [record(0, env1_out_acc=True), record(1)],
    "keys that come and go": [record(0), record(1, env4_in_acc=0.1, env4_out_acc=0.2), record(2)],
    "two runs in one file": [record(0), record(0, {"hparams_seed": 1}), record(1)],
    "a step twice": [record(0), record(1, env0_in_acc=0.1), record(1, env0_in_acc=0.2)],
    "a blank line": [record(0), b"\n", record(1)],
    "garbage": [record(0), b"\xff\x00garbage\n", record(1)],
    "no end of line": [record(0), json.dumps(record(1)).encode()],
    "cut in a line": [record(0), json.dumps(record(1)).encode()[:50]],
    "two records on a line": [json.dumps(record(0)).encode() + b"," + json.dumps(record(1)).encode() + b"\n"],
    "a list": [record(0), b"[1, 2]\n"],
    "no step": [record(0), {"args": ARGS, "env0_in_acc": 0.3}],
    "a step that is text": [record(0), {**record(0), "step": "1"}],
    "args of another shape": [record(0), record(1, {"test_envs": "0"})],
    "empty": [],
}


def seen(runs):
    return [
        (run.args, run.steps, run.columns, np.nan_to_num(run.values, nan=-1.0).tolist(), run.metrics)
        for run in runs
    ]


@pytest.mark.parametrize("case", ODD)
def test_a_file_gives_the_same_at_once_line_by_line_and_from_the_cache(tmp_path, monkeypatch, case):
    write(tmp_path, "run", ODD[case])
    slow = records_file.load(tmp_path)
    expected = seen(as_runs(slow.records, "acc"))
    for _ in range(2):  # read, then from the cache
        found = load_runs(tmp_path, "acc", cache=True)
        assert seen(found.runs) == expected
        assert (found.problems, found.notes, found.folders) == (slow.problems, slow.notes, slow.folders)
    monkeypatch.setattr(runs_module, "_orjson", None)
    assert seen(load_runs(tmp_path, "acc", cache=True).runs) == expected


@pytest.mark.parametrize("case", ODD)
@pytest.mark.parametrize("rule", ["iid", "oracle", "last"])
def test_a_rule_picks_the_same_from_columns_as_from_records(tmp_path, case, rule):
    write(tmp_path, "run", ODD[case])
    records = records_file.load(tmp_path).records
    from_records = rank_runs(records, RULES.get(rule), 0)
    from_columns = rank_runs(load_runs(tmp_path, "acc").runs, RULES.get(rule), 0)
    assert [(run.hparams_seed, run.choice) for run in from_columns] == [
        (run.hparams_seed, run.choice) for run in from_records
    ]


def test_one_metric_is_kept_and_all_are_known(tmp_path):
    write(
        tmp_path,
        "run",
        [record(0, env0_in_auc=0.7, env0_out_auc=0.8, env0_in_n=7, env0_out_n=7, env1_in_x=1.0)],
    )
    (run,) = load_runs(tmp_path, "auc", cache=True).runs
    assert run.columns == ("env0_in_auc", "env0_out_auc")
    assert metrics_in([run]) == ["acc", "auc"]
    assert {path.name for path in tmp_path.glob(".collect*")} == {".collect-results-cache-auc.jsonl"}


def test_a_metric_that_is_no_files_name_has_no_cache(tmp_path):
    write(tmp_path, "run", [record(0)])
    load_runs(tmp_path, "../acc", cache=True)
    assert not list(tmp_path.parent.glob("*acc.jsonl"))
