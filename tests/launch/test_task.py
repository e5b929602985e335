import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from patience import wait_for

from roga_domainbed.errors import RogaError
from roga_domainbed.launch import Job, Options
from roga_domainbed.launch.cancellation import cancel
from roga_domainbed.launch.job import State
from roga_domainbed.launch.jobfile import STOPPED, read_job_file, started_now, write_job_file
from roga_domainbed.launch.task import outcome_of, run_task, tasks_of, write_tasks

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="workers fork")


@pytest.fixture
def write(tmp_path, entry, monkeypatch):
    """Write a file of tasks, each a list of what ``--do`` its jobs shall do; its path and all jobs."""
    monkeypatch.chdir(tmp_path)

    def make(*tasks, **fields):
        numbers = iter(range(100))
        made = [[job(next(numbers), what, **fields) for what in task] for task in tasks]
        return write_tasks(made, Options(entry=entry, folder="sweep")), [
            each for task in made for each in task
        ]

    def job(number, what, retry=False):
        out = f"sweep/{number}"
        return Job(("train", "--do", what, "--output_dir", out), out, retry=retry)

    return make


def runs_of(job):
    """How often its entry was called."""
    with contextlib.suppress(OSError):
        return Path(job.log_path).read_text().count("argv:")
    return 0


def test_jobs_are_cut_into_tasks_in_order():
    jobs = [Job((), str(i)) for i in range(5)]
    assert [[job.id for job in task] for task in tasks_of(jobs, Options(jobs_per_task=2))] == [
        ["0", "1"],
        ["2", "3"],
        ["4"],
    ]
    assert tasks_of([], Options()) == []


def test_a_task_runs_its_own_jobs_in_turn_from_any_folder(write, monkeypatch, tmp_path):
    file, jobs = write(["0", "3", "0"], ["0"])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert run_task(file, 0, "a place") == 1, "one job failed"
    assert os.getcwd() == str(tmp_path)
    assert [job.exit_code for job in jobs] == [0, 3, 0, None]
    assert jobs[3].state is State.NOT_LAUNCHED
    files = [read_job_file(job.output_dir) for job in jobs[:3]]
    assert [file.owner for file in files] == ["a place#1"] * 3
    assert files[0].started <= files[1].started <= files[2].started
    assert run_task(file, 1) == 0


def test_a_second_turn_leaves_what_is_done_and_what_failed_in_the_first(write):
    file, jobs = write(["0", "3", "killed"])
    run_task(file, 0, "a place")
    assert run_task(file, 0, "a place") == 1
    assert [runs_of(job) for job in jobs] == [1, 1, 2], "the killed one goes on"


def test_a_job_that_failed_before_is_run_if_that_was_wanted(write):
    file, jobs = write(["3"])
    run_task(file, 0)
    file, _ = write(["3"], retry=True)
    run_task(file, 0)
    run_task(file, 0)
    assert runs_of(jobs[0]) == 2


def test_a_folder_in_which_nothing_of_ours_has_worked_is_left_alone(write):
    file, (job,) = write(["0"])
    os.mkdir(job.output_dir)
    Path(job.output_dir, "out.txt").write_text("Command:\n\ttrain\n")
    assert run_task(file, 0) == 0
    assert not os.path.exists(job.log_path)


def test_the_same_place_takes_over_what_its_earlier_run_held(write):
    file, jobs = write(["0", "0"])
    for job in jobs:
        os.mkdir(job.output_dir)
    elsewhere = {**vars(started_now((), os.getpid())), "host": "another"}
    for job, owner in zip(jobs, ("a place#1", "another place#1"), strict=True):
        write_job_file(job.output_dir, type(started_now((), 1))(**{**elsewhere, "owner": owner}))
    file.with_suffix("").mkdir()
    Path(file.with_suffix(""), "run-0-1").touch()
    assert run_task(file, 0, "a place") == 0
    assert [job.attempts for job in jobs] == [2, 1]
    assert jobs[1].state is State.RUNNING, "it is another place's, and that may be at work"


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGUSR2"])
def test_signals_stop_the_job_and_the_task_ends_with_75(write, name):
    file, jobs = write(["sleep", "0"])
    task = subprocess.Popen(
        [sys.executable, "-m", "roga_domainbed.launch.task", file, "0"], stdout=subprocess.PIPE
    )
    pid = Path(jobs[0].output_dir, "pid")
    wait_for(lambda: pid.exists() and pid.read_text())
    task.send_signal(getattr(signal, name))
    task.send_signal(getattr(signal, name))  # Slurm repeats itself
    assert f"Told to stop by {name}" in task.communicate(timeout=60)[0].decode()
    assert task.returncode == STOPPED
    assert jobs[0].exit_code == -signal.SIGTERM, "it was asked; a training would have written a checkpoint"
    assert jobs[1].state is State.NOT_LAUNCHED


def test_an_earlier_run_of_the_place_ends_when_a_later_one_has_its_job(write, monkeypatch):
    monkeypatch.setenv("ROGA_DOMAINBED_LEASE_S", "2")
    file, jobs = write(["sleep", "0"])
    command = [
        sys.executable,
        "-c",
        f"from roga_domainbed.launch.task import run_task; run_task({str(file)!r}, 0, 'p')",
    ]
    orphan = subprocess.Popen(command, stdout=subprocess.PIPE)
    pid = Path(jobs[0].output_dir, "pid")
    wait_for(lambda: pid.exists() and pid.read_text())
    later = started_now((), os.getpid(), "p#2")
    write_job_file(jobs[0].output_dir, later, 2)
    assert "left to another launch" in orphan.communicate(timeout=60)[0].decode()
    assert read_job_file(jobs[0].output_dir) == later
    assert runs_of(jobs[1]) <= 1


def test_a_later_run_takes_over_what_an_earlier_one_has_begun_since(write):
    file, jobs = write(["0", "sleep"])
    code = f"from roga_domainbed.launch.task import run_task; run_task({str(file)!r}, 0, 'p')"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as orphan:
        pid = Path(jobs[1].output_dir, "pid")
        wait_for(lambda: pid.exists() and pid.read_text())
        content = json.loads(file.read_text())
        content["tasks"][0][1]["argv"][2] = "0"
        file.write_text(json.dumps(content))
        # It began after the later run, as an orphan does that goes on with its list.
        os.rename(file.with_suffix("") / "run-0-1", file.with_suffix("") / "run-0-7")
        first = read_job_file(jobs[1].output_dir)
        write_job_file(jobs[1].output_dir, replace(first, started=time.time() + 1000))
        assert run_task(file, 0, "p") == 0
        orphan.kill()
    assert jobs[1].exit_code == 0
    assert [read_job_file(jobs[1].output_dir, number).owner for number in (1, 2)] == ["p#1", "p#8"]


def test_a_task_of_a_sweep_that_was_cancelled_after_its_launch_does_not_start(write):
    Path("sweep").mkdir()
    cancel("sweep")
    file, jobs = write(["0"])
    assert run_task(file, 0) == 0, "cancelled before the launch"
    file, jobs = write(["0", "0"])
    time.sleep(0.02)
    cancel("sweep")
    before = runs_of(jobs[0])
    assert run_task(file, 0) == STOPPED
    assert runs_of(jobs[0]) == before


def test_each_gpu_of_the_place_has_its_jobs(write, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    file, jobs = write(["0"] * 3)
    run_task(file, 0)
    seen = {Path(job.output_dir, "seen").read_text().split()[0] for job in jobs}
    assert seen <= {"4", "6"}


def test_what_cannot_be_read_is_named(write, tmp_path):
    file, _ = write(["0"])
    with pytest.raises(RogaError, match="has no task 7"):
        run_task(file, 7)
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "cwd": str(tmp_path / "only there")}))
    with pytest.raises(RogaError, match=r"only there'.* must be on every machine"):
        run_task(file, 0)
    file.write_text("[]")
    with pytest.raises(RogaError, match="has no task 0"):
        run_task(file, 0)


def test_outcomes_are_what_the_folders_show(write):
    file, jobs = write(["0", "3", "killed", "0"])
    run_task(file, 0)
    for job in (jobs[0], jobs[3]):
        Path(job.output_dir, "done").touch()
    outcomes = [outcome_of(job, "no reason") for job in jobs]
    assert [outcome.exit_code for outcome in outcomes] == [0, 3, -9, 0]
    missing = outcome_of(Job((), "sweep/never"), "its task is gone")
    assert (missing.exit_code, missing.note, missing.failed) == (None, "its task is gone", True)
