"""``data verify``: each fault is planted in a sound tree and has to be named, and nothing else."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image
from prepared_trees import write_tree

from datasets_ext import manifest
from datasets_ext.combined import Source
from datasets_ext.verify import verify
from roga_domainbed.catalog import DATASETS, DatasetInfo
from roga_domainbed.cli import main
from roga_domainbed.errors import RogaError

VIDEOS = [("000", "train"), ("001", "val"), ("002", "test")]


@pytest.fixture
def tree(tmp_path):
    """Two environments of three reals, which they share by hard links, and three fakes; two frames each: 18 files."""
    rng = np.random.default_rng(0)
    videos = [
        (env, label, number + suffix, number, number, split, method)
        for env in "AB"
        for label, suffix, method in ((0, "", "real"), (1, "_fake", "swap"))
        for number, split in VIDEOS
    ]
    write_tree(
        tmp_path,
        "Mine",
        videos,
        lambda *_: Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)),
        n_frames=2,
    )
    folder = tmp_path / "Mine"
    for path in (folder / "B/0_real").glob("*/*"):
        path.unlink()
        os.link(folder / "A" / path.relative_to(folder / "B"), path)
    return folder


def rewrite(tree, change):
    """Change the manifest's rows in place."""
    rows = manifest.read(tree)
    change(rows)
    manifest.write(tree, rows)


def set_where(column, value, start):
    def change(rows):
        rows.loc[rows["path"].str.startswith(start), column] = value

    return change


def test_a_sound_tree_has_no_fault_and_reals_shared_by_links_are_no_copies(tree):
    found = verify(tree, ("A", "B"))
    assert (found.faults, found.notes) == ({}, [])
    assert (found.n_rows, found.n_files) == (24, 18)
    assert found.sizes == {(8, 8): 18}
    assert found.text().endswith("no fault: the files match the manifest")
    assert "environment 'C' is not in the manifest, which has A, B" in verify(tree, ("A", "C")).text()
    with pytest.raises(RogaError, match=r"no manifest\.parquet in"):
        verify(tree.parent)


def test_folders_of_videos_may_be_links(tree, tmp_path):
    shutil.move(tree / "B/1_fake/000_fake", tmp_path / "elsewhere")
    (tree / "B/1_fake/000_fake").symlink_to(tmp_path / "elsewhere")
    assert verify(tree, ("A", "B")).faults == {}


def missing(tree):
    (tree / "A/1_fake/000_fake/0001.png").unlink()
    shutil.rmtree(tree / "B/1_fake/002_fake")


def extra(tree):
    shutil.copy(tree / "A/0_real/000/0000.png", tree / "A/0_real/000/0007.png")
    (tree / "B/notes.txt").write_text("hello")
    (tree / "A/.hidden").write_text("nobody's business")


def as_the_other_class(tree):
    shutil.copy(tree / "A/0_real/000/0000.png", tree / "A/1_fake/000_fake/0000.png")


def as_another_file_format(tree):
    with Image.open(tree / "A/1_fake/000_fake/0000.png") as image:
        image.save(tree / "B/1_fake/002_fake/0001.png", "BMP")


FAULTS = [
    (
        missing,
        {"missing on disk": ["A/1_fake/000_fake/0001.png", *(f"B/1_fake/002_fake/000{i}.png" for i in (0, 1))]},
    ),
    (extra, {"not in the manifest": ["A/0_real/000/0007.png", "B/notes.txt"]}),
    (
        as_the_other_class,
        {"the same image as real and as fake": ["A/0_real/000/0000.png = A/1_fake/000_fake/0000.png"]},
    ),
    (
        as_another_file_format,  # equal pixels, whatever the bytes
        {"the same image in two splits": ["A/1_fake/000_fake/0000.png = B/1_fake/002_fake/0001.png"]},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("plant", "faults"), FAULTS, ids=lambda value: getattr(value, "__name__", ""))
def test_what_is_wrong_with_files_is_named(tree, plant, faults):
    plant(tree)
    assert verify(tree).faults == faults


def test_each_damaged_file_is_named_with_what_is_wrong(tree, monkeypatch):
    (tree / "A/1_fake/000_fake/0000.png").write_bytes(b"")
    whole = (tree / "A/1_fake/001_fake/0000.png").read_bytes()
    (tree / "A/1_fake/001_fake/0000.png").write_bytes(whole[: len(whole) // 2])
    (tree / "A/1_fake/002_fake/0000.png").write_bytes(b"GIF? no")
    alone = verify(tree)
    (lines,) = alone.faults.values()
    paths, reasons = zip(*(line.split(": ", 1) for line in lines), strict=True)
    assert paths == tuple(f"A/1_fake/{recording}_fake/0000.png" for recording, _ in VIDEOS)
    assert reasons[0] == "it is empty"
    assert "truncated" in reasons[1]
    assert reasons[2] == "it is in no image format"
    monkeypatch.setattr("datasets_ext.workers._FEWEST", 1)
    assert verify(tree, n_workers=2) == alone


@pytest.mark.parametrize(
    ("change", "fault", "first"),
    [
        (set_where("label", 1, "A/0_real/000/"), "in the folder of another class than its label", "A/0_real/000/"),
        (set_where("env", "B", "A/1_fake/000"), "in the folder of another environment", "A/1_fake/000_fake/0000.png"),
        (set_where("split", "val", "A/1_fake/000_fake/0001"), "a video with more than one split", "A/1/000_fake"),
        (set_where("recording", "9", "B/1_fake/000_fake/0000"), "a video with more than one recording", "B/1/000_fake"),
        (set_where("split", "dev", "B/"), "the manifest is wrong", "Mine: the manifest's column 'split' may hold '', "),
        (set_where("path", "A/0_real/001/0000.png", "A/0_real/001/"), "listed more than once", "A/0_real/001/0000.png"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_the_manifest_is_named(tree, change, fault, first):
    rewrite(tree, change)
    faults = verify(tree).faults
    assert faults[fault][0].startswith(first)


def test_a_picture_in_two_recordings_and_a_foreign_folder_are_noted(tree):
    shutil.copytree(tree / "A", tree / "Backup")
    shutil.copy(
        tree / "A/1_fake/000_fake/0000.png", tree / "A/1_fake/000_fake/0001.png"
    )  # one video: nothing to say
    rewrite(tree, set_where("recording", "new", "B/1_fake/000_fake/"))
    shutil.copy(tree / "A/1_fake/000_fake/0000.png", tree / "B/1_fake/000_fake/0000.png")
    found = verify(tree)
    assert found.faults == {}
    assert found.notes == [
        "folders that are not an environment of the manifest: Backup",
        "1 images are in more than one recording, which a split by recording cannot know: "
        "A/1_fake/000_fake/0000.png = B/1_fake/000_fake/0000.png",
    ]


def test_the_command_ends_with_1_and_names_twenty_or_all(tree, capsys):
    argv = ["data", "verify", str(tree.parent)]
    assert main(argv) == 0
    assert "Mine: 24 frames in the manifest, 18 files" in capsys.readouterr().out
    shutil.rmtree(tree / "A")
    shutil.rmtree(tree / "B/1_fake")
    for name in ("Other", "Broken"):
        (tree.parent / name).mkdir()
        (tree.parent / name / manifest.FILE).write_bytes(b"no parquet")
    rewrite(tree, lambda rows: rows.__setitem__("path", rows["path"].str.replace("000", "00")))
    assert main([*argv, "--dataset", "Mine", "Broken"]) == 1
    out = capsys.readouterr().out
    assert "missing on disk: 24\n" in out
    assert "… and 4 more; --all names them" in out
    assert "Broken: " in out
    assert "cannot be read as a manifest" in out
    assert main([*argv, "--dataset", "Mine", "--all"]) == 1
    assert capsys.readouterr().out.count("/00_fake/") == 4


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("verify nowhere", "'nowhere' is not a folder"),
        ("verify . --dataset FFPPP", "did you mean 'FFPP'?"),
        ("verify . --dataset FFPP", "FFPP is not prepared in '.'; there is nothing"),
        ("stats .", "no prepared dataset in '.'; 'roga-domainbed prepare' makes one"),
        ("verify . --dataset FFPP --n_workers 0", "--n_workers must be at least 1; got 0"),
        ("check .", "invalid choice: 'check'"),
    ],
)
def test_a_wrong_argument_is_said_without_a_traceback(line, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    try:
        status = main(["data", *line.split()])
    except SystemExit as exit_:
        status = exit_.code
    assert status == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


class Elsewhere:
    """A dataset put together in another package."""

    SOURCES = (Source("UADFV", ("UADFV",), "UADFV"), Source("Lab", ("Lab",), "Lab"))


@pytest.mark.parametrize(
    ("name", "lacking"),
    [("DeepfakeDatasets", ("FFPP", "CelebDF2", "DFDC", "DFDCP")), ("Elsewhere", ("Lab",))],
)
def test_a_dataset_of_several_trees_means_all_of_them(tree, capsys, name, lacking):
    shutil.copytree(tree, tree.parent / "UADFV")
    info = DatasetInfo("Elsewhere", ("UADFV", "Lab"), target=f"{__name__}:Elsewhere", plugin=True)
    with DATASETS.temporarily(info):
        assert info.trees == ("UADFV", "Lab")
        assert main(["data", "stats", str(tree.parent), "--dataset", name]) == 2
    error = capsys.readouterr().err
    for other in lacking:
        assert f"{other} is not prepared" in error
    assert "UADFV is not prepared" not in error
    assert DATASETS.get("FFPP").trees == ("FFPP",)
    assert DATASETS.get("RotatedMNIST").trees == ("MNIST",)
    assert DATASETS.get("FFPPDownload").trees == ("FFPP", "FaceShifter", "DFD")
