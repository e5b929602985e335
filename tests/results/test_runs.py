"""Runs as columns: what becomes of each kind of line, with orjson and without it."""

import json
import math
import os

import numpy as np
import pytest

from roga_domainbed.results import records as records_file
from roga_domainbed.results.runs import load_runs, load_sweeps
from roga_domainbed.results.selection import environments_in, metrics_in

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
    "no arguments": (
        [{**record(0), "args": None}, record(1)],
        [[1]],
        ["line 1: not a DomainBed record, skipped"],
    ),
    "arguments in a list": (
        [record(0), {**record(1), "args": [0]}],
        [[0]],
        ["line 2: not a DomainBed record, skipped"],
    ),
    "a number of 400 digits": (
        [record(0), record(1, loss=10**400)],
        [[0]],
        ["line 2: not a JSON record (a whole"],
    ),
    "a number of 5000 digits": (
        [record(0), b'{"step": ' + b"9" * 5000 + b"}\n"],
        [[0]],
        ["line 2: not a JSON record (a whole number of more than 64 bits), skipped"],
    ),
    "a step beyond 64 bits": ([record(2**63), record(0)], [[0]], ["line 1: not a "]),
    "hyper-parameters nested deep": (
        [
            record(0),
            json.dumps(record(1)).replace('"hparams": {}', f'"hparams": {"[" * 900}{"]" * 900}').encode(),
        ],
        [[0]],
        ["line 2: n"],
    ),
    "half a surrogate pair": (
        [record(0), record(1, {"algorithm": "\ud800"})],
        [[0]],
        ["line 2: not a JSON record (text"],
    ),
    "environments that are none": (
        [
            record(0, {"test_envs": [10**9]}),
            record(0, {"test_envs": [True]}),
            record(0, {"test_envs": [-1]}),
            record(1),
        ],
        [[1]],
        [f"line {n}: not a DomainBed record (args.test_envs), skipped" for n in (1, 2, 3)],
    ),
    "a name of a million letters": (
        [record(0), record(1, {"dataset": "x" * 10**6})],
        [[0]],
        ["line 2: not a DomainBed record (args.dataset), skipped"],
    ),
    "more keys than a record has": (
        [record(1, **{f"key {n}": 0 for n in range(30_000)}), record(0)],
        [[0]],
        ["line 1: more than 20,000 keys, skipped"],
    ),
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
    assert run.columns == ("env0_in_auc", "env0_out_auc", "env0_in_n"), (
        "with the number of what was tested on"
    )
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


def test_an_environment_far_beyond_the_others_is_no_metric_and_makes_no_columns(tmp_path):
    write(tmp_path, "run", [record(0, env10000000_in_acc=0.5, env01_in_acc=0.5)])
    (run,) = load_runs(tmp_path, "acc").runs
    assert environments_in([run]) == {0, 1, 2, 3}


def test_numbers_too_large_to_be_a_metric_are_none(tmp_path):
    write(
        tmp_path,
        "run",
        [record(step, env1_out_acc=value) for step, value in enumerate((1e308, -math.inf, 0.5))],
    )
    (run,) = load_runs(tmp_path, "acc").runs
    np.testing.assert_array_equal(run.column("env1_out_acc"), [np.nan, np.nan, 0.5])


ODD_FILES = {
    "a named pipe": (os.mkfifo, "not a regular file but a named pipe"),
    "a folder": (os.mkdir, "Is a directory"),
    "a device without end": (lambda path: os.symlink("/dev/zero", path), "not a regular file but a device"),
    "a link to itself": (lambda path: os.symlink(path, path), "Too many levels of symbolic links"),
    "a terabyte of nothing": (
        lambda path: (open(path, "w").close(), os.truncate(path, 2**40)),
        "the most that is read",
    ),
}


@pytest.mark.parametrize("kind", ODD_FILES)
def test_whatever_a_records_file_is_the_other_runs_are_read(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(records_file, "LARGEST_FILE", 2**20)
    make, said = ODD_FILES[kind]
    for name in ("a", "c"):
        write(tmp_path, name, [record(0)])
    (tmp_path / "b").mkdir()
    make(str(tmp_path / "b" / "results.jsonl"))
    loaded = load_runs(tmp_path, "acc")
    assert [run.source for run in loaded.runs] == [f"{tmp_path}/a", f"{tmp_path}/c"]
    (problem,) = loaded.problems
    assert problem.startswith(f"{tmp_path}/b/results.jsonl: ")
    assert said in problem


def test_the_first_of_a_million_bad_lines_are_named(tmp_path):
    write(tmp_path, "run", [record(0), b"\n" * 10**5])
    problems = load_runs(tmp_path, "acc").problems
    assert len(problems) == 101
    assert problems[-1].endswith("99,900 more lines, skipped")


def test_one_folder_that_cannot_be_read_costs_only_its_own_runs(tmp_path, monkeypatch):
    write(tmp_path, "run", [record(0)])
    listdir = os.listdir

    def refused(folder):
        if str(folder).endswith("closed"):
            raise PermissionError(13, "Permission denied", folder)
        return listdir(folder)

    monkeypatch.setattr(os, "listdir", refused)
    loaded = load_sweeps([tmp_path, tmp_path / "closed"], "acc")
    assert len(loaded.runs) == 1
    assert loaded.problems == [f"{tmp_path / 'closed'}: Permission denied, skipped"]
