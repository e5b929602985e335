import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from roga_domainbed.cli import main

DATA = Path(__file__).parents[1] / "data" / "report"


@pytest.fixture
def vlcs(tmp_path):
    with tarfile.open(DATA / "vlcs_sweep.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "vlcs_sweep"


def collect(*argv):
    return main(["collect-results", *map(str, argv)])


@pytest.mark.parametrize(("flags", "suffix"), [([], "txt"), (["--latex"], "tex")])
def test_stdout_and_the_saved_file_equal_upstreams(vlcs, capsys, flags, suffix):
    oracle = (DATA / f"collect_results.{suffix}").read_text()
    for _ in range(2):  # the file of the first time must not disturb the second
        assert collect("--input_dir", vlcs, *flags) == 0
        captured = capsys.readouterr()
        assert captured.out == oracle
        assert (vlcs / f"results.{suffix}").read_text() == oracle
        assert captured.err == "40 runs found: 40 finished, 0 unfinished; 0 lines skipped.\n"


def test_bad_lines_are_counted_and_named_and_the_table_comes(vlcs, capsys):
    run = sorted(path for path in vlcs.iterdir())[0]
    with open(run / "results.jsonl", "a") as file:
        file.write('\n{"args": {"test_envs": 3}}\n{"args": {"test_envs": [0]')
    (run / "done").unlink()
    assert collect("--input_dir", vlcs) == 0
    captured = capsys.readouterr()
    assert captured.out == (DATA / "collect_results.txt").read_text()
    assert "40 runs found: 39 finished, 1 unfinished; 3 lines skipped." in captured.err
    for number in (6, 7, 8):
        assert f"{run / 'results.jsonl'}, line {number}:" in captured.err


def test_a_table_that_cannot_be_saved_is_still_printed(vlcs, capsys):
    (vlcs / "results.txt").mkdir()
    assert collect("--input_dir", vlcs) == 0
    captured = capsys.readouterr()
    assert captured.out == (DATA / "collect_results.txt").read_text()
    assert f"Not saved to {vlcs / 'results.txt'}" in captured.err


def test_rules_come_in_the_order_asked_for(vlcs, capsys):
    assert collect("--input_dir", vlcs, "--select", "oracle", "last") == 0
    out = capsys.readouterr().out
    titles = [line.partition("method: ")[2] for line in out.splitlines() if "Dataset:" in line]
    assert titles == [
        "test-domain validation set (oracle)",
        "last step, hparams by training-domain validation set",
    ]


def write_run(folder, **fields):
    args = {"test_envs": [0], "trial_seed": 0, "dataset": "Debug28", "algorithm": "ERM", "hparams_seed": 0}
    values = {f"env{i}_{split}_{m}": 0.5 for i in range(3) for split in ("in", "out") for m in ("acc", "auc")}
    record = {"args": {**args, **fields.pop("args", {})}, "step": 0, **values, **fields}
    folder.mkdir()
    (folder / "results.jsonl").write_text(json.dumps(record) + "\n")


def test_another_metric_goes_to_a_file_of_its_own(tmp_path, capsys):
    write_run(tmp_path / "a")
    assert collect("--input_dir", tmp_path, "--metric", "auc") == 0
    assert "metric: auc\n" in capsys.readouterr().out
    assert [path.name for path in tmp_path.glob("results*")] == ["results_auc.txt"]


def test_an_unknown_metric_lists_those_the_records_have(tmp_path, capsys):
    write_run(tmp_path / "a")
    assert collect("--input_dir", tmp_path, "--metric", "acu") == 2
    assert "unknown metric 'acu' (did you mean 'auc'?); known: acc, auc" in capsys.readouterr().err


def test_faults_of_the_user_are_reported_together(tmp_path, capsys):
    flags = ["--auto_lr", "--select", "iid"]
    assert collect("--input_dir", tmp_path / "missing", *flags) == 2
    err = capsys.readouterr().err
    assert "2 problems" in err
    assert "is not a folder" in err
    assert collect("--input_dir", tmp_path, "--select", "iidd") == 2
    assert "unknown selection rule 'iidd' (did you mean 'iid'?)" in capsys.readouterr().err


def test_no_records_is_an_error_that_says_what_is_expected(tmp_path, capsys):
    assert collect("--input_dir", tmp_path) == 2
    assert "no records under" in capsys.readouterr().err


def test_auto_lr_needs_records_of_train_autolr(tmp_path, capsys):
    write_run(tmp_path / "a")
    assert collect("--input_dir", tmp_path, "--auto_lr") == 2
    assert "no record has fd_env* values" in capsys.readouterr().err
    write_run(tmp_path / "b", args={"test_envs": [1]}, fd_env1_in_acc=0.25)
    assert collect("--input_dir", tmp_path, "--auto_lr") == 0
    out = capsys.readouterr().out
    assert "auto lr training-domain validation set" in out
    assert "25.0 +/- 0.0" in out


def test_compat_with_unknown_datasets_alone_is_an_error(tmp_path, capsys):
    write_run(tmp_path / "a", args={"dataset": "Mine"})
    assert collect("--input_dir", tmp_path, "--compat", "upstream") == 2
    assert "drops datasets" in capsys.readouterr().err


def test_two_sweeps_in_one_folder_are_noticed(tmp_path, capsys):
    write_run(tmp_path / "a", args={"output_dir": "a"})
    write_run(tmp_path / "b", args={"output_dir": "b"})
    assert collect("--input_dir", tmp_path) == 0
    assert "1 runs are read from several folders each" in capsys.readouterr().err


def test_help_is_instant_and_the_tables_need_no_torch(vlcs):
    code = (
        "import sys; from roga_domainbed.cli import main; main(sys.argv[1:]); "
        "print(','.join(m for m in ('torch', 'pandas', 'sklearn', 'numpy') if m in sys.modules), file=sys.stderr)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, "collect-results", "--input_dir", str(vlcs)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "numpy"
    start = time.perf_counter()
    helped = subprocess.run(
        [sys.executable, "-m", "roga_domainbed", "collect-results", "--help"],
        env=environment,
        capture_output=True,
    )
    assert helped.returncode == 0
    assert time.perf_counter() - start < 2.0, "some tenths of a second when the machine is free"
