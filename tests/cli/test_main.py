"""The command line as a whole: help without torch, one line for a fault, no traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from roga_domainbed.cli import COMMANDS, main
from roga_domainbed.errors import Failed

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
    ("train --dataset=--", "--dataset=--: -- is no value"),
    ("train --dataset Debug28 --output_dir=", "output_dir must not be empty"),
    ("sweep launch --preset demo --output_dir=", "output_dir must not be empty"),
    ("demo --output_dir=", "output_dir must not be empty"),
    ("collect-results --input_dir x --output=", "output must not be empty"),
    ("evaluate x --save_scores=", "save_scores must not be empty"),
    ("train --no_such_flag", "unrecognized arguments: --no_such_flag"),
    ("train --dataset Debug28 --balance 1/4", "--balance must be the ratio of real to fake videos"),
    ("audit no/such --dataset SynthFake", "'no/such' is not a folder"),
    ("audit . --dataset FFPP --reals own", "--reals) 'own'; known: shared, partitioned"),
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
    assert (
        "  mesoinception4     MesoNet's MesoInception-4, from random weights; at 256 pixels (28,598 weights)"
        in names
    )
    assert main(["list", "--algorithm", "RoGA"]) == 0
    shown = capsys.readouterr().out
    assert "roga_anchor" in shown
    assert "(domain, pooled)" in shown


@pytest.mark.parametrize(("algorithm", "in_the_second"), [("MLDG", True), ("SAM", False)])
def test_list_shows_what_any_algorithm_takes_below_what_it_has(algorithm, in_the_second, capsys):
    assert main(["list", "--algorithm", algorithm, "--dataset", "Debug28"]) == 0
    own, given = capsys.readouterr().out.split("It also takes these from --hparams")
    for name in ("lr_schedule", "lr_decay_every", "lr_decay", "warmup_steps", "backbone", "averaging"):
        assert f"  {name} " in given
    for name in ("optimizer", "momentum"):
        assert (f"  {name} " in given, f"  {name} " in own) == (in_the_second, not in_the_second)


@pytest.fixture
def command(monkeypatch):
    """Runs a function as the command ``list``."""

    def run(function):
        from roga_domainbed.cli import list_names

        monkeypatch.setattr(list_names, "run", lambda args: function())
        return main(["list"])

    return run


def raise_(error):
    raise error


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (MemoryError(), "not enough memory (MemoryError)"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
            "not enough memory ([enf",
        ),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), "not enough memory (libtorch"),
        (RuntimeError("can't start new thread"), "not enough memory (can't start"),
        (RecursionError("maximum recursion depth exceeded"), "something is nested too deep (maximum"),
        (UnicodeEncodeError("ascii", "\u00e9", 0, 1, "ordinal not in range"), "a name or text that is no Unicode"),
        (OverflowError("int too large to convert to float"), "a number is too large (int too large"),
        (OSError(28, "No space left on device", "out.json"), "No space left on device: out.json"),
        (Failed("no verdict"), "no verdict"),
    ],
)  # fmt: skip
def test_what_no_command_foresees_is_a_sentence_and_status_1(command, capsys, error, sentence):
    assert command(lambda: raise_(error)) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"roga-domainbed list: error: {sentence}")
    assert err.count("\n") == 1


def test_a_defect_shows_its_traceback_and_asks_for_a_report(command, capsys):
    assert command(lambda: {}["no such key"]) == 1
    err = capsys.readouterr().err
    assert "Traceback (most recent call last)" in err
    assert "KeyError: 'no such key'" in err
    assert err.splitlines()[-1].endswith("please report it, with the lines above")


@pytest.mark.parametrize("code", [0, None])
def test_a_module_that_exits_is_no_success(command, capsys, code):
    assert command(lambda: sys.exit(code)) == 1
    assert f"{__file__}, line " in capsys.readouterr().err


def test_names_reach_the_terminal_as_letters(command, capsys):
    def show():
        print("\x1b[31mred\x07", "\u202etxt", "\udc80", "50 %\r", end="")
        print("\x1b]0;title\x07", file=sys.stderr)
        return 0

    assert command(show) == 0
    captured = capsys.readouterr()
    assert captured.out == "\\x1b[31mred\\x07 \\u202etxt \\udc80 50 %\r"
    assert captured.err == "\\x1b]0;title\\x07\n"


def shell(line, **environment):
    command = f"{sys.executable} -m roga_domainbed {line}"
    done = subprocess.run(
        ["bash", "-c", command],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_a_closed_or_full_output_is_a_sentence_and_what_an_encoding_lacks_is_written_out():
    for redirection, sentence in (
        (">&-", "standard output is closed"),
        ("> /dev/full", "No space left on device"),
    ):
        status, _, err = shell(f"list {redirection}")
        assert (status, err.count("\n")) == (1, 1)
        assert sentence in err
    status, out, err = shell("list --algorithm ERM 2>&-", PYTHONIOENCODING="ascii")
    assert (status, err) == (0, "")
    assert out.isascii()
    status, out, err = shell("list no-such-\u00e9 2>&1", PYTHONIOENCODING="ascii")
    assert status == 2
    assert "no-such-\\xe9" in out
