import pytest

from datasets_ext.prepare import ffpp
from datasets_ext.prepare.clips import CropOptions
from datasets_ext.prepare.report import ClassCount, Report
from roga_domainbed.cli import main


@pytest.fixture
def called(monkeypatch, tmp_path):
    """What the command hands on, without doing it."""
    calls = []

    def stand_in(*args):
        calls.append(args)
        return Report("FFPP", tmp_path, tmp_path, "c23", CropOptions(), classes=[ClassCount("real", 1000, 0)])

    monkeypatch.setattr(ffpp, "prepare", stand_in)
    return calls


def test_the_defaults_are_those_of_the_field(called):
    assert main(["prepare", "ffpp", "--source", "in", "--data_dir", "out", "--n_workers", "3"]) == 0
    assert called == [("in", "out", "c23", CropOptions(32, 256, 1.3, "yunet"), None, 3, False)]


def test_every_option_arrives(called):
    argv = (
        "--source in --data_dir out --compression c40 --n_frames 8 --size 128 --margin 1.7 --detector other"
    )
    assert (
        main(["prepare", "ffpp", *argv.split(), "--splits", "lists", "--n_workers", "2", "--overwrite"]) == 0
    )
    assert called == [("in", "out", "c40", CropOptions(8, 128, 1.7, "other"), "lists", 2, True)]


def test_a_fault_of_the_user_is_one_line_and_status_2(tmp_path, capsys):
    assert main(["prepare", "ffpp", "--source", str(tmp_path), "--data_dir", str(tmp_path / "out")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("roga-domainbed prepare: error: --source")
    assert "original_sequences/youtube/" in lines[0]


@pytest.mark.parametrize("argv", [["prepare", "--help"], ["prepare", "ffpp", "--help"]])
def test_help_is_there_for_the_command_and_the_dataset(argv, capsys):
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 0
    assert "ffpp" in capsys.readouterr().out


def test_without_a_dataset_the_command_says_what_is_missing(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["prepare"])
    assert caught.value.code == 2
    assert "DATASET" in capsys.readouterr().err
