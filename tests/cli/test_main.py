"""The command line as a whole: help without torch, one line for a fault, no traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from roga_domainbed.cli import COMMANDS, main

ROOT = Path(__file__).resolve().parents[2]


def test_no_arguments_print_the_commands(capsys):
    assert main([]) == 0
    out = capsys.readouterr().out
    assert all(command in out for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as exit_:
        main([command, "--help"])
    assert exit_.value.code == 0
    assert f"roga-domainbed {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("lines", "heavy"),
    [
        (["--help", "--version", "demo --help", "list --help", "train --help", "sweep --help"], "numpy"),
        (["collect-results --help"], "torch"),
    ],
)
def test_help_loads_nothing_heavy(lines, heavy):
    code = (
        "import contextlib, sys\nfrom roga_domainbed.cli import main\nfor line in sys.argv[2:]:\n"
        "    with contextlib.suppress(SystemExit):\n        main(line.split())\nsys.exit(sys.argv[1] in sys.modules)"
    )
    command = [sys.executable, "-c", code, heavy, *lines]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


# What the user typed wrong, and what the one line must say.
WRONG = [
    ("trian", "unknown command 'trian' (did you mean 'train'?)"),
    ("train --algorithm Roga --dataset Debug28", "did you mean 'RoGA'?"),
    ("train --dataset SynthFakes", "did you mean 'SynthFake'?"),
    ("train --dataset SynthFake", "needs --data_dir"),
    ("train --dataset SynthFake --data_dir no/such", "--data_dir 'no/such' is not a folder"),
    (
        "train --dataset Debug28 --test_envs 9",
        "--test_envs 9: there is no such environment; they are 0 0, 1 1, 2 2",
    ),
    ("train --dataset Debug28 --hparams {lr:1}", "--hparams is not valid JSON"),
    ('train --dataset Debug28 --hparams {"lrr":1}', "unknown hparam 'lrr' (did you mean 'lr'?)"),
    ("train --steps many", "argument --steps: invalid int value: 'many'"),
    ("train --no_such_flag", "unrecognized arguments: --no_such_flag"),
    ("train --dataset Debug28 --balance 1/4", "--balance must be the ratio of real to fake videos"),
    ("audit no/such --dataset FFPP --reals own", "--reals) 'own'; known: shared, partitioned"),
    ("data verify no/such", "'no/such' is not a folder"),
    ("evaluate no/such", "no such run: 'no/such'"),
    ("predict no/such x.png", "no such file or folder: 'x.png'"),
    ("list --algorithm Roga", "did you mean 'RoGA'?"),
    ("demo --steps 0", "--steps must be a whole number, at least 1 and at most 1,000,000,000; got 0"),
]


@pytest.mark.parametrize(("line", "message"), WRONG, ids=[line for line, _ in WRONG])
def test_a_fault_is_one_line_without_a_traceback(line, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    try:
        status = main(line.split())
    except SystemExit as exit_:  # argparse's own faults
        status = exit_.code
    assert status == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("roga-domainbed")
    assert os.listdir(tmp_path) == [], "nothing was made"


def test_list_shows_names_and_the_hyper_parameters_of_one_algorithm(capsys):
    assert main(["list"]) == 0
    names = capsys.readouterr().out
    assert "RoGA" in names
    assert "0 DF  1 F2F  2 FS  3 NT" in names
    assert main(["list", "--algorithm", "RoGA"]) == 0
    shown = capsys.readouterr().out
    assert "roga_anchor" in shown
    assert "(domain, pooled)" in shown
