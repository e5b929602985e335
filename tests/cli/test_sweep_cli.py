import argparse
import json
import os
import re
import shlex
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest

from roga_domainbed.catalog import ALGORITHMS, AlgorithmInfo
from roga_domainbed.cli import main, train
from roga_domainbed.cli.sweep import which
from roga_domainbed.host import backend
from roga_domainbed.launch import LAUNCHERS, LauncherInfo, Outcome
from roga_domainbed.launch.jobfile import STOPPED, JobFile, started_now, write_job_file
from roga_domainbed.results.records import mark_done
from roga_domainbed.results.selection import RULES

DATA = Path(__file__).parents[1] / "data" / "sweep"
DEBUG28 = ["--datasets", "Debug28", "--algorithms", "ERM", "--n_trials", "1", "--n_hparams", "1"]
ALONE = DEBUG28
DEBUG28 = [*ALONE, "--select", "loo", "iid"]
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
        else:  # what DomainBed's train leaves
            Path(job.output_dir, "out.txt").write_text("Environment:\n\tPython: 3.8\n")
        yield Outcome(job, 137 if failed else 0)


@pytest.fixture
def stand_in():
    info = LauncherInfo("stand_in", f"{__name__}:launch_stand_in", "")
    with LAUNCHERS.temporarily(info):
        yield ["--command_launcher", "stand_in", "--skip_confirmation"]


@pytest.fixture
def upstreams_own():
    """An algorithm that the catalog knows and only a checkout has."""
    with ALGORITHMS.temporarily(AlgorithmInfo("UpstreamsOwn")):
        yield


@pytest.fixture
def on_engine(monkeypatch):
    engine = backend.Host("engine", "roga_domainbed.engine", None)
    monkeypatch.setattr(backend, "host", lambda: engine)


@pytest.mark.upstream
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


def test_dummy_launch_without_a_checkout_would_print_commands_that_cannot_work(tmp_path, capsys, on_engine):
    assert sweep("launch", tmp_path, "--command_launcher", "dummy", "--skip_confirmation") == 2
    assert "need a checkout: set DOMAINBED_HOME, or use --dry-run" in capsys.readouterr().err


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
    assert sweep("launch", tmp_path, *stand_in) == 1, "one job is not done"
    out, err = capsys.readouterr()
    assert err.endswith(
        "1 of 6 jobs are not done: 1 interrupted; the same command resumes those of ours, 'sweep retry' all.\n"
    )
    assert "6 jobs: 5 done, 1 incomplete, 0 not launched." in out
    assert "1 jobs failed or were interrupted and stay as they are; --retry" in out
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


def test_what_is_trained_on_reaches_every_job_and_its_folder(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(which, "_check_data", lambda plan, problems: None)  # Debug28 has no manifest

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


def test_label_noise_and_train_fraction_reach_every_job_of_any_dataset(tmp_path, capsys):
    def folders_of(*flags):
        assert sweep("launch", tmp_path / "out", "--dry-run", *flags) == 0
        lines = capsys.readouterr().out.splitlines()
        return {line.split()[2] for line in lines[:N_JOBS]}, lines[N_JOBS + 1 :]

    plain, _ = folders_of()
    found, commands = folders_of("--label_noise", "0.4", "--train_fraction", "0.5")
    assert len(plain | found) == 2 * N_JOBS
    assert all(" --label_noise 0.4 " in line and " --train_fraction 0.5 " in line for line in commands)
    assert folders_of("--label_noise", "0", "--train_fraction", "1")[0] == plain
    preset = tmp_path / "plan.yaml"
    preset.write_text("label_noise: 1\n")  # no float to YAML
    assert folders_of("--preset", preset)[0] == folders_of("--label_noise", "1.0")[0]
    assert sweep("launch", tmp_path / "out", "--dry-run", "--label_noise", 2, "--train_fraction", 0) == 2
    error = capsys.readouterr().err
    assert "2 problems" in error
    assert "--label_noise must be a finite number, at least 0 and at most 1; got 2.0" in error
    assert "--train_fraction must be a finite number, above 0 and at most 1; got 0.0" in error


def test_status_counts_and_names_failures(tmp_path, capsys):
    done, running, failed, *_ = folders(tmp_path, capsys)
    mark_done(done)
    write_job_file(running, started_now((), os.getpid()))
    write_job_file(failed, JobFile((), 137, 0.0, 1.0, "here", 1))
    (failed / "job.log").touch()
    assert sweep("status", tmp_path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "Debug28     1        1       1            3             0     6" in lines
    assert (
        f"Job {failed.name[:6]} (Debug28, ERM, test envs [0, 2]) exited with 137; log: {failed}/job.log"
        in lines
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


def test_no_answer_is_no(tmp_path, capsys, monkeypatch):
    first, *_ = folders(tmp_path, capsys)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)

    def ended(question):
        raise EOFError

    monkeypatch.setattr("builtins.input", ended)
    assert sweep("delete_incomplete", tmp_path) == 0
    assert first.exists()
    monkeypatch.setattr("sys.stdin", None)  # closed
    assert sweep("delete_incomplete", tmp_path) == 2
    assert "Pass --skip_confirmation" in capsys.readouterr().err


def test_without_a_terminal_it_asks_for_the_flag(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert sweep("launch", tmp_path / "out") == 2
    assert "Pass --skip_confirmation" in capsys.readouterr().err


def test_all_faults_come_at_once(tmp_path, capsys, on_engine, upstreams_own):
    jobs = ["--datasets", "PACs", "SynthFake", "--algorithms", "Roga", "UpstreamsOwn", "--n_trials", "0"]
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
        "algorithm 'UpstreamsOwn' is in upstream DomainBed alone",
        "unknown launcher 'loca' (did you mean 'local'?)",
        "--task must be one of 'domain_generalization', 'domain_adaptation'; got 'x'",
        "--n_trials must be a whole number, at least 1 and at most 1,000,000; got 0",
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
    assert "--test_envs 1" not in err


def test_training_sets_are_named_in_the_dry_run_by_what_they_hold_out(tmp_path, capsys):
    each_alone = ["1 2", "0 2", "0 1"]
    for flags, held_out in (
        (["--single_train_envs"], each_alone),
        (["--train_envs", 0], ["1 2"]),
        (["--train_envs", 0, 1], ["2"]),
        (["--train_envs", 0, 1, "--single_train_envs"], each_alone[:2]),
    ):
        assert sweep("launch", tmp_path, "--dry-run", *flags) == 0
        out = capsys.readouterr().out
        assert re.findall(r"--test_envs ([\d ]+) --", out) == held_out
        assert "train_envs" not in out, "train has one way to say it"
    preset = tmp_path / "single.yaml"
    text = "datasets: [Debug28]\nalgorithms: [ERM]\nn_trials: 1\nn_hparams: 1\n"
    for line, flags, held_out in (
        ("single_train_envs: true", [], each_alone),
        ("train_envs: {Debug28: [1, 2]}", [], ["0"]),
        ("train_envs: [2]", ["--test_envs", 2], ["2"]),  # what is given here replaces the preset's
        ("test_envs: [2]\nsingle_test_envs: true", ["--train_envs", 2], ["0 1"]),
    ):
        preset.write_text(text + line + "\n")
        assert sweep("launch", tmp_path / "out", "--dry-run", "--preset", preset, *flags, jobs=[]) == 0
        assert re.findall(r"--test_envs ([\d ]+) --", capsys.readouterr().out) == held_out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--train_envs", 0, "--test_envs", 1],
            "--test_envs and --train_envs: what is not trained on is held out, so give one or the other",
        ),
        (
            ["--single_train_envs", "--single_test_envs"],
            "--single_test_envs and --single_train_envs: what is not trained on is held out",
        ),
        (
            ["--train_envs", 0, 7],
            "Debug28: --train_envs 7: there is no such environment; they are 0 0, 1 1, 2 2",
        ),
        (["--train_envs", 1, 1], "Debug28: --train_envs names 1 more than once"),
        (
            ["--train_envs", 0, 1, 2],
            "Debug28: --train_envs names all 3 environments and leaves none to test on; they are 0 0, 1 1, 2 2",
        ),
    ],
)
def test_training_sets_that_cannot_be_are_refused_in_a_sentence(flags, message, tmp_path, capsys):
    assert sweep("launch", tmp_path, "--dry-run", *flags, jobs=ALONE) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "problems" not in err, "one fault, one sentence"


def test_default_names_are_those_the_backend_can_run(tmp_path, capsys, on_engine, upstreams_own):
    flags = ["--data_dir", tmp_path, "--n_trials", 1, "--n_hparams", 1, "--single_test_envs"]
    assert sweep("status", tmp_path / "out", *flags, jobs=[]) == 0
    out = capsys.readouterr().out
    for names in (r"(?s)SynthFake\n.*RoGA ", r"(?s)PACS\n.*ERM "):
        assert re.search(names, out)
    for name in ("Debug", "UpstreamsOwn", "WILDS"):
        assert name not in out


def test_selection_rules_of_a_launch_are_those_of_the_tables():
    assert [*which.SELECTION_RULES] == [name for name in RULES.names() if name != "auto_lr"]


def launch_until_terminated(jobs, options):
    """A launcher that is told to end while a job runs, and cleans up."""
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(20)
        yield Outcome(jobs[0], 0)
    finally:
        print("cleaned up", file=sys.stderr)


@pytest.mark.skipif(os.name == "nt", reason="no SIGTERM")
@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("launch", "told to stop by SIGTERM; the same command resumes the jobs\n"),
        ("estimate", "stop by SIGTERM\n"),
    ],
)
def test_termination_ends_the_jobs(command, said, tmp_path, capsys):
    before = signal.getsignal(signal.SIGTERM)
    info = LauncherInfo("terminated", f"{__name__}:launch_until_terminated", "")
    with LAUNCHERS.temporarily(info):
        assert sweep(command, tmp_path, "--command_launcher", "terminated", "--skip_confirmation") == STOPPED
    err = capsys.readouterr().err
    assert "cleaned up" in err
    assert err.endswith(said)
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
    assert "2 jobs failed or were interrupted and stay as they are; --retry" in out
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


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("Loading\nroga-domainbed train: error: no manifest.parquet in 'x'\n", "no manifest.parquet in 'x'"),
        ("Traceback …\n  File …\nRuntimeError: shapes differ\n", "RuntimeError: shapes differ"),
        ("roga-domainbed train: error: 2 problems:\n  1. one\n  2. two\n", "2 problems: 1. one 2. two"),
        ("error: old\n\x1b[31merror\nroga-domainbed train: error: \x1b[31mnew\n", r"\x1b[31mnew"),
    ],
)
def test_status_gives_the_sentence_in_the_log_of_a_job_that_did_not_begin_to_train(
    log, reason, tmp_path, capsys
):
    failed, *_ = folders(tmp_path, capsys)
    write_job_file(failed, JobFile((), 2, 0.0, 1.0, "here", 1))
    (failed / "job.log").write_text(log)
    (failed / "err.txt").write_text("error: of an earlier attempt\n")
    assert sweep("status", tmp_path) == 0
    assert f"exited with 2 ({reason}); log: " in capsys.readouterr().out


# --- the folder knows its plan ----------------------------------------------------------------------------


def test_later_commands_need_the_folder_alone(tmp_path, capsys, stand_in):
    out = tmp_path / "out"
    assert sweep("launch", out, *stand_in) == 1
    assert sweep("launch", out, *stand_in, jobs=["--datasets", "Debug28", "--algorithms", "SAM", "--test_envs", "1"]
                 + ["--n_trials", "1", "--n_hparams", "1", "--hparams", '{"rho": 0.1}']) == 0  # fmt: skip
    capsys.readouterr()
    assert sweep("status", out, jobs=[]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[1:4]] == [
        ["Algorithm", "0", "1", "2", "pairs"],
        ["ERM", "1/1", "1/1", "0/1~", "3/3"],
        ["SAM", "1/1"],
    ]
    assert sweep("launch", out, "--retry", *stand_in, jobs=[]) == 1
    assert "About to launch 1 jobs." in capsys.readouterr().out
    left = [folder for folder in out.iterdir() if folder.is_dir() and not (folder / "done").exists()]
    assert sweep("delete_incomplete", out, "--skip_confirmation", jobs=[]) == 0
    assert len(left) == 1
    assert not left[0].exists()


def test_half_of_the_arguments_is_no_plan_where_the_folder_has_one(tmp_path, capsys, stand_in):
    sweep("launch", tmp_path / "out", *stand_in)
    assert sweep("status", tmp_path / "out", "--n_trials", "3", jobs=[]) == 2
    assert "says which jobs there are: leave the arguments for them out" in capsys.readouterr().err
    assert sweep("status", tmp_path / "out", "--steps", "7") == 0
    assert "None of them was launched; without other arguments" in capsys.readouterr().out


def test_a_folder_of_0_1_0_is_read_by_its_job_files(tmp_path, capsys):
    out = tmp_path / "moved"
    for number, (algorithm, row) in enumerate([("ERM", []), ("SAM", ["--row", "SAM, rho 1"])]):
        folder = out / f"{number:032x}"
        folder.mkdir(parents=True)
        words = ["--algorithm", algorithm, "--dataset", "Debug28", "--hparams_seed", "0", *row]
        argv = ("upstream",) * number + (
            "train",
            *words,
            "--output_dir",
            f"old/{number:032x}",
            "--test_envs",
            "0",
            "1",
        )
        write_job_file(folder, JobFile(argv, 1 - number, 0.0, 1.0, "here", 1))
    mark_done(out / f"{1:032x}")
    broken = out / ("f" * 32)
    broken.mkdir()
    (broken / "job.json").write_text('{"argv": 3}')
    assert sweep("status", out, jobs=[]) == 0
    captured = capsys.readouterr()
    assert "1 more folders have no readable job.json" in captured.err
    assert [line.split() for line in captured.out.splitlines()[1:4]] == [
        ["Row", "on", "2"],
        ["ERM", "0/1!"],
        ["SAM,", "rho", "1", "1/1"],
    ]
    assert sweep("launch", out, "--dry-run", jobs=[]) == 0
    assert f"--output_dir {out / ('0' * 32)}" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["status", "delete_incomplete"])
def test_a_folder_without_a_sweep_is_said_to_have_none(command, tmp_path, capsys):
    assert sweep(command, tmp_path, jobs=[]) == 2
    assert "has no plan.json and no job.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"plans": 3}', '{"plans": [3]}', '{"plans": [{"datasets": 3}]}', "[" * 10**5]
    + ['{"plans": [{"algorithms": ["ERM"], "rows": 3}]}', '{"plans": [{"n_trials": 1' + "0" * 5000 + "}]}"],
)  # fmt: skip
def test_a_plan_that_is_none_is_named(text, tmp_path, capsys):
    (tmp_path / "plan.json").write_text(text)
    assert sweep("status", tmp_path, jobs=[]) == 2
    assert "cannot be read as the plan of a sweep" in capsys.readouterr().err
    assert sweep("status", tmp_path) == 0, "the arguments say which jobs there are"


def test_what_is_no_file_is_not_waited_for(tmp_path, capsys):
    os.mkfifo(tmp_path / "plan.json")
    assert sweep("status", tmp_path, jobs=[]) == 2
    assert "not a regular file but a named pipe" in capsys.readouterr().err
    os.mkfifo(tmp_path / "mine.yaml")
    assert sweep("status", tmp_path, "--preset", tmp_path / "mine.yaml", jobs=[]) == 2
    assert "not a regular file but a named pipe" in capsys.readouterr().err


def test_one_unreadable_job_folder_does_not_cost_the_status(tmp_path, capsys):
    pipe, loop, file, wrong, *_ = folders(tmp_path, capsys)
    os.mkfifo(pipe / "job.json")
    loop.rmdir()
    loop.symlink_to(loop)
    file.rmdir()
    file.touch()
    (wrong / "job.json").write_text(json.dumps({**vars(started_now((), os.getpid())), "argv": [], "pid": -1}))
    assert sweep("status", tmp_path) == 0
    assert "Debug28     0        0       0            4             2     6" in capsys.readouterr().out


# --- pairs, --set, retry, cancel --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "n_jobs"),
    [
        ([], 3),
        (["--select", "iid", "oracle"], 3),
        (["--select", "loo"], 6),
        (["--no-single_test_envs"], 6),
        (["--test_envs", 0, 1], 1),
    ],
)
def test_pairs_are_launched_only_for_the_rule_that_reads_them(flags, n_jobs, tmp_path, capsys):
    assert sweep("launch", tmp_path, "--dry-run", *flags, jobs=ALONE) == 0
    assert f"{n_jobs} jobs: 0 done, 0 incomplete, {n_jobs} not launched." in capsys.readouterr().out


def test_a_rule_that_lacks_its_pairs_or_does_not_exist_is_refused(tmp_path, capsys):
    assert sweep("launch", tmp_path, "--dry-run", "--single_test_envs") == 2
    assert "--select loo needs the pairs of environments" in capsys.readouterr().err
    assert sweep("launch", tmp_path, "--dry-run", "--select", "lo", jobs=ALONE) == 2
    assert "unknown selection rule 'lo' (did you mean 'loo'?)" in capsys.readouterr().err


def test_set_overrides_a_preset_and_names_every_bad_key(tmp_path, capsys):
    preset = tmp_path / "mine.yaml"
    preset.write_text(
        "datasets: [Debug28]\nalgorithms: [ERM]\nn_hparams: 1\nhparams: {lr: 0.1, batch_size: 4}\n"
    )
    given = ["--preset", preset, "--set", "n_trials=2", "algorithms=[ERM, SAM]", "hparams.lr=0.5"]
    assert sweep("launch", tmp_path / "out", "--dry-run", *given, jobs=[]) == 0
    out = capsys.readouterr().out
    assert "12 jobs: " in out  # 2 trials, 2 algorithms, 3 environments
    assert out.count('--hparams \'{"lr": 0.5, "batch_size": 4}\'') == 12
    wrong = ["n_trial=2", "steps=-1", "seven", "hparams.lr=high", "n_hparams=[1"]
    assert sweep("launch", tmp_path / "out", "--dry-run", *given, "--set", *wrong, jobs=[]) == 2
    err = capsys.readouterr().err
    assert "5 problems" in err
    for part in (
        "unknown key 'n_trial' (did you mean 'n_trials'?)",
        "steps must be a whole number, at least 1",
        "'seven': expected KEY=VALUE",
        "hparam 'lr' must be a finite number",
        "--set n_hparams: ",
    ):
        assert part in err
    assert not (tmp_path / "out").exists()


def test_retry_runs_what_failed_or_was_interrupted_and_nothing_new(tmp_path, capsys, stand_in):
    done, failed, stopped, upstreams, *new = folders(tmp_path, capsys)
    mark_done(done)
    write_job_file(failed, JobFile((), 1, 0.0, 1.0, "here", 1))
    write_job_file(stopped, JobFile((), STOPPED, 0.0, 1.0, "here", 1))
    (upstreams / "results.jsonl").touch()
    for folder in new:
        folder.rmdir()
    sweep("retry", tmp_path, *stand_in)
    assert "About to retry 3 jobs." in capsys.readouterr().out
    assert not any(folder.exists() for folder in new)


def test_cancel_tells_what_runs_to_stop_and_asks_first(tmp_path, capsys):
    running, *_ = folders(tmp_path, capsys)
    write_job_file(running, started_now((), os.getpid()))
    assert sweep("cancel", tmp_path) == 2
    assert "stdin is no terminal. Pass --skip_confirmation" in capsys.readouterr().err
    assert not (tmp_path / "cancel").exists()
    assert sweep("cancel", tmp_path, "--skip_confirmation") == 0
    assert "About to cancel 1 jobs.\nTold them to stop." in capsys.readouterr().out
    assert (tmp_path / "cancel").exists()


def test_an_empty_folder_that_a_killed_launch_left_is_launched(tmp_path, capsys, stand_in):
    first, *_ = folders(tmp_path, capsys)
    sweep("launch", tmp_path, *stand_in)
    assert "About to launch 0 jobs." in capsys.readouterr().out, "they may be those of DomainBed's own launch"
    shutil.rmtree(tmp_path)
    sweep("launch", tmp_path, *stand_in)
    shutil.rmtree(first)
    first.mkdir()
    sweep("launch", tmp_path, *stand_in)
    assert "1 jobs resume" in capsys.readouterr().out


def test_print_sbatch_prints_a_script_and_nothing_else(tmp_path, capsys):
    flags = ["--command_launcher", "slurm", "--print_sbatch", "--time_limit", "4:00:00", "--jobs_per_task", 4]
    assert sweep("launch", tmp_path / "out", *flags) == 0
    out = capsys.readouterr().out
    assert out.startswith("#!/bin/bash\n#SBATCH ")
    assert "#SBATCH --array=0-1\n" in out
    assert "#SBATCH --time=240\n" in out
    assert (tmp_path / "out" / "plan.json").exists()
    assert sweep("status", tmp_path / "out", jobs=[]) == 0
    assert "Not launched".lower() in capsys.readouterr().out


def test_flags_of_another_launcher_and_unknown_trackers_are_refused(tmp_path, capsys):
    flags = ["--partition", "gpu", "--halving", 1, "--track", "tensorbord", "--jobs_per_gpu", 0]
    assert sweep("launch", tmp_path / "out", "--dry-run", *flags) == 2
    err = capsys.readouterr().err
    for part in (
        "4 problems",
        "--partition is not for --command_launcher local",
        "--halving must be at least 2",
        "unknown tracker 'tensorbord' (did you mean 'tensorboard'?)",
        "--jobs_per_gpu must be at least 1",
    ):
        assert part in err


def test_a_tracker_reaches_the_jobs_and_not_the_names_of_their_folders(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("roga_domainbed.trainer.trackers.problems", lambda names: [])
    seen = []

    def launch(jobs, options):
        seen.extend(jobs)
        return launch_stand_in(jobs, options)

    monkeypatch.setitem(globals(), "launch_watched", launch)
    with LAUNCHERS.temporarily(LauncherInfo("watched", f"{__name__}:launch_watched", "")):
        sweep("launch", tmp_path, "--command_launcher", "watched", "--skip_confirmation", "--track", "wandb")
    plain = [
        line.split()[2] for line in capsys.readouterr().out.splitlines() if line.startswith("Not launched")
    ]
    assert [job.output_dir for job in seen] == plain
    assert all(job.argv[-2:] == ("--track", "wandb") for job in seen)


# --- folders of others ------------------------------------------------------------------------------------


def test_a_folder_of_somebody_else_is_refused(tmp_path, capsys, stand_in):
    (tmp_path / "thesis.tex").write_text("mine")
    assert sweep("launch", tmp_path, *stand_in) == 2
    assert "holds other files and no sweep (thesis.tex)" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["thesis.tex"]
    for command in ("launch", "status", "delete_incomplete"):
        assert sweep(command, tmp_path / "thesis.tex", *stand_in, jobs=[]) == 2
        assert capsys.readouterr().err.endswith("thesis.tex' is not a folder\n")


def test_delete_incomplete_deletes_files_of_runs_alone(tmp_path, capsys):
    ours, mixed, foreign, *_ = folders(tmp_path, capsys)
    for folder in (ours, mixed):
        (folder / "train.lock").touch()
        (folder / "checkpoint_3.pt").touch()
    (mixed / "notes.md").touch()
    (foreign / "thesis.tex").touch()
    assert sweep("delete_incomplete", tmp_path, "--skip_confirmation") == 1
    captured = capsys.readouterr()
    assert f"{mixed} stays: it holds other files too (notes.md)" in captured.err
    assert f"{foreign} stays: holds other files and no run (thesis.tex)" in captured.err
    assert captured.out.endswith("Deleted 4 jobs!\n")
    assert not ours.exists()
    assert len(list(mixed.iterdir())) == 3


# --- a launch says what is not done -----------------------------------------------------------------------


def test_a_killed_job_is_named_and_the_next_launch_goes_on_with_it(tmp_path, capsys, stand_in):
    killed, interrupted, *done = folders(tmp_path, capsys)
    for folder in done:
        mark_done(folder)
    write_job_file(killed, JobFile((), -9, 0.0, 1.0, "here", 1))
    write_job_file(interrupted, JobFile((), 130, 0.0, 1.0, "here", 1))
    assert sweep("status", tmp_path) == 0
    assert (
        f"Job {killed.name[:6]} (Debug28, ERM, test envs [0]) was killed by SIGKILL"
        in capsys.readouterr().out
    )
    assert sweep("launch", tmp_path, *stand_in) == 0
    assert "2 jobs resume from their last checkpoint." in capsys.readouterr().out


def test_jobs_that_run_elsewhere_are_not_done(tmp_path, capsys, stand_in):
    running, *done = folders(tmp_path, capsys)
    for folder in done:
        mark_done(folder)
    write_job_file(running, started_now((), os.getpid()))
    assert sweep("launch", tmp_path, *stand_in) == 1
    assert "1 of 6 jobs are not done: 1 running now, started by another command." in capsys.readouterr().err


# --- one look before many jobs ----------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [["--dry-run"], []])
def test_what_every_job_would_meet_is_refused_before_the_first(flags, tmp_path, capsys, on_engine):
    jobs = [
        "--datasets",
        "FFPP",
        "PACS",
        "--algorithms",
        "ERM",
        "--data_dir",
        str(tmp_path),
        "--single_test_envs",
    ]
    out = tmp_path / "out"
    assert sweep("launch", out, "--skip_confirmation", *flags, jobs=jobs) == 2
    err = capsys.readouterr().err
    assert "FFPP: " in err
    assert "has no folder 'PACS', which PACS is read from" in err
    assert sweep("launch", out, *flags, "--hparams", '{"lrr": 1}') == 2
    assert "unknown hparam 'lrr'" in capsys.readouterr().err
    assert sweep("launch", out, *flags, "--hparams", '{"weights": "no.pth"}', "--split", "official") == 2
    assert "no such file: 'no.pth'" in capsys.readouterr().err
    assert sweep("launch", out, *flags, "--split", "official", "--strict") == 2
    assert "--strict, --split official: this needs a manifest, which Debug28" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("flags", [["--n_trials", 10**7], ["--n_hparams", 10**12], ["--n_trials", 10**6]])
def test_a_sweep_beyond_measure_is_refused_at_once(flags, tmp_path, capsys):
    assert sweep("status", tmp_path, *flags) == 2
    assert "at most 1,000,000" in capsys.readouterr().err
