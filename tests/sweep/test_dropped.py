"""A job that successive halving dropped: an end, which no launch and no deletion touches."""

import json
import os
from pathlib import Path

import pytest

from roga_domainbed.cli import main
from roga_domainbed.launch import LAUNCHERS, LauncherInfo, Outcome
from roga_domainbed.launch.folders import run_folder_problem
from roga_domainbed.launch.job import State
from roga_domainbed.launch.jobfile import STOPPED, JobFile, write_job_file
from roga_domainbed.results.records import mark_done
from roga_domainbed.results.runs import load_runs
from roga_domainbed.results.selection import group_by_test_env
from roga_domainbed.sweep.folder import stored_plans
from roga_domainbed.sweep.jobs import train_job
from roga_domainbed.sweep.pack import pack
from roga_domainbed.sweep.plan import Plan
from roga_domainbed.sweep.status import summary_line

ARGS = [
    "--datasets",
    "Debug28",
    "--algorithms",
    "ERM",
    "--n_trials",
    "1",
    "--n_hparams",
    "2",
    "--test_envs",
    "0",
]


def launched(jobs, options):
    for job in jobs:
        print(f"ran {job.id}")
        os.makedirs(job.output_dir, exist_ok=True)
        mark_done(job.output_dir)
        yield Outcome(job, 0)


@pytest.fixture
def dropped(tmp_path):
    plan = Plan(datasets=["Debug28"], algorithms=["ERM"], n_trials=1, n_hparams=2, test_envs=[0])
    job = [train_job(args, str(tmp_path)) for args in plan.train_args()][1]
    os.mkdir(job.output_dir)
    write_job_file(job.output_dir, JobFile((), STOPPED, 0.0, 1.0, "here", 1))
    Path(job.output_dir, "dropped.json").write_text("{}")
    return job


def test_it_has_a_state_of_its_own_until_it_is_done(dropped):
    assert dropped.state is State.DROPPED
    assert run_folder_problem(dropped.output_dir) is None
    mark_done(dropped.output_dir)
    assert dropped.state is State.DONE
    states = [State.DONE, State.DROPPED, State.NOT_LAUNCHED]
    assert summary_line(states) == "3 jobs: 1 done, 0 incomplete, 1 not launched, 1 dropped."


def test_no_launch_runs_it_and_nothing_is_left_to_do(dropped, tmp_path, capsys):
    with LAUNCHERS.temporarily(LauncherInfo("stand_in", f"{__name__}:launched", "")):
        words = ["--output_dir", str(tmp_path), "--command_launcher", "stand_in", "--skip_confirmation"]
        assert main(["sweep", "launch", *ARGS, "--retry", *words]) == 0
    out = capsys.readouterr().out
    assert out.count("\nran ") == 1
    assert f"ran {dropped.id}" not in out
    assert main(["sweep", "delete_incomplete", "--output_dir", str(tmp_path), "--skip_confirmation"]) == 0
    assert os.path.isdir(dropped.output_dir)
    assert stored_plans(tmp_path)
    capsys.readouterr()
    assert main(["sweep", "status", "--output_dir", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "ERM        1/1-\n" in out, "what was dropped needs nothing more"
    assert "- dropped (not counted)" in out
    os.unlink(os.path.join(dropped.output_dir, "dropped.json"))
    assert dropped.state is not State.DROPPED


def test_halving_is_checked_before_the_launch(tmp_path, capsys):
    assert main(["sweep", "launch", *ARGS, "--output_dir", str(tmp_path / "out"), "--halving", "1"]) == 2
    assert "--halving must be at least 2" in capsys.readouterr().err


def test_it_stays_dropped_where_it_is_packed(dropped, tmp_path):
    args = {**dropped.train_args, "output_dir": dropped.output_dir}
    record = {"step": 0, "args": args, "env1_out_acc": 0.5, "env1_in_acc": 0.5}
    Path(dropped.output_dir, "results.jsonl").write_text(json.dumps(record) + "\n")
    target = tmp_path / "packed"
    pack(tmp_path, target)
    loaded = load_runs(target, "acc")
    assert [run.dropped for run in loaded.runs] == [{}]
    assert not loaded.unfinished
    (run,) = load_runs(tmp_path, "acc").runs
    assert run.dropped == {}
    Path(dropped.output_dir, "dropped.json").write_text('{"eta": 3}')
    (run,) = load_runs(tmp_path, "acc").runs
    assert run.dropped == {"eta": 3}
    assert group_by_test_env([run]) == {}
    mark_done(dropped.output_dir)
    (run,) = load_runs(tmp_path, "acc").runs
    assert run.dropped is None, "it has been revived"
