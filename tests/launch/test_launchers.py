import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from patience import wait_for

from roga_domainbed.catalog.registry import load
from roga_domainbed.errors import RogaError
from roga_domainbed.launch import LAUNCHERS, Job, Options, local
from roga_domainbed.launch.gpus import required_gpus, visible_gpus
from roga_domainbed.launch.jobfile import is_running, read_job_file
from roga_domainbed.launch.local import environments_for

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="workers fork")


@pytest.fixture
def launch(tmp_path, entry):
    """Run what ``--do`` each job shall do and give the outcomes by position."""

    def start(jobs, launcher="local", n_workers=2, retry=False, preload=()):
        made = []
        for index, what in enumerate(jobs):
            out = str(tmp_path / "a sweep" / f"{index}")
            made.append(Job(("train", "--do", what, "--output_dir", out), out, f"do {what}", retry=retry))
        outcomes = load(LAUNCHERS.get(launcher).target)(made, Options(n_workers, entry, preload))
        return sorted(outcomes, key=lambda outcome: outcome.job.output_dir)

    return start


def job_folder(tmp_path, index):
    return tmp_path / "a sweep" / str(index)


def job_line(out, what):
    job = {"argv": ["--do", what, "--output_dir", str(out)], "output_dir": str(out), "retry": False}
    return json.dumps(job) + "\n"


def is_gone(pid):
    try:
        os.kill(pid, 0)
        stat = Path(f"/proc/{pid}/stat")
        return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_a_dead_worker_fails_its_job_alone(launch, tmp_path):
    outcomes = launch(["kill_worker", "0", "0"], n_workers=1)
    assert [outcome.exit_code for outcome in outcomes] == [None, 0, 0]
    assert outcomes[0].failed
    assert "its worker process was killed by SIGKILL" in outcomes[0].note
    job = read_job_file(job_folder(tmp_path, 0))
    assert job.exit_code == -signal.SIGKILL
    wait_for(lambda: is_gone(job.pid))


def test_workers_preload_and_pass_over_what_cannot_be_imported(launch, tmp_path):
    (outcome,) = launch(["0"], preload=("json", "no_such_module"))
    assert not outcome.failed
    assert (job_folder(tmp_path, 0) / "seen").read_text().endswith("True")


def test_a_folder_that_exists_belongs_to_another_launch_unless_retried(launch, tmp_path):
    job_folder(tmp_path, 0).mkdir(parents=True)
    (outcome,) = launch(["0"])
    assert outcome.skipped
    assert not outcome.failed
    assert os.listdir(job_folder(tmp_path, 0)) == []
    (outcome,) = launch(["0"], retry=True)
    assert (outcome.skipped, outcome.exit_code) == (False, 0)


def test_a_folder_that_cannot_be_made_fails_the_job_with_the_reason(launch, tmp_path):
    (tmp_path / "a sweep").write_text("a file")
    (outcome,) = launch(["0"])
    assert outcome.failed
    assert str(tmp_path / "a sweep") in outcome.note


def test_a_file_or_somebody_elses_folder_in_place_of_a_jobs_is_named(launch, tmp_path):
    job_folder(tmp_path, 1).mkdir(parents=True)
    job_folder(tmp_path, 0).write_text("mine")
    (job_folder(tmp_path, 1) / "thesis.tex").write_text("mine")
    file, folder = launch(["0", "0"], retry=True)
    assert "is not a folder" in file.note
    assert "holds other files and no run (thesis.tex)" in folder.note


@pytest.mark.parametrize("launcher", ["local", "multi_gpu"])
def test_each_worker_sees_one_gpu(launcher, launch, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    outcomes = launch(["0", "0", "0"], launcher=launcher, n_workers=None)
    assert not any(outcome.failed for outcome in outcomes)
    seen = {(job_folder(tmp_path, i) / "seen").read_text().split()[0] for i in range(3)}
    assert seen <= {"5", "7"}


def test_dummy_prints_and_makes_nothing(launch, tmp_path, capsys):
    outcomes = launch(["0", "3"], launcher="dummy")
    assert capsys.readouterr().out == "Dummy launcher: do 0\nDummy launcher: do 3\n"
    assert not any(outcome.failed for outcome in outcomes)
    assert not (tmp_path / "a sweep").exists()


def test_an_entry_that_cannot_be_imported_is_in_the_log(tmp_path, entry):
    out = str(tmp_path / "job")
    local = load(LAUNCHERS.get("local").target)
    (outcome,) = local([Job((), out)], Options(1, "no_such_module:main"))
    assert outcome.exit_code == 1
    assert "no_such_module" in Path(outcome.job.log_path).read_text()


def test_an_interrupted_launch_ends_everything_and_leaves_jobs_incomplete(tmp_path, entry):
    out = tmp_path / "job"
    code = f"""if True:
        from roga_domainbed.launch import Job, Options
        from roga_domainbed.launch.local import launch_local
        job = Job(("train", "--do", "sleep", "--output_dir", {str(out)!r}), {str(out)!r})
        list(launch_local([job] , Options(1, {entry!r})))
    """
    launcher = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    wait_for(lambda: (out / "pid").is_file() and (out / "pid").read_text() and is_running(out))
    pid = int((out / "pid").read_text())
    launcher.send_signal(signal.SIGINT)
    start = time.monotonic()
    assert "KeyboardInterrupt" in launcher.communicate(timeout=20)[1]
    assert time.monotonic() - start < 5
    wait_for(lambda: is_gone(pid))
    assert read_job_file(out).exit_code == -signal.SIGTERM, "it was asked first"
    assert not is_running(out)


def test_jobs_end_when_the_launcher_is_killed(tmp_path, entry):
    out = tmp_path / "job"
    command = [sys.executable, "-m", "roga_domainbed.launch.worker", "--entry", entry]
    # A shell between us and the worker is its launcher; it prints the worker's pid, and we kill it.
    script = 'exec 3<&0; setsid "$@" <&3 >/dev/null & echo $!; wait'
    shell = subprocess.Popen(
        ["sh", "-c", script, "sh", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with shell:
        shell.stdin.write(job_line(out, "sleep"))
        shell.stdin.flush()
        wait_for(lambda: (out / "pid").is_file() and (out / "pid").read_text())
        pid = int((out / "pid").read_text())
        assert not is_gone(pid)
        shell.kill()
        wait_for(lambda: is_gone(pid))


def test_without_fork_each_job_is_a_process_of_its_own(tmp_path, entry):
    out = tmp_path / "job"
    command = [sys.executable, "-m", "roga_domainbed.launch.worker", "--entry", entry, "--no_fork"]
    done = subprocess.run(command, input=job_line(out, "3"), capture_output=True, text=True, check=True)
    ready, answer = done.stdout.splitlines()
    assert ready == '{"ready": true}'
    assert '"exit_code": 3' in answer
    assert "argv: --do 3" in (out / "job.log").read_text()
    assert read_job_file(out).exit_code == 3


def test_visible_gpus_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", " 2, GPU-8f ,,-1,3")
    assert visible_gpus() == ["2", "GPU-8f"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_gpus() == []
    with pytest.raises(RogaError, match="CUDA_VISIBLE_DEVICES is ''"):
        required_gpus()


def test_visible_gpus_are_counted_by_nvidia_smi(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert visible_gpus() == []
    with pytest.raises(RogaError, match="nvidia-smi -L: "):
        required_gpus()
    program = tmp_path / "nvidia-smi"
    program.touch(0o755)
    program.write_text("#!/bin/sh\nexit 9\n")
    with pytest.raises(RogaError, match="exit code 9"):
        required_gpus()
    program.write_text("#!/bin/sh\necho GPU 0: a; echo GPU 1: b\n")
    assert visible_gpus() == ["0", "1"]


@pytest.mark.parametrize(
    ("gpus", "options", "n_jobs", "expected"),
    [
        (["0", "1"], Options(), 9, ["0", "1"]),
        (["0", "1"], Options(jobs_per_gpu=2), 9, ["0", "1", "0", "1"]),
        (["0", "1"], Options(jobs_per_gpu=2), 3, ["0", "1", "0"]),
        (["5", "7"], Options(n_workers=3), 9, ["5", "7", "5"]),
        ([], Options(n_workers=3), 9, [None] * 3),
    ],
)
def test_workers_are_spread_over_the_gpus(gpus, options, n_jobs, expected):
    environments = environments_for(gpus, options, n_jobs)
    assert [environment.get("CUDA_VISIBLE_DEVICES") for environment in environments] == expected


def test_without_a_gpu_there_is_a_worker_for_each_processor_up_to_eight(monkeypatch):
    for cpus, expected in ((2, 2), (64, 8)):
        monkeypatch.setattr(local, "usable_cpus", lambda cpus=cpus: cpus)
        assert len(environments_for([], Options(), 100)) == expected
