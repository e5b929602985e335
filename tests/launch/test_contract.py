"""What every launcher that runs jobs does alike: here, on a real Slurm cluster and on Ray."""

import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from patience import wait_for

from roga_domainbed.catalog.registry import load
from roga_domainbed.launch import LAUNCHERS, Job, Options, cancellation, submissions
from roga_domainbed.launch.jobfile import STOPPED, is_running, read_job_file

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="workers fork"),
    pytest.mark.filterwarnings("default"),  # Ray's own
]

_NO_RAY = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")


@pytest.fixture(
    params=[
        "local",
        "multi_gpu",
        pytest.param("slurm", marks=pytest.mark.cluster),
        pytest.param("ray", marks=[pytest.mark.cluster, _NO_RAY]),
    ]
)
def launcher(request, monkeypatch):
    """The launcher's name, and options with which it runs one job after another and waits for their ends."""
    name = request.param
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0" if name == "multi_gpu" else "")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    if name == "slurm":
        request.getfixturevalue("cluster")
    queue = {"slurm": {"slurm": {"time": 10}, "wait": True}, "ray": {"max_parallel": 1}}
    return name, {"n_workers": 1, "jobs_per_task": 10, **queue.get(name, {})}


@pytest.fixture
def launch(launcher, tmp_path, entry):
    """Run what ``--do`` each job shall do and give the outcomes by position."""
    name, options = launcher

    def start(*jobs, retry=False):
        folder = str(tmp_path / "a sweep")
        made = []
        for index, what in enumerate(jobs):
            out = os.path.join(folder, str(index))
            made.append(Job(("train", "--do", what, "--output_dir", out), out, retry=retry))
        outcomes = list(
            load(LAUNCHERS.get(name).target)(made, Options(entry=entry, folder=folder, **options))
        )
        assert sorted(outcome.job.id for outcome in outcomes) == sorted(job.id for job in made)
        return sorted(outcomes, key=lambda outcome: outcome.job.id)

    return start


@pytest.fixture
def folder(tmp_path):
    """The folder of a job, by its position."""
    return lambda index: tmp_path / "a sweep" / str(index)


def test_each_job_gives_one_outcome_with_its_exit_code_log_and_job_file(launch, folder):
    outcomes = launch("0", "3", "raise", "exit", "killed", "at_exit")
    assert [outcome.exit_code for outcome in outcomes] == [0, 3, 1, 1, -signal.SIGKILL, 4]
    assert [outcome.failed for outcome in outcomes] == [False, True, True, True, True, True]
    logs = [Path(outcome.job.log_path).read_text() for outcome in outcomes]
    assert logs[0] == f"argv: train --do 0 --output_dir {folder(0)}\nto stderr\n"
    assert "RuntimeError: boom" in logs[2]
    assert "a reason" in logs[3]
    assert logs[5].endswith("to stderr\na thread and a function at the end")
    job = read_job_file(folder(1))
    assert job.argv[:3] == ("train", "--do", "3")
    assert job.exit_code == 3
    assert 0 <= job.seconds < 30
    assert abs(job.started - time.time()) < 60
    assert not is_running(folder(1))


def test_a_dead_worker_fails_its_job_alone(launch, folder):
    outcomes = launch("kill_worker", "0", "0")
    assert [outcome.failed for outcome in outcomes] == [True, False, False]
    job = read_job_file(folder(0))
    assert job.exit_code == -signal.SIGKILL
    wait_for(lambda: not is_running(folder(0)))


def test_a_folder_in_which_nothing_of_ours_has_worked_is_another_launchs_unless_retried(launch, folder):
    folder(0).mkdir(parents=True)
    (folder(0) / "out.txt").write_text("Command:\n\ttrain\n")
    first, second = launch("0", "0")
    assert first.exit_code is None
    assert second.exit_code == 0
    assert os.listdir(folder(0)) == ["out.txt"]
    first, _ = launch("0", "0", retry=True)
    assert (first.skipped, first.exit_code) == (False, 0)


def test_a_file_or_somebody_elses_folder_in_place_of_a_jobs_fails_and_stays(launch, folder):
    folder(1).mkdir(parents=True)
    folder(0).write_text("mine")
    (folder(1) / "thesis.tex").write_text("mine")
    outcomes = launch("0", "0", retry=True)
    assert [(outcome.failed, outcome.skipped) for outcome in outcomes] == [(True, False)] * 2
    assert folder(0).read_text() == "mine"
    assert os.listdir(folder(1)) == ["thesis.tex"]


def test_two_launches_of_the_same_jobs_run_each_once(launcher, folder, entry):
    name, options = launcher
    code = f"""if True:
        from roga_domainbed.catalog.registry import load
        from roga_domainbed.launch import LAUNCHERS, Job, Options
        outs = {[str(folder(index)) for index in range(4)]}
        jobs = [Job(("train", "--do", "0", "--output_dir", out), out) for out in outs]
        options = Options(entry={entry!r}, folder={str(folder(0).parent)!r}, **{options})
        for outcome in load(LAUNCHERS.get({name!r}).target)(jobs, options):
            assert not outcome.failed, outcome
    """
    launches = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [each.wait() for each in launches] == [0, 0]
    assert [(folder(index) / "job.log").read_text().count("argv:") for index in range(4)] == [1] * 4


def test_a_cancelled_sweep_stops_the_jobs_that_run_and_starts_no_other(launch, folder):
    def cancel_it():
        wait_for(lambda: (folder(0) / "pid").exists())
        cancellation.cancel(folder(0).parent)
        submissions.cancel(folder(0).parent)

    cancelling = threading.Thread(target=cancel_it)
    cancelling.start()
    outcomes = launch("sleep", "0", "0")
    cancelling.join()
    wait_for(lambda: not is_running(folder(0)))
    assert outcomes[0].job.exit_code == -signal.SIGTERM
    assert [outcome.exit_code for outcome in outcomes[1:]] == [STOPPED, STOPPED]
    assert not folder(1).exists()
