"""What is packed comes back as it was; what is damaged, or would be lost, is a sentence."""

import contextlib
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from roga_domainbed.cli import main
from roga_domainbed.errors import RogaError
from roga_domainbed.launch import LAUNCHERS, LauncherInfo, Outcome
from roga_domainbed.launch.jobfile import JobFile, write_job_file
from roga_domainbed.results.packed import packed_runs, schema
from roga_domainbed.results.records import mark_done
from roga_domainbed.sweep.folder import store_plan
from roga_domainbed.sweep.pack import pack, unpack
from roga_domainbed.sweep.plan import Plan

PLAN = Plan(datasets=["Debug28"], algorithms=["ERM"], n_trials=1, n_hparams=1, single_test_envs=True)


def run(command, output_dir, *flags):
    return main(["sweep", command, "--output_dir", str(output_dir), *map(str, flags)])


def line(step, **values):
    args = {"algorithm": "ERM", "dataset": "Debug28", "test_envs": [0], "trial_seed": 0, "hparams_seed": 0}
    record = {"args": args, "step": step, "hparams": {"lr": 1e-3}, "env0_in_acc": 0.1 + 0.2, **values}
    return json.dumps(record, sort_keys=True).encode() + b"\n"


def scores(step, seed, **more):
    score = np.random.RandomState(seed).rand(5)
    return pa.table({"step": [step] * 5, "env": pa.array([0] * 5, pa.int32()), "score": score, **more})


@pytest.fixture
def sweep(tmp_path, capsys):
    """Of three jobs one is done, one was killed at its second record, one has no folder."""
    folder = tmp_path / "sweep"
    store_plan(folder, PLAN)
    assert run("launch", folder, "--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    made = [Path(text.split()[2]) for text in lines if text.startswith("Not launched")]
    assert len(made) == 3
    for number, job in enumerate(made[:2]):
        job.mkdir()
        (job / "results.jsonl").write_bytes(line(0) + line(5, loss=float("nan")) + b"{torn" * number)
        parquet.write_table(scores(5, number), job / "scores.parquet")
        (job / "out.txt").write_text("not kept")
    mark_done(made[0])
    write_job_file(made[1], JobFile(("train", "--dataset", "Debug28"), -9, 0.0, 1.0, "elsewhere", 1))
    return folder, made


def packed(sweep, tmp_path):
    folder = tmp_path / "packed"
    assert run("pack", sweep, "--to", folder) == 0
    return folder


def launched(jobs, options):
    for job in jobs:
        os.makedirs(job.output_dir, exist_ok=job.retry)
        mark_done(job.output_dir)
        print(f"ran {job.id}")
        yield Outcome(job, 0)


def test_every_line_comes_back_and_how_each_run_ended(sweep, tmp_path):
    folder, (done, killed, _) = sweep
    runs = packed_runs(packed(folder, tmp_path))
    assert {name: (found.state, found.exit_code) for name, found in runs.items()} == {
        done.name: ("Done", None),
        killed.name: ("Interrupted", -9),
    }
    for job in (done, killed):
        assert runs[job.name].content == (job / "results.jsonl").read_bytes()
    assert (tmp_path / "packed" / "plan.json").read_bytes() == (folder / "plan.json").read_bytes()


def test_status_of_a_packed_sweep(sweep, tmp_path, capsys):
    folder, _ = sweep
    target = packed(folder, tmp_path)
    capsys.readouterr()
    assert run("status", target) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[2].split() == ["ERM", "1/1", "0/1~", "0/1"]
    assert "was killed by SIGKILL" in table[-1]


def test_unpacked_elsewhere_a_launch_runs_only_what_was_not_done(sweep, tmp_path, capsys):
    folder, (done, killed, absent) = sweep
    target, elsewhere = packed(folder, tmp_path), tmp_path / "elsewhere"
    assert run("unpack", elsewhere, "--from", target) == 0
    assert sorted(os.listdir(elsewhere / done.name)) == ["done", "results.jsonl", "scores.parquet"]
    assert sorted(os.listdir(elsewhere)) == sorted([done.name, "plan.json", "plan.lock"])
    assert (elsewhere / done.name / "results.jsonl").read_bytes() == (done / "results.jsonl").read_bytes()
    assert parquet.read_table(elsewhere / done.name / "scores.parquet").equals(scores(5, 0))
    capsys.readouterr()
    with LAUNCHERS.temporarily(LauncherInfo("stand_in", f"{__name__}:launched", "")):
        assert run("launch", elsewhere, "--command_launcher", "stand_in", "--skip_confirmation") == 0
    ran = {text.split()[1] for text in capsys.readouterr().out.splitlines() if text.startswith("ran ")}
    assert ran == {killed.name, absent.name}
    before = {name: (elsewhere / name / "done").stat().st_mtime_ns for name in (done.name, killed.name)}
    assert unpack(target, elsewhere) == (0, 1, 1)
    assert before == {name: (elsewhere / name / "done").stat().st_mtime_ns for name in before}


def test_packing_again_replaces_the_files_once_more_runs_are_done(sweep, tmp_path):
    folder, (_, killed, _) = sweep
    target = packed(folder, tmp_path)
    before = {name: (target / name).read_bytes() for name in os.listdir(target)}
    packed(folder, tmp_path)
    assert before == {name: (target / name).read_bytes() for name in os.listdir(target)}
    mark_done(killed)
    packed(folder, tmp_path)
    assert packed_runs(target)[killed.name].is_done


def test_finished_runs_that_are_nowhere_else_are_not_replaced(sweep, tmp_path, capsys):
    folder, (done, _, _) = sweep
    target = packed(folder, tmp_path)
    os.unlink(done / "done")
    before = (target / "records.parquet").read_bytes()
    assert run("pack", folder, "--to", target) == 2
    assert "has 1 finished runs that the sweep has not" in capsys.readouterr().err
    assert (target / "records.parquet").read_bytes() == before


@pytest.mark.parametrize("name", ["records.parquet", "scores.parquet"])
def test_somebody_elses_file_is_not_replaced(sweep, tmp_path, name, capsys):
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / name).write_text("mine")
    assert run("pack", sweep[0], "--to", tmp_path / "packed") == 2
    assert "holds something else" in capsys.readouterr().err
    assert os.listdir(tmp_path / "packed") == [name]


def test_scores_with_other_columns_are_left_out_by_name(sweep, tmp_path, capsys):
    folder, (done, killed, _) = sweep
    parquet.write_table(scores(5, 0).drop_columns("step"), done / "scores.parquet")
    target = packed(folder, tmp_path)
    assert capsys.readouterr().err == f"{done}/scores.parquet: not the columns of this version, left out\n"
    found = parquet.read_table(target / "scores.parquet")
    assert set(found["run"].to_pylist()) == {killed.name}
    (killed / "scores.parquet").write_bytes(b"PAR1 damaged")
    packed(folder, tmp_path)
    assert sorted(os.listdir(target)) == ["plan.json", "records.parquet"]


@pytest.mark.parametrize("command", ["launch", "delete_incomplete"])
def test_jobs_are_not_run_beside_a_packed_sweep(command, sweep, tmp_path, capsys):
    target = packed(sweep[0], tmp_path)
    assert run(command, target, "--skip_confirmation") == 2
    assert f"sweep unpack --from {target} --output_dir NEW" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "flags", "message"),
    [
        ("pack", [], "--to FOLDER belongs to pack"),
        ("unpack", ["--to", "x"], "--from FOLDER belongs to unpack"),
        ("status", ["--to", "x"], "--to FOLDER belongs to pack"),
        ("pack", ["--to", "nothing"], "are the same folder"),
        ("pack", ["--to", "x", "--n_trials", "2"], "leave the arguments for them out"),
        ("pack", ["--to", "x"], "no run folders in"),
        ("unpack", ["--from", "x"], "no such folder: 'x'"),
        ("unpack", ["--from", "other"], "no records.parquet in 'other'"),
    ],
)
def test_faults_are_said_before_anything_is_written(command, flags, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    os.mkdir("nothing")
    os.mkdir("other")
    assert run(command, "nothing", *flags) == 2
    assert message in capsys.readouterr().err
    assert sorted(os.listdir()) == ["nothing", "other"]
    assert not os.listdir("nothing")


def rows(*values):
    names = ("run", "state", "exit_code", "argv", "record")
    return pa.Table.from_pylist([dict(zip(names, value, strict=True)) for value in values], schema())


def row(name="a", state="Done", record=b"{}\n"):
    return (name, state, None, None, record)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (rows(row("../up")), "which is no name of a folder"),
        (rows(row("/etc")), "which is no name of a folder"),
        (rows(row("..")), "which is no name of a folder"),
        (rows(row("")), "which is no name of a folder"),
        (rows(row(None)), "which is no name of a folder"),
        (rows(row(state="done")), "the run a is 'done'; expected Done, Failed, Interrupted"),
        (rows(row(), row("b"), row()), "rows of a run stand apart"),
        (rows(row(), row(record=None)), "rows without a record"),
        (rows(row()).drop_columns("state"), "its columns are not run, state"),
        (rows(*[row(record=b"x" * 2**16)] * 5000), "unpack to 5,000 rows"),
    ],
)
@pytest.mark.parametrize("command", ["collect-results", "status", "unpack"])
def test_what_is_no_packed_sweep_is_one_sentence(table, message, command, tmp_path, capsys):
    parquet.write_table(table, tmp_path / "records.parquet", compression="zstd", use_dictionary=False)
    command = {
        "collect-results": ["collect-results", "--input_dir", str(tmp_path)],
        "status": ["sweep", "status", "--output_dir", str(tmp_path)],
        "unpack": ["sweep", "unpack", "--output_dir", str(tmp_path / "new"), "--from", str(tmp_path)],
    }[command]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert f"{tmp_path}/records.parquet cannot be read as a packed sweep: " in said
    assert message in said
    assert os.listdir(tmp_path) == ["records.parquet"]


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_a_file_that_was_cut_is_one_sentence(kept, sweep, tmp_path):
    target = packed(sweep[0], tmp_path)
    for name in ("scores.parquet", "records.parquet"):
        content = (target / name).read_bytes()
        (target / name).write_bytes(content[:kept])
        with pytest.raises(RogaError, match=f"{name} cannot be read as"):
            unpack(target, tmp_path / f"new {name}")


def test_each_byte_may_be_damaged(sweep, tmp_path):
    """Whatever is wrong with the file: its runs, or a sentence."""
    target = packed(sweep[0], tmp_path)
    content = bytearray((target / "records.parquet").read_bytes())
    draw = np.random.RandomState(0)
    for _ in range(300):
        damaged = bytearray(content)
        damaged[draw.randint(len(content))] ^= 1 << draw.randint(8)
        (target / "records.parquet").write_bytes(damaged)
        os.utime(target / "records.parquet", ns=(draw.randint(2**60), draw.randint(2**60)))
        with contextlib.suppress(RogaError):
            assert all(isinstance(found.content, bytes) for found in packed_runs(target).values())


def test_names_that_are_no_text_are_left_out_by_name(sweep, tmp_path, capsys):
    folder, (done, _, _) = sweep
    os.mkdir(os.fsencode(folder) + b"/\xff")
    with open(os.fsencode(folder) + b"/\xff/results.jsonl", "wb") as file:
        file.write(line(0))
    done.rename(folder / "run:1 ü")
    target = packed(folder, tmp_path)
    assert capsys.readouterr().err == "'\\udcff': not Unicode, left out\n"
    assert packed_runs(target)["run:1 ü"].is_done
    assert len(packed_runs(target)) == 2


def test_a_run_without_records_stays_one(sweep, tmp_path):
    folder, (_, killed, _) = sweep
    os.unlink(killed / "results.jsonl")
    assert pack(folder, tmp_path / "packed").runs == 2
    found = packed_runs(tmp_path / "packed")[killed.name]
    assert found.content is None
    assert found.argv == ("train", "--dataset", "Debug28")
    (killed / "results.jsonl").touch()
    pack(folder, tmp_path / "packed")
    assert packed_runs(tmp_path / "packed")[killed.name].content == b""
