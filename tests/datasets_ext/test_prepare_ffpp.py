"""The whole way from small videos to a dataset, with a detector that finds squares."""

import errno
import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from prepare_videos import SQUARES, SquareDetector, fake_folder, level, real_folder, small_tree, write_video

from datasets_ext import manifest
from datasets_ext.prepare import driver, ffpp, pool, video
from datasets_ext.prepare.detectors import DETECTORS
from datasets_ext.prepare.options import CropOptions
from roga_domainbed.cli import main
from roga_domainbed.errors import MissingExtra, RogaError

OPTIONS = CropOptions(n_frames=4, size=32, margin=1.5, detector="squares")


@pytest.fixture(autouse=True)
def _squares(squares):
    SquareDetector.n_calls = 0


@pytest.fixture(scope="module")
def _tree(tmp_path_factory):
    return small_tree(tmp_path_factory.mktemp("FF++ of 'a user'"))


@pytest.fixture
def source(_tree, tmp_path):
    """A tree of its own for each test, linked, so that a test may add and take away files."""
    copy = tmp_path / "FF++ of 'a user'"
    for path in _tree.rglob("*.mp4"):
        target = copy / path.relative_to(_tree)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(path, target)
    return copy


@pytest.fixture(scope="module")
def made(_tree, tmp_path_factory):
    """The data folder that an unbroken run makes, and its report."""
    out = tmp_path_factory.mktemp("made")
    with DETECTORS.temporarily(SQUARES):
        return out, prepared(_tree, out)


@pytest.fixture
def out(made, tmp_path):
    """A copy of it for each test."""
    return shutil.copytree(made[0], tmp_path / "out")


def prepared(source, out, compression="c23", splits=None, **changes):
    return driver.prepare(
        lambda problems: ffpp.read(source, compression, splits, problems),
        out,
        **{"options": OPTIONS, **changes},
    )


def files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*.png"))}


def read_report(out: Path) -> dict:
    return json.loads((out / "FFPP" / "prepare-report.json").read_text())


def test_a_tree_becomes_environments_of_crops(made):
    out, report = made
    root = out / "FFPP"
    folders = sorted(path.relative_to(root).as_posix() for path in root.glob("*/*/*"))
    assert folders == [
        "DF/0_real/000",
        "DF/0_real/003",
        "DF/1_fake/000_003",
        "DF/1_fake/003_000",
        "F2F/0_real/000",
        "F2F/0_real/003",
        "F2F/1_fake/000_003",
        "NT/0_real/000",
        "NT/0_real/003",
        "NT/1_fake/003_000",
    ]
    # 12 frames, 4 of them: floor(11 i / 3)
    assert sorted(os.listdir(root / "DF/1_fake/000_003")) == ["0000.png", "0003.png", "0007.png", "0011.png"]
    assert sorted(os.listdir(root / "NT/0_real/003")) == [
        "0003.png",
        "0007.png",
        "0011.png",
    ]  # no square in 0
    assert (report.n_prepared, report.n_crops) == (6, 5 * 4 + 3)
    assert os.listdir(out) == ["FFPP"]  # nothing left of the staging


def test_a_crop_shows_the_face_of_its_own_frame_and_reals_of_all_environments_are_the_same_files(made):
    for index in (0, 3, 7, 11):
        crop = np.asarray(Image.open(made[0] / f"FFPP/DF/1_fake/000_003/{index:04d}.png").convert("L"), float)
        assert crop.shape == (32, 32)
        # The square of 20 in a window of 30 covers two thirds of the crop, about pixels 5.3 to 26.7.
        assert crop[8:24, 8:24].mean() == pytest.approx(level(index), abs=3)
        assert max(crop[:4].mean(), crop[-4:].mean(), crop[:, :4].mean(), crop[:, -4:].mean()) < 60
    stats = [(made[0] / f"FFPP/{env}/0_real/000/0000.png").stat() for env in ("DF", "F2F", "NT")]
    assert len({stat.st_ino for stat in stats}) == 1
    assert stats[0].st_nlink == 3


def write_lists(folder, val):
    folder.mkdir()
    for name, pairs in (("train", [["003", "000"]]), ("val", val), ("test", [["006", "007"]])):
        (folder / f"{name}.json").write_text(json.dumps(pairs))
    return folder


def test_the_manifest_says_who_is_in_a_frame_and_where_it_belongs(source, tmp_path):
    prepared(source, tmp_path, splits=write_lists(tmp_path / "lists", [["004", "005"]]))
    rows = manifest.read(tmp_path / "FFPP")
    assert len(rows) == 3 * (4 + 3) + 4 * 4  # the reals in three environments, and four fakes
    assert set(rows["path"]) == set(files(tmp_path / "FFPP"))
    assert not rows.duplicated("path").any()
    assert set(rows["split"]) == {"train"}
    assert rows.set_index("path").loc["DF/1_fake/003_000/0007.png"].to_dict() == {
        "dataset": "FFPP",
        "env": "DF",
        "method": "Deepfakes",
        "compression": "c23",
        "label": 1,
        "video": "003_000",
        "recording": "003",
        "identities": "000+003",
        "split": "train",
        "frame": 7,
    }
    real = rows.set_index("path").loc["NT/0_real/003/0011.png"]
    assert real[["env", "method", "label", "recording", "identities", "frame"]].tolist() == [
        *("NT", "real", 0, "003", "003", 11)
    ]


def test_the_report_counts_by_class_and_official_split(source, tmp_path):
    (real_folder(source) / "004.mp4").write_bytes(b"no video")
    write_video(real_folder(source) / "077.mp4", 2)  # in no list
    lists = write_lists(tmp_path / "lists", [["004", "005"], ["008", "009"]])
    prepared(source, tmp_path, splits=lists)
    rows = {
        (row["name"], row["split"]): (row["expected"], row["found"], row["prepared"])
        for row in read_report(tmp_path)["by_split"]
    }
    assert rows["real", "train"] == (2, 2, 2)
    assert rows["real", "val"] == (4, 1, 0)
    assert rows["real", "test"] == (2, 0, 0)
    assert rows["real", ""] == (None, 1, 1)
    assert rows["Deepfakes", "train"] == (2, 2, 2)
    assert rows["Face2Face", "train"] == (2, 1, 1)
    assert len(rows) == 5 * 3 + 1


def test_jpg_is_smaller_and_is_a_dataset_like_any_other(source, tmp_path):
    options = CropOptions(n_frames=4, size=32, margin=1.5, detector="squares", image_format="jpg")
    prepared(source, tmp_path, options=options)
    rows = manifest.read(tmp_path / "FFPP")
    assert len(rows) == 3 * (4 + 3) + 4 * 4
    assert set(rows["path"].str.rsplit(".").str[-1]) == {"jpg"}
    for path in rows["path"]:
        with Image.open(tmp_path / "FFPP" / path) as image:
            assert (image.format, image.size) == ("JPEG", (32, 32))
    assert prepared(source, tmp_path, options=options).n_resumed == 6
    with pytest.raises(RogaError, match=r"image_format was 'jpg', now 'png'"):
        prepared(source, tmp_path)


def test_without_hard_links_the_reals_are_copied_and_the_report_says_so(source, made, tmp_path, monkeypatch):
    folder, linked = made

    def refuse(path, target):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(driver.os, "link", refuse)
    copied = prepared(source, tmp_path / "copied")
    assert files(tmp_path / "copied") == files(folder)
    assert "no hard links" in copied.summary()
    assert "no hard links" not in linked.summary()


def test_everything_that_is_dropped_is_reported_with_its_reason(source, tmp_path):
    reals = real_folder(source)
    (reals / "010.mp4").touch()
    (reals / "011.mp4").write_bytes(b"hello")
    (reals / "012.mp4").symlink_to(tmp_path / "nowhere.mp4")
    whole = write_video(tmp_path / "whole.mp4", 20).read_bytes()
    (reals / "013.mp4").write_bytes(whole[: int(len(whole) * 0.3)])
    (reals / "014.mp4").write_bytes(whole[: int(len(whole) * 0.7)])
    write_video(reals / "015.mp4", 6, no_face=tuple(range(6)))
    report = prepared(source, tmp_path)
    written = read_report(tmp_path)
    assert {item["video"]: item["reason"] for item in written["dropped_videos"]} == {
        "real/010": "empty",
        "real/011": "unreadable",
        "real/012": "missing",
        "real/013": "truncated",
        "real/015": "no_face",
    }
    assert written["dropped_frames"] == [{"video": "real/003", "reason": "no_face", "frames": [0]}]
    (short,) = written["short_videos"]
    assert (short["video"], short["frames_announced"]) == ("real/014", 20)
    last = max(os.listdir(tmp_path / "FFPP/DF/0_real/014"))
    assert last == f"{short['frames_decoded'] - 1:04d}.png"  # evenly spaced up to what decodes
    assert written["classes"][0] == {"name": "real", "expected": 1000, "found": 8, "prepared": 3, "crops": 11}
    assert len(written["missing_videos"]["real"]) == 1000 - 8
    assert written["missing_videos"]["FaceSwap"] == ["000_003", "003_000"]
    text = report.summary()
    assert "dropped, the file has zero bytes: 1 video (real/010)" in text
    assert "dropped, no face: 1 frame of 1 video (real/003)" in text
    assert "not in the source: 992 real videos (001, 002, 004, 005, 006, …)" in text
    assert "environment FS has no fakes" in text
    assert text.count("no split lists") == 1


@pytest.mark.parametrize("claimed", [5, 11, 23])
def test_a_wrong_count_of_frames_does_not_move_the_last_frame(source, tmp_path, monkeypatch, claimed):
    monkeypatch.setattr(video, "frame_counts", lambda path: (12, claimed))
    prepared(source, tmp_path)
    names = sorted(os.listdir(tmp_path / "FFPP/F2F/1_fake/000_003"))
    assert names == ["0000.png", "0003.png", "0007.png", "0011.png"]


def test_worker_processes_make_the_same_files(source, made, tmp_path):
    prepared(source, tmp_path, n_workers=2)
    assert files(tmp_path / "FFPP") == files(made[0] / "FFPP")
    assert manifest.read(tmp_path / "FFPP").equals(manifest.read(made[0] / "FFPP"))


@pytest.mark.parametrize("after", [1, 6, 17])
def test_an_interrupted_run_is_no_dataset_and_continues(source, made, tmp_path, monkeypatch, after):
    detect = SquareDetector.detect

    def interrupted(self, rgb):
        if SquareDetector.n_calls >= after:
            raise KeyboardInterrupt
        return detect(self, rgb)

    with monkeypatch.context() as patch:
        patch.setattr(SquareDetector, "detect", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepared(source, tmp_path / "out")
    with pytest.raises(RogaError, match="no manifest"):
        manifest.read(tmp_path / "out/FFPP")
    assert os.listdir(tmp_path / "out") == ["FFPP"]
    for folder in (tmp_path / "out/FFPP").glob("*/*/*"):
        assert len(os.listdir(folder)) in (3, 4)  # whole or absent
    SquareDetector.n_calls = 0
    prepared(source, tmp_path / "out")
    assert SquareDetector.n_calls == 24 - after // 4 * 4  # the video that was begun is done again
    assert files(tmp_path / "out") == files(made[0])
    assert manifest.read(tmp_path / "out/FFPP").equals(manifest.read(made[0] / "FFPP"))
    assert os.listdir(tmp_path / "out") == ["FFPP"]


@pytest.mark.parametrize(
    "damage", [lambda whole: whole[:-20], lambda whole: whole[:-20] + b"\xff\xfe\n"], ids=["cut", "no text"]
)
def test_a_damaged_line_of_the_journal_costs_one_video(source, out, damage):
    journal = out / "FFPP/prepare-journal.jsonl"
    journal.write_bytes(damage(journal.read_bytes()))
    report = prepared(source, out)
    assert report.n_resumed == 5
    assert report.n_prepared == 6
    assert prepared(source, out).n_resumed == 6


def test_a_file_that_was_replaced_and_crops_that_were_lost_are_made_again(source, out):
    real = real_folder(source) / "000.mp4"
    real.unlink()
    write_video(real, 8)
    (out / "FFPP/F2F/1_fake/000_003/0003.png").unlink()
    report = prepared(source, out)
    assert report.n_resumed == 4
    for env in ("DF", "F2F", "NT"):
        names = sorted(os.listdir(out / f"FFPP/{env}/0_real/000"))
        assert names == ["0000.png", "0002.png", "0004.png", "0007.png"]
    assert (out / "FFPP/F2F/1_fake/000_003/0003.png").is_file()


def test_a_method_that_comes_later_gets_the_reals_too(source, made, tmp_path):
    only = tmp_path / "first"
    for path in (real_folder(source), fake_folder(source, "NeuralTextures").parent):
        target = only / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(path)
    prepared(only, tmp_path / "out")
    assert sorted(os.listdir(tmp_path / "out/FFPP/NT")) == ["0_real", "1_fake"]
    SquareDetector.n_calls = 0
    prepared(source, tmp_path / "out")
    assert SquareDetector.n_calls == 3 * 4  # the three fakes that are new
    assert files(tmp_path / "out") == files(made[0])


def test_a_second_run_decodes_nothing_and_keeps_videos_that_are_no_longer_in_the_source(source, out):
    before = manifest.read(out / "FFPP")
    report = prepared(source, out)
    assert SquareDetector.n_calls == 0
    assert report.n_resumed == 6
    assert manifest.read(out / "FFPP").equals(before)
    for name in ("000_003", "003_000"):
        (fake_folder(source, "Deepfakes") / f"{name}.mp4").unlink()
    report = prepared(source, out)
    assert "2 videos prepared earlier are not in this source" in report.summary()
    assert manifest.read(out / "FFPP").equals(before)


def test_other_options_are_refused_and_named_unless_told_to_start_over(source, out):
    before = files(out)
    other = CropOptions(n_frames=2, size=16, margin=1.5, detector="squares")
    with pytest.raises(RogaError, match=r"n_frames was 4, now 2; size was 32, now 16.*--overwrite"):
        prepared(source, out, options=other)
    assert files(out) == before
    assert len(manifest.read(out / "FFPP")) == len(before)
    prepared(source, out, options=other, overwrite=True)
    assert set(manifest.read(out / "FFPP")["frame"]) == {0, 11}
    assert set(manifest.read(out / "FFPP")["path"]) == set(files(out / "FFPP"))


def test_a_folder_that_is_not_ours_is_left_alone(source, tmp_path):
    mine = tmp_path / "FFPP" / "DF" / "thesis.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("precious")
    for overwrite in (False, True):
        with pytest.raises(RogaError, match="was not made by 'prepare'"):
            prepared(source, tmp_path, overwrite=overwrite)
        assert mine.read_text() == "precious"


@pytest.mark.parametrize(("compression", "name"), [("c40", "FFPP_c40"), ("raw", "FFPP_raw")])
def test_each_compression_has_its_own_dataset(tmp_path, compression, name):
    write_video(real_folder(tmp_path, compression) / "000.mp4", 2)
    write_video(fake_folder(tmp_path, "FaceSwap", compression) / "000_003.mp4", 2)
    prepared(tmp_path, tmp_path, compression=compression)
    rows = manifest.read(tmp_path / name)
    assert (set(rows["dataset"]), set(rows["compression"])) == ({name}, {compression})


def test_nothing_prepared_is_an_error_with_the_reasons(tmp_path):
    write_video(real_folder(tmp_path / "in") / "000.mp4", 3, no_face=(0, 1, 2))
    with pytest.raises(
        RogaError, match=r"nothing was prepared(.|\n)*no face in any of the chosen frames: 1 video"
    ):
        prepared(tmp_path / "in", tmp_path / "out")
    assert read_report(tmp_path / "out")["dropped_videos"][0]["reason"] == "no_face"
    assert not (tmp_path / "out/FFPP/manifest.parquet").exists()


def test_a_full_disk_stops_the_run_with_one_sentence_and_keeps_what_is_finished(
    source, tmp_path, monkeypatch
):
    write, written = Path.write_bytes, []

    def full(path, data):
        written.append(path)
        if len(written) > 5:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(RogaError, match=r"No space left on device: .*run the same command again"):
            prepared(source, tmp_path)
    assert not (tmp_path / "FFPP/manifest.parquet").exists()
    assert prepared(source, tmp_path).n_resumed == 1


def test_all_faults_of_the_user_come_at_once(tmp_path):
    with pytest.raises(RogaError) as caught:
        prepared(
            tmp_path / "nowhere",
            __file__,
            options=CropOptions(n_frames=0, size=4, margin=float("nan"), detector="yunnet"),
            splits=tmp_path / "no lists",
            n_workers=0,
        )
    text = str(caught.value)
    assert text.startswith("8 problems:")
    for part in (
        "--n_frames must be at least 1; got 0",
        "--size must be a side in pixels from 8 to 4096; got 4",
        "--margin must be from 1",
        "unknown detector 'yunnet' (did you mean 'yunet'?)",
        "--n_workers must be at least 1; got 0",
        "is a file; it must be a folder",
        "nowhere' is not a folder",
        "lack train.json, val.json, test.json",
    ):
        assert part in text


def test_without_the_video_packages_the_error_names_the_extra(source, tmp_path, monkeypatch):
    monkeypatch.setattr(pool.importlib.util, "find_spec", lambda name: None if name == "av" else object())
    with pytest.raises(
        MissingExtra, match=r"needs the package 'av': pip install 'roga-domainbed\[prepare\]'"
    ):
        prepared(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_prepares_and_prints_what_it_did(source, tmp_path, capsys):
    argv = f"prepare ffpp --data_dir {tmp_path} --n_frames 4 --size 32 --margin 1.5 --detector squares --n_workers 1"
    assert main([*argv.split(), "--source", str(source)]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith(f"FFPP: 23 crops of 6 videos in {tmp_path / 'FFPP'}\n")
    assert "6/6" in captured.err  # progress, with an estimate while it runs
    buffer = io.BytesIO(files(tmp_path / "FFPP")["DF/1_fake/000_003/0000.png"])
    assert Image.open(buffer).size == (32, 32)
