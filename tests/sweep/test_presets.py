"""Presets name arguments of a sweep; a wrong one is refused, what the command line says wins."""

import pytest

from roga_domainbed.cli import main
from roga_domainbed.errors import RogaError
from roga_domainbed.sweep.presets import load_preset, preset_names


def dry_run(capsys, *argv):
    assert main(["sweep", "launch", *argv, "--output_dir", "out", "--dry-run"]) == 0
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(("name", "n_jobs"), [("demo", 16), ("gid_c23", 12)])
def test_a_preset_makes_as_many_jobs_as_its_header_says(name, n_jobs, capsys):
    lines = dry_run(capsys, "--preset", name, "--data_dir", "data")
    assert f"{n_jobs} jobs: 0 done, 0 incomplete, {n_jobs} not launched." in lines


def test_every_preset_that_ships_is_tried_above():
    assert preset_names() == ["demo", "gid_c23"]


def test_the_command_line_wins_over_the_preset(capsys):
    lines = dry_run(capsys, "--preset", "demo", "--data_dir", "data", "--algorithms", "ERM", "--steps", "7")
    commands = [line for line in lines if line.startswith("roga-domainbed train")]
    assert len(commands) == 4
    assert all("--algorithm ERM" in line and "--steps 7" in line for line in commands)
    assert all("--checkpoint_freq 100" in line for line in commands)


def test_the_jobs_of_a_preset_are_those_of_its_arguments_written_out(capsys):
    written_out = (
        "--datasets SynthFake --algorithms ERM SAM SAGM RoGA --n_hparams 1 --n_trials 1 --steps 400 "
        "--checkpoint_freq 100 --single_test_envs --skip_model_save --data_dir data"
    )
    assert dry_run(capsys, *written_out.split()) == dry_run(capsys, "--preset", "demo", "--data_dir", "data")


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
    assert load_preset(str(path)) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "n_trails: 3\nsteps: 1\ndataset: X\n",
            r"2 problems:[\s\S]*'n_trails' \(did you mean 'n_trials'\?\)[\s\S]*'dataset'",
        ),
        ("just words", "expected 'argument: value' lines"),
        ("a: [1", "not valid YAML"),
        ("datasets: SynthFake\n", "datasets must be a list of names; got 'SynthFake'"),
        ("steps: 4e2\n", "steps must be a whole number; got '4e2'"),
        ("test_envs: 3\n", "test_envs must be a list of whole numbers; got 3"),
        ("balance: 1:4\n", "balance must be a string in quotes; got 64"),
        ("strict: 'yes'\n", "strict must be true or false; got 'yes'"),
        ("skip_model_save: 1\n", "skip_model_save must be true or false; got 1"),
    ],
)
def test_a_preset_that_is_none_is_refused(text, message, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(RogaError, match=message):
        load_preset(str(path))


def test_an_unknown_preset_or_file_is_refused():
    with pytest.raises(RogaError, match=r"unknown preset 'dmeo' \(did you mean 'demo'\?\)"):
        load_preset("dmeo")
    with pytest.raises(RogaError, match=r"no such file: 'no\.yaml'"):
        load_preset("no.yaml")


def test_misspelt_hparams_stop_a_launch_before_its_first_job(tmp_path, capsys):
    argv = ["sweep", "launch", "--preset", "demo", "--data_dir", str(tmp_path), "--skip_confirmation"]
    out = tmp_path / "out"
    assert main([*argv, "--output_dir", str(out), "--hparams", '{"rhoo": 1}']) == 2
    error = capsys.readouterr().err
    assert "SAM, SAGM, RoGA: unknown hparam 'rhoo' (did you mean 'rho'?)" in error
    assert "ERM: unknown hparam 'rhoo'" in error
    assert not out.exists()


def test_test_envs_given_on_the_command_line_replace_the_presets_single_ones(capsys):
    lines = dry_run(capsys, "--preset", "demo", "--data_dir", "data", "--test_envs", "0", "1")
    assert "4 jobs: 0 done, 0 incomplete, 4 not launched." in lines
