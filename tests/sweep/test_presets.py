"""Presets name arguments of a sweep; a wrong one is refused, what the command line says wins."""

import json
import os
import re
from pathlib import Path

import pytest

from roga_domainbed.cli import main
from roga_domainbed.cli.sweep import which
from roga_domainbed.errors import Problems, RogaError
from roga_domainbed.launch import LAUNCHERS, LauncherInfo, Outcome
from roga_domainbed.sweep.plan import Row, load_preset, preset_names

SWEEPS = Path(__file__).resolve().parents[2] / "sweeps"


@pytest.fixture(autouse=True)
def without_data(monkeypatch):
    """Which jobs a plan makes does not depend on the data."""
    monkeypatch.setattr(which, "_check_data", lambda plan, problems: None)


def dry_run(capsys, *argv):
    assert main(["sweep", "launch", *argv, "--output_dir", "out", "--dry-run"]) == 0
    return capsys.readouterr().out.splitlines()


def read(path):
    problems = Problems()
    values = load_preset(str(path), problems)
    problems.check()
    return values


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_makes_as_many_jobs_as_its_header_says(name, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lite0.pth").touch()  # the league's weights
    n_jobs = re.search(r"^# Runs: (\d+) \(", (SWEEPS / f"{name}.yaml").read_text(), re.MULTILINE)[1]
    lines = dry_run(capsys, "--preset", name, "--data_dir", "data")
    assert f"{n_jobs} jobs: 0 done, 0 incomplete, {n_jobs} not launched." in lines


@pytest.fixture
def preset(tmp_path):
    """The path of a preset of four algorithms."""
    path = tmp_path / "four.yaml"
    path.write_text(
        "datasets: [SynthFake]\nalgorithms: [ERM, SAM, SAGM, RoGA]\nn_hparams: 1\nn_trials: 1\nsteps: 400\n"
        "checkpoint_freq: 100\nsingle_test_envs: true\nskip_model_save: true\nhparams: {lr: 0.1}\n"
    )
    return str(path)


def test_the_command_line_wins_over_the_preset(preset, capsys):
    lines = dry_run(capsys, "--preset", preset, "--data_dir", "data", "--algorithms", "ERM", "--steps", "7")
    commands = [line for line in lines if line.startswith("roga-domainbed train")]
    assert len(commands) == 4
    assert all("--algorithm ERM" in line and "--steps 7" in line for line in commands)
    assert all("--checkpoint_freq 100" in line for line in commands)


def test_the_jobs_of_a_preset_are_those_of_its_arguments_written_out(preset, capsys):
    written_out = (
        "--datasets SynthFake --algorithms ERM SAM SAGM RoGA --n_hparams 1 --n_trials 1 --steps 400 "
        "--checkpoint_freq 100 --single_test_envs --skip_model_save --data_dir data"
    )
    argv = [*written_out.split(), "--hparams", '{"lr": 0.1}']
    assert dry_run(capsys, *argv) == dry_run(capsys, "--preset", preset, "--data_dir", "data")


def test_a_preset_of_ones_own_is_read_from_its_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("datasets: [Debug28]\nsteps: 5\nhparams: {lr: 0.01}\nbalance: '1:4'\nstrict: true\n")
    expected = {
        "datasets": ["Debug28"],
        "steps": 5,
        "hparams": '{"lr": 0.01}',
        "balance": "1:4",
        "strict": True,
    }
    assert read(path) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "n_trails: 3\nsteps: 1\ndataset: X\n",
            r"2 problems:[\s\S]*'n_trails' \(did you mean 'n_trials'\?\)[\s\S]*'dataset'",
        ),
        ("just words", "expected 'argument: value' lines"),
        ("a: [1", "not valid YAML"),
        ("datasets: SynthFake\n", "datasets must be a list, each a string; got 'SynthFake'"),
        ("steps: 4e2\n", "steps must be a whole number, at least 1 and .*; got '4e2'"),
        ("test_envs: 3\n", "test_envs must be a list, each a whole number; got 3"),
        ("balance: 1:4\n", "balance must be a string; got 64; put it in quotes"),
        ("strict: 'yes'\n", "strict must be true or false; got 'yes'"),
        ("label_noise: 40 %\n", "label_noise must be a finite number, at least 0 and at most 1; got '40 %'"),
        ("train_fraction: 0\n", "train_fraction must be a finite number, above 0 and at most 1; got 0"),
        ("skip_model_save: 1\n", "skip_model_save must be true or false; got 1"),
    ],
)
def test_a_preset_that_is_none_is_refused(text, message, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(RogaError, match=message):
        read(path)


def test_an_unknown_preset_or_file_is_refused():
    with pytest.raises(RogaError, match=r"unknown preset 'dmeo' \(did you mean 'demo'\?\)"):
        load_preset("dmeo", Problems())
    with pytest.raises(RogaError, match=r"no such file: 'no\.yaml'"):
        load_preset("no.yaml", Problems())


def test_misspelt_hparams_stop_a_launch_before_its_first_job(preset, tmp_path, capsys):
    argv = ["sweep", "launch", "--preset", preset, "--data_dir", str(tmp_path), "--skip_confirmation"]
    out = tmp_path / "out"
    assert main([*argv, "--output_dir", str(out), "--hparams", '{"rhoo": 1}']) == 2
    error = capsys.readouterr().err
    assert "SAM, SAGM, RoGA: unknown hparam 'rhoo' (did you mean 'rho'?)" in error
    assert "ERM: unknown hparam 'rhoo'" in error
    assert not out.exists()


def test_a_hparam_of_other_rows_is_refused_with_the_row_and_the_place_for_it(tmp_path, capsys):
    preset, out = tmp_path / "four.yaml", tmp_path / "out"
    (tmp_path / "data").mkdir()
    preset.write_text("datasets: [FFPP]\nhparams: {optimizer: sgd, momentum: 0.9, rho: 0.1, alpha: 0.0002}\n")
    argv = ["sweep", "launch", "--preset", str(preset), "--algorithms", "ERM", "MLDG", "SAM", "RoGA"]
    argv += ["--data_dir", str(tmp_path / "data"), "--output_dir", str(out)]
    for how in (["--skip_confirmation"], ["--dry-run"], ["--dry-run", "--command_launcher", "dummy"]):
        assert main([*argv, *how]) == 2
        error = capsys.readouterr().err
        place = "--hparams, and the hparams of a preset, are for every row: give it in the row of"
        assert f"ERM, MLDG: no hparam 'rho'; {place} SAM, RoGA ('rows' of a preset)" in error
        assert f"ERM, MLDG, SAM: no hparam 'alpha'; {place} RoGA ('rows' of a preset)" in error
        assert "2 problems" in error
    assert not out.exists()


def test_an_optimizer_is_everybodys(preset, capsys):
    sgd = '{"optimizer": "sgd", "momentum": 0.9, "lr_schedule": "step", "lr_decay_every": 100}'
    argv = ["--preset", preset, "--data_dir", "data", "--algorithms", "ERM", "MLDG", "DANN", "RoGA"]
    lines = dry_run(capsys, *argv, "--hparams", sgd)
    assert "16 jobs: 0 done, 0 incomplete, 16 not launched." in lines


def test_faults_of_all_rows_are_said_at_once_each_with_its_rows(tmp_path, capsys):
    preset, out = tmp_path / "rows.yaml", tmp_path / "out"
    preset.write_text(
        """
datasets: [Debug28]
steps: 50
hparams: {alpha: 0.1, optimizer: sgd}
rows:
  - {name: plain, algorithm: ERM}
  - {name: by step, algorithm: ERM, hparams: {lr_schedule: step}}
  - {name: late, algorithm: MLDG, hparams: {warmup_steps: 50, rho: 1}}
  - {name: wrong, algorithm: RoGA, hparams: {optimizer: SGD, alpha: -1}}
"""
    )
    argv = ["sweep", "launch", "--preset", str(preset), "--output_dir", str(out), "--dry-run"]
    assert main(argv) == 2
    error = capsys.readouterr().err
    for part in (
        "plain, by step, late: no hparam 'alpha'; --hparams, and the hparams of a preset, are for every row: "
        "give it in the row of wrong",
        "by step: hparam 'lr_schedule' step needs 'lr_decay_every'",
        "late: unknown hparam 'rho'",
        "wrong: hparam 'optimizer' must be one of 'adam', 'adamw', 'sgd'; got 'SGD' (did you mean 'sgd'?)",
        "wrong: hparam 'alpha' must be a finite number, at least 0; got -1",
    ):
        assert part in error
    assert "5 problems" in error
    preset.write_text(preset.read_text().replace(", rho: 1", ""))
    assert main(argv) == 2
    assert "late: hparam 'warmup_steps' must be below the run's 50 steps" in capsys.readouterr().err
    assert not out.exists()


def test_test_envs_given_on_the_command_line_replace_the_presets_single_ones(preset, capsys):
    lines = dry_run(capsys, "--preset", preset, "--data_dir", "data", "--test_envs", "0", "1")
    assert "4 jobs: 0 done, 0 incomplete, 4 not launched." in lines


THREE = """
datasets: [Debug28]
algorithms: [ERM]
n_hparams: 1
n_trials: 1
steps: 1
test_envs: [1, 2]
skip_model_save: true
hparams: {batch_size: 8}
rows:
  - {name: "SAM, ρ 0.05", algorithm: SAM, hparams: {rho: 0.05}}
  - {name: "SAM, ρ 0.1", algorithm: SAM, hparams: {rho: 0.1, batch_size: 4}}
  - {name: plain SAM, algorithm: SAM}
"""


def launch_here(jobs, options):
    """A launcher: each job in this process, which has torch already."""
    for job in jobs:
        os.makedirs(job.output_dir)
        yield Outcome(job, main(list(job.argv)))


def test_a_plan_compares_settings_of_one_algorithm_row_by_row(tmp_path, capsys):
    preset, out = tmp_path / "rows.yaml", tmp_path / "out"
    preset.write_text(THREE)
    argv = ["--preset", str(preset), "--output_dir", str(out)]
    with LAUNCHERS.temporarily(LauncherInfo("here", f"{__name__}:launch_here", "")):
        assert main(["sweep", "launch", *argv, "--skip_confirmation", "--command_launcher", "here"]) == 0
    assert "4 jobs: 0 done, 0 incomplete, 4 not launched." in capsys.readouterr().out
    found = {}
    for path in out.glob("*/results.jsonl"):
        record = json.loads(path.read_text(encoding="utf-8").splitlines()[-1])
        args, hparams = record["args"], record["hparams"]
        key = (args.get("row"), args["algorithm"], hparams.get("rho"), hparams["batch_size"])
        found.setdefault(key, []).append((args["test_envs"], args["seed"]))
    assert set(found) == {
        (None, "ERM", None, 8),
        ("SAM, ρ 0.05", "SAM", 0.05, 8),
        ("SAM, ρ 0.1", "SAM", 0.1, 4),
        ("plain SAM", "SAM", 0.02, 8),
    }
    del found[None, "ERM", None, 8]
    assert len({tuple(map(str, sorted(jobs))) for jobs in found.values()}) == 1, (
        "rows differ in their settings alone"
    )
    assert main(["sweep", "status", *argv]) == 0
    table = capsys.readouterr().out
    for name in ("Row", "ERM", "SAM, ρ 0.05", "SAM, ρ 0.1", "plain SAM"):
        assert f"{name}  " in table


def test_rows_alone_leave_out_the_other_algorithms(tmp_path):
    preset = tmp_path / "rows.yaml"
    preset.write_text("rows: [{name: mine, algorithm: SAM, hparams: {rho: 1}}]")
    assert read(preset) == {"rows": [Row("SAM", "mine", {"rho": 1})]}


def test_everything_wrong_with_rows_is_said_at_once_and_nothing_starts(tmp_path, capsys):
    preset, out = tmp_path / "rows.yaml", tmp_path / "out"
    preset.write_text(
        """
datasets: [Debug28]
algorithms: [ERM]
rows:
  - {name: a, algorithm: Samm}
  - {name: b, algorithm: SAM, hparams: {rhoo: 1}}
  - {name: b, algorithm: SAM, hparams: {rho: -1}}
  - {algorithm: SAM}
  - {name: c}
  - {name: d, algorithm: ERM, hparams: [1], hparam: {}}
  - {name: ERM, algorithm: SAM}
"""
    )
    argv = ["sweep", "launch", "--preset", str(preset), "--output_dir", str(out), "--skip_confirmation"]
    assert main(argv) == 2
    error = capsys.readouterr().err
    for part in (
        "row 'a': unknown algorithm 'Samm' (did you mean 'SAM'?)",
        "b: unknown hparam 'rhoo' (did you mean 'rho'?)",
        "b: hparam 'rho' must be a finite number, at least 0; got -1",
        "2 rows are called 'b'",
        "row 4 has no name",
        "row 'c' has no algorithm",
        "row 'd': hparams must be a mapping; got [1]",
        "row 'd': unknown key 'hparam' (did you mean 'hparams'?)",
        "2 rows are called 'ERM'",
    ):
        assert part in error
    assert "9 problems" in error
    assert not out.exists()
    preset.write_text("rows: SAM")
    assert main(argv) == 2
    assert (
        "rows must be a list of mappings, each with name and algorithm; got 'SAM'" in capsys.readouterr().err
    )
