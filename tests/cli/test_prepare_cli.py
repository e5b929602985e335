import pytest

from datasets_ext.prepare import (
    celebdf,
    csv_list,
    deepfakebench,
    dfd,
    dfdc,
    dfdcp,
    driver,
    ffpp,
    plain_folders,
    uadfv,
)
from datasets_ext.prepare.ffpp_layout import FACESHIFTER
from datasets_ext.prepare.link import LinkOptions
from datasets_ext.prepare.options import CropOptions
from datasets_ext.prepare.report import ClassCount, PrepareReport
from roga_domainbed.cli import main
from roga_domainbed.errors import Problems


@pytest.fixture
def called(monkeypatch, tmp_path):
    """What the command hands on, without doing it: the reader's arguments, then the driver's."""
    calls = []

    def stand_in(read, *args):
        calls.append((read(Problems()), *args))
        return PrepareReport(
            "FFPP", tmp_path, tmp_path, "c23", CropOptions(), classes=[ClassCount("real", 1000, 0)]
        )

    monkeypatch.setattr(driver, "prepare", stand_in)
    monkeypatch.setattr("roga_domainbed.cli.prepare._next_command", lambda *args: "")  # nothing was made
    for module in (ffpp, dfd, celebdf, dfdc, dfdcp, uadfv, deepfakebench, csv_list, plain_folders):
        name = module.__name__.split(".")[-1]
        monkeypatch.setattr(module, "read", lambda *args, name=name: (name, *without_problems(args)))
    return calls


def without_problems(args):
    return (arg for arg in args if not isinstance(arg, Problems))


EVERY = "--compression c40 --n_frames 8 --size 128 --margin 1.7 --detector other --align --image_format jpg"


@pytest.mark.parametrize(
    ("argv", "read", "options"),
    [
        ("ffpp --source in", ("ffpp", "in", "c23", None), CropOptions(32, 256, 1.3, "yunet")),
        (
            f"ffpp --source in --splits lists {EVERY}",
            ("ffpp", "in", "c40", "lists"),
            CropOptions(8, 128, 1.7, "other", True, "jpg"),
        ),
        ("faceshifter --source in", ("ffpp", "in", "c23", None, FACESHIFTER), CropOptions()),
        ("dfd --source in --compression raw", ("dfd", "in", "raw"), CropOptions()),
        ("celebdf1 --source in", ("celebdf", "in", 1), CropOptions()),
        ("celebdf2 --source in", ("celebdf", "in", 2), CropOptions()),
        ("dfdc --source in", ("dfdc", "in"), CropOptions()),
        ("dfdcp --source in", ("dfdcp", "in"), CropOptions()),
        ("uadfv --source in", ("uadfv", "in"), CropOptions()),
        ("csv --list a.csv --name Mine", ("csv_list", "a.csv", "Mine", False), CropOptions()),
        (
            "folder --source in --real a --real b --fake c --identity stem",
            ("plain_folders", "in", None, ["a", "b"], ["c"], "stem", False),
            CropOptions(),
        ),
        (
            "csv --list a.csv --name Mine --link hardlink",
            ("csv_list", "a.csv", "Mine", True),
            LinkOptions(32, "hardlink"),
        ),
        (
            "deepfakebench --source in --json a b --compression c40 --n_frames 8",
            ("deepfakebench", "in", ["a", "b"], "c40", None),
            LinkOptions(8, "copy"),
        ),
        (
            "deepfakebench --source in --json a --splits lists --link symlink",
            ("deepfakebench", "in", ["a"], None, "lists"),
            LinkOptions(32, "symlink"),
        ),
    ],
)
@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
def test_each_dataset_has_its_reader_and_every_option_arrives(called, argv, read, options, overwrite):
    assert main(["prepare", *argv.split(), "--data_dir", "out", "--n_workers", "3", *overwrite]) == 0
    assert called == [(read, "out", options, 3, bool(overwrite))]


def test_what_decides_a_crop_has_no_effect_on_images_taken_as_they_are_and_is_a_fault(tmp_path, capsys):
    argv = f"prepare csv --list {tmp_path}/none.csv --name Mine --data_dir {tmp_path}/out --link copy"
    assert main([*argv.split(), "--align", "--size", "256", "--n_frames", "0"]) == 2  # 256 is the default
    err = capsys.readouterr().err
    assert "3 problems" in err  # the list and the number of frames, too
    assert "--link copy takes images as they are, so --size, --align would have no effect: leave out" in err
    assert not (tmp_path / "out").exists()


def test_a_fault_of_the_user_is_one_line_and_status_2(tmp_path, capsys):
    assert main(["prepare", "ffpp", "--source", str(tmp_path), "--data_dir", str(tmp_path / "out")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("roga-domainbed prepare: error: --source")
    assert "original_sequences/youtube/" in lines[0]


@pytest.mark.parametrize(
    ("argv", "status", "words"),
    [("prepare --help", 0, "ffpp"), ("prepare ffpp --help", 0, "ffpp"), ("prepare", 2, "DATASET")],
)
def test_help_is_there_and_a_missing_dataset_is_named(argv, status, words, capsys):
    with pytest.raises(SystemExit) as caught:
        main(argv.split())
    assert caught.value.code == status
    assert words in "".join(capsys.readouterr())
