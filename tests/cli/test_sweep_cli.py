import argparse
import os
import shlex
import signal
import time
from pathlib import Path

import pytest

from roga_domainbed.cli import main, train
from roga_domainbed.host import backend
from roga_domainbed.launch import LAUNCHERS, LauncherInfo, Outcome
from roga_domainbed.launch.jobfile import STOPPED, JobFile, started_now, write_job_file
from roga_domainbed.results.records import mark_done

DATA = Path(__file__).parents[1] / "data" / "sweep"
DEBUG28 = ["--datasets", "Debug28", "--algorithms", "ERM", "--n_trials", "1", "--n_hparams", "1"]
N_JOBS = 6  # three environments and three pairs


def sweep(command, output_dir, *flags, jobs=DEBUG28):
    return main(["sweep", command, "--output_dir", str(output_dir), *jobs, *map(str, flags)])


def folders(tmp_path, capsys):
    """The folders of the sweep's jobs, in order, made."""
    assert sweep("launch", tmp_path, "--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    found = [Path(line.split()[2]) for line in lines if line.startswith("Not launched")]
    assert len(found) == N_JOBS
    for folder in found:
        folder.mkdir()
    return found


def launch_stand_in(jobs, options):
    """A launcher: the job that holds out environment 2 alone fails, the others are done."""
    for job in jobs:
        os.makedirs(job.output_dir, exist_ok=job.retry)
        failed = "--test_envs 2 --trial_seed 0" in shlex.join(job.argv)
        if not failed:
            mark_done(job.output_dir)
        yield Outcome(job, 137 if failed else 0)


@pytest.fixture
def stand_in():
    info = LauncherInfo("stand_in", f"{__name__}:launch_stand_in", "")
    with LAUNCHERS.temporarily(info):
        yield ["--command_launcher", "stand_in", "--skip_confirmation"]


@pytest.fixture
def on_engine(monkeypatch):
    engine = backend.Host("engine", "roga_domainbed.engine", None)
    monkeypatch.setattr(backend, "host", lambda: engine)


def test_dummy_launch_prints_what_upstream_prints(capsys):
    flags = ["--data_dir", "/d", "--command_launcher", "dummy", "--skip_confirmation"]
    assert sweep("launch", "/sweeps/s1", *flags) == 0
    got, expected = (
        capsys.readouterr().out.splitlines(),
        (DATA / "sweep_dummy_stdout.txt").read_text().splitlines(),
    )
    jobs = slice(-1 - N_JOBS, -1)
    assert sorted(got[jobs]) == sorted(expected[jobs])
    del got[jobs], expected[jobs]
    assert got == expected


def test_a_failed_job_is_named_and_the_exit_status_is_one(tmp_path, capsys, stand_in):
    assert sweep("launch", tmp_path, *stand_in) == 1
    captured = capsys.readouterr()
    assert captured.out.endswith(
        "About to launch 6 jobs.\nLaunching...\nMaking job directories:\nLaunched 6 jobs!\n"
    )
    last = captured.err.splitlines()[-1]
    assert last.startswith("Job ")
    assert last.endswith("(Debug28, ERM, test envs [2]) exited with 137")


def test_only_jobs_without_a_folder_are_launched_unless_retried(tmp_path, capsys, stand_in):
    sweep("launch", tmp_path, *stand_in)
    assert sweep("launch", tmp_path, *stand_in) == 0
    out = capsys.readouterr().out
    assert "6 jobs: 5 done, 1 incomplete, 0 not launched." in out
    assert "1 jobs failed or are incomplete and stay as they are; --retry" in out
    assert "About to launch 0 jobs." in out
    assert sweep("launch", tmp_path, "--retry", *stand_in) == 1, "the job ran again, and failed again"
    assert "About to launch 1 jobs." in capsys.readouterr().out


def test_dry_run_prints_every_command_and_makes_nothing(tmp_path, capsys):
    out = tmp_path / "out"
    flags = ["--dry-run", "--steps", 3, "--split", "frame", "--skip_model_save", "--hparams", '{"lr": 1}']
    assert sweep("launch", out, *flags) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[N_JOBS] == "6 jobs: 0 done, 0 incomplete, 6 not launched."
    words = shlex.split(lines[N_JOBS + 1])
    assert words[:3] == ["roga-domainbed", "train", "--algorithm"]
    for flag, value in (("--hparams", '{"lr": 1}'), ("--split", "frame"), ("--steps", "3")):
        assert words[words.index(flag) + 1] == value
    assert "--skip_model_save" in words
    assert not out.exists()


def test_what_is_trained_on_reaches_every_job_and_its_folder(tmp_path, capsys):
    def jobs(*flags):
        assert sweep("launch", tmp_path / "out", "--dry-run", *flags) == 0
        lines = capsys.readouterr().out.splitlines()
        return {line.split()[2] for line in lines[:N_JOBS]}, [
            shlex.split(line) for line in lines[N_JOBS + 1 :]
        ]

    flags = ["--reals", "partitioned", "--balance", "1:4", "--strict", "--allow-leakage"]
    plain, _ = jobs()
    folders, commands = jobs(*flags)
    assert len(plain | folders) == 2 * N_JOBS
    assert jobs("--reals", "shared", "--no-strict")[0] == plain
    for words in commands:
        parser = argparse.ArgumentParser()
        train.add_arguments(parser)
        args = parser.parse_args(words[2:])
        assert (args.reals, args.balance, args.strict, args.allow_leakage) == (
            "partitioned",
            "1:4",
            True,
            True,
        )


def test_status_counts_and_names_failures(tmp_path, capsys):
    done, running, failed, *_ = folders(tmp_path, capsys)
    mark_done(done)
    write_job_file(running, started_now((), os.getpid()))
    write_job_file(failed, JobFile((), 137, 0.0, 1.0, "here", 1))
    (failed / "job.log").touch()
    assert sweep("status", tmp_path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["Debug28", "ERM", "1", "1", "1", "3", "0", "6"]
    assert (
        lines[-1]
        == f"Job {failed.name[:6]} (Debug28, ERM, test envs [0, 2]) exited with 137; log: {failed}/job.log"
    )


def test_delete_incomplete_spares_what_is_done_or_runs_now(tmp_path, capsys):
    done, running, *rest = folders(tmp_path, capsys)
    mark_done(done)
    write_job_file(running, started_now((), os.getpid()))
    assert sweep("delete_incomplete", tmp_path, "--skip_confirmation") == 0
    out = capsys.readouterr().out
    assert out.endswith(
        "1 jobs are running and stay.\nAbout to delete 4 jobs.\nDeleting...\nDeleted 4 jobs!\n"
    )
    assert done.is_dir()
    assert running.is_dir()
    assert not any(folder.exists() for folder in rest)


@pytest.mark.parametrize(("answer", "deleted"), [("Yes", True), ("n", False), ("", False)])
def test_it_asks_before_it_deletes(tmp_path, capsys, monkeypatch, answer, deleted):
    first, *_ = folders(tmp_path, capsys)
    asked = []
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: asked.append(question) or answer)
    assert sweep("delete_incomplete", tmp_path) == 0
    assert asked == ["Are you sure? (y/n) "]
    assert first.exists() is not deleted
    assert ("Nevermind!" in capsys.readouterr().out) is not deleted


def test_without_a_terminal_it_asks_for_the_flag(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert sweep("launch", tmp_path / "out", "--command_launcher", "dummy") == 2
    assert "Pass --skip_confirmation" in capsys.readouterr().err


def test_all_faults_come_at_once(tmp_path, capsys, on_engine):
    jobs = ["--datasets", "PACs", "SynthFake", "--algorithms", "Roga", "Fishr", "--n_trials", "0"]
    flags = [
        "--hparams",
        "{",
        "--command_launcher",
        "loca",
        "--steps",
        "0",
        "--holdout_fraction",
        "1",
        "--task",
        "x",
        "--balance",
        "1/4",
        "--reals",
        "mine",
    ]
    assert sweep("launch", tmp_path, *flags, jobs=jobs) == 2
    err = capsys.readouterr().err
    for part in (
        "12 problems",
        "unknown dataset 'PACs' (did you mean 'PACS'?)",
        "unknown algorithm 'Roga' (did you mean 'RoGA'?)",
        "algorithm 'Fishr' is in upstream DomainBed alone",
        "unknown launcher 'loca' (did you mean 'local'?)",
        "--task must be one of 'domain_generalization', 'domain_adaptation'; got 'x'",
        "--n_trials must be a whole number, at least 1; got 0",
        "--steps must be a whole number, at least 1 and at most 1,000,000,000; got 0",
        "--holdout_fraction must be a finite number, above 0 and below 1; got 1.0",
        "--hparams is not valid JSON",
        "--balance must be the ratio of real to fake videos",
        "known: shared, partitioned",
        "--data_dir is required for SynthFake",
    ):
        assert part in err


def test_test_envs_are_checked_against_the_dataset(tmp_path, capsys):
    jobs = ["--datasets", "Debug28", "--algorithms", "ERM"]
    assert sweep("launch", tmp_path, "--dry-run", "--test_envs", 1, 7, "--single_test_envs", jobs=jobs) == 2
    err = capsys.readouterr().err
    assert "Debug28: --test_envs 7" in err
    assert "exclude each other" in err


def test_default_names_are_those_the_backend_can_run(tmp_path, capsys, on_engine):
    flags = ["--dry-run", "--data_dir", tmp_path, "--n_trials", 1, "--n_hparams", 1, "--single_test_envs"]
    assert sweep("launch", tmp_path / "out", *flags, jobs=[]) == 0
    out = capsys.readouterr().out
    for name in ("'SynthFake', 'RoGA'", "'PACS', 'ERM'"):
        assert name in out
    for name in ("Debug", "Fishr", "WILDS"):
        assert name not in out


def launch_until_terminated(jobs, options):
    """A launcher that is told to end while a job runs."""
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(20)
        yield Outcome(jobs[0], 0)
    finally:
        Path(jobs[0].output_dir).parent.joinpath("cleaned up").touch()


@pytest.mark.skipif(os.name == "nt", reason="no SIGTERM")
def test_termination_ends_a_launch_as_ctrl_c_does(tmp_path, capsys):
    before = signal.getsignal(signal.SIGTERM)
    info = LauncherInfo("terminated", f"{__name__}:launch_until_terminated", "")
    with LAUNCHERS.temporarily(info):
        assert sweep("launch", tmp_path, "--command_launcher", "terminated", "--skip_confirmation") == 130
    assert "interrupted" in capsys.readouterr().err
    assert (tmp_path / "cleaned up").exists()
    assert signal.getsignal(signal.SIGTERM) is before


def test_launch_goes_on_with_what_was_stopped_or_killed_and_leaves_what_failed(tmp_path, capsys, stand_in):
    done, stopped, killed, failed, upstreams, alone = folders(tmp_path, capsys)
    mark_done(done)
    write_job_file(stopped, JobFile((), STOPPED, 0.0, 1.0, "here", 1))
    write_job_file(killed, JobFile((), None, 0.0, None, "elsewhere", 1))
    os.utime(killed / "job.json", (0, 0))  # silent for long
    write_job_file(failed, JobFile((), 1, 0.0, 1.0, "here", 1))
    (upstreams / "results.jsonl").touch()
    (alone / "train.lock").touch()  # train was started without a launcher
    sweep("launch", tmp_path, *stand_in)
    out = capsys.readouterr().out
    assert "3 jobs resume from their last checkpoint." in out
    assert "2 jobs failed or are incomplete and stay as they are; --retry" in out
    assert "About to launch 3 jobs." in out


def launch_stopped(jobs, options):
    """A launcher whose jobs are told to stop."""
    for job in jobs:
        yield Outcome(job, STOPPED)


def test_jobs_that_were_told_to_stop_have_not_failed(tmp_path, capsys):
    with LAUNCHERS.temporarily(LauncherInfo("stopping", f"{__name__}:launch_stopped", "")):
        assert sweep("launch", tmp_path, "--command_launcher", "stopping", "--skip_confirmation") == STOPPED
    captured = capsys.readouterr()
    assert "6 jobs were told to stop; the same command resumes them." in captured.out
    assert "exited with" not in captured.err


def test_status_says_why_a_training_failed(tmp_path, capsys):
    failed, *_ = folders(tmp_path, capsys)
    write_job_file(failed, JobFile((), 2, 0.0, 1.0, "here", 1))
    (failed / "err.txt").write_text("a warning\nerror: step 3: loss is nan\n")
    assert sweep("status", tmp_path) == 0
    assert "exited with 2 (step 3: loss is nan)" in capsys.readouterr().out
