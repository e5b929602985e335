"""A list of images instead of videos: cropped, or taken as they are."""

import csv

import numpy as np
import pytest
from PIL import Image
from prepare_videos import SIDE, level, write_video

from datasets_ext import manifest
from datasets_ext.prepare import csv_list, driver
from datasets_ext.prepare.link import LinkOptions
from datasets_ext.prepare.options import CropOptions
from roga_domainbed.errors import RogaError

pytestmark = pytest.mark.usefixtures("squares")
OPTIONS = CropOptions(n_frames=3, size=32, margin=1.5, detector="squares")
COLUMNS = ("path", "env", "label", "video")


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "images of 'a user' ü"
    folder.mkdir()
    return folder


def picture(path, index=0, face=True):
    image = np.zeros((64, 96, 3), np.uint8)
    if face:
        image[20 : 20 + SIDE, 40 : 40 + SIDE] = level(index)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def listed(folder, *rows, columns=COLUMNS):
    with open(folder / "list.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return folder / "list.csv"


def prepared(path, out, options=OPTIONS):
    only_images = isinstance(options, LinkOptions)
    return driver.prepare(lambda problems: csv_list.read(path, "Mine", problems, only_images), out, options)


def frames(out):
    rows = manifest.read(out / "Mine")
    return {key: sorted(group["frame"]) for key, group in rows.groupby(["label", "video"])}


def test_the_images_of_a_video_are_its_frames(source, tmp_path):
    for index in (0, 3, 7, 11, 30):
        picture(source / f"a/shot-{index}.png", min(index, 11))
    picture(source / "b.jpg", 2)
    picture(source / "c.png", face=False)
    write_video(source / "d.mp4", 4)
    rows = [(f"a\\shot-{index}.png", "Lab", "real", "anna") for index in (30, 11, 7, 3, 0)]
    rows += [("b.jpg", "Lab", "fake", "ben"), ("c.png", "Lab", "fake", "cleo"), ("d.mp4", "Lab", "1", "dora")]
    report = prepared(listed(source, *rows), tmp_path)
    assert frames(tmp_path) == {(0, "anna"): [0, 7, 30], (1, "ben"): [0], (1, "dora"): [0, 1, 3]}
    for index in (0, 7):
        crop = np.asarray(Image.open(tmp_path / f"Mine/Lab/0_real/anna/{index:04d}.png").convert("L"), float)
        assert crop.shape == (32, 32)
        assert crop[8:24, 8:24].mean() == pytest.approx(level(index), abs=3)
    assert {outcome.key: outcome.reason for outcome in report.outcomes if outcome.reason} == {
        "Lab fake/cleo": "no_face"
    }
    assert {count.name: (count.found, count.prepared) for count in report.classes} == {
        "Lab real": (1, 1),
        "Lab fake": (3, 2),
    }


@pytest.mark.parametrize(
    ("names", "column", "expected"),
    [
        (("x9.png", "x10.png", "x8.png"), None, [8, 9, 10]),
        (("1/face.png", "2/face.png", "3/face.png"), None, [0, 1, 2]),  # no number in the name: by place
        (("a_5.png", "b_5.png", "c_6.png"), None, [0, 1, 2]),  # two have the same
        (("t20261125084901.png", "t20261125084902.png"), None, [125084901, 125084902]),
        (("x9.png", "x10.png", "x8.png"), ("20", "30", "40"), [20, 30, 40]),
    ],
)
def test_the_index_of_a_frame(source, tmp_path, names, column, expected):
    for name in names:
        picture(source / name)
    rows = [(name, "Lab", "0", "v") for name in names]
    columns = COLUMNS
    if column:
        rows, columns = [(*row, frame) for row, frame in zip(rows, column, strict=True)], (*COLUMNS, "frame")
    prepared(listed(source, *rows, columns=columns), tmp_path)
    assert frames(tmp_path) == {(0, "v"): expected}


def test_damaged_and_missing_images_are_dropped_with_their_reason(source, tmp_path):
    for index in range(4):
        picture(source / f"{index}.png")
    whole = (source / "1.png").read_bytes()
    (source / "1.png").write_bytes(whole[: len(whole) // 2])
    (source / "2.png").write_bytes(b"")
    (source / "3.png").unlink()
    (source / "4.png").write_text("no image")
    rows = [(f"{index}.png", "Lab", "0", "v") for index in range(4)] + [("4.png", "Lab", "1", "w")]
    report = prepared(listed(source, *rows), tmp_path)
    assert frames(tmp_path) == {(0, "v"): [0]}
    assert [(reason, found) for _, reason, found in report.dropped_frames()] == [
        ("missing", [3]),
        ("empty", [2]),
        ("unreadable", [1]),
    ]
    assert {outcome.key: outcome.reason for outcome in report.outcomes if outcome.reason} == {
        "Lab fake/w": "unreadable"
    }
    with pytest.raises(RogaError, match="nothing was prepared"):
        prepared(listed(source, ("nowhere.png", "Lab", "0", "v")), tmp_path / "nothing")


def test_lines_that_contradict_each_other_are_named(source, tmp_path):
    for name in "abcdef":
        picture(source / f"{name}.png")
    write_video(source / "v.mp4", 3)
    rows = [
        ("a.png", "Lab", "0", "one", "r1", ""),
        ("b.png", "Lab", "0", "one", "r2", ""),  # another recording
        ("a.png", "Lab", "0", "one", "r1", ""),  # again
        ("v.mp4", "Lab", "0", "one", "r1", ""),  # a video file among images
        ("c.png", "Lab", "0", "two", "", ""),
        ("c.png", "Lab", "1", "two", "", ""),  # real and fake: the file goes, from both
        ("d.png", "Lab", "1", "two", "", ""),
        ("e.png", "Lab", "1", "three", "", "-1"),
        ("f.png", "Lab", "1", "three", "", "12345678901"),
    ]
    path = listed(source, *rows, columns=(*COLUMNS, "recording", "frame"))
    summary = prepared(path, tmp_path).summary()
    assert frames(tmp_path) == {(0, "one"): [0], (1, "two"): [1]}
    assert "5 lines are wrong, left out: line 3 contradicts earlier lines of Lab real/one" in summary
    assert "1 files are listed as real and as fake, left out: c.png" in summary


def test_crops_made_elsewhere_are_taken_as_they_are(source, tmp_path):
    for index in range(5):
        picture(source / f"{index}.jpg", index)
    write_video(source / "v.mp4", 3)
    rows = [(f"{index}.jpg", "Lab", str(index % 2), f"v{index % 2}") for index in range(5)]
    report = prepared(
        listed(source, *rows, ("v.mp4", "Lab", "0", "v3")), tmp_path, LinkOptions(32, "hardlink")
    )
    assert frames(tmp_path) == {(0, "v0"): [0, 2, 4], (1, "v1"): [1, 3]}
    made = tmp_path / "Mine/Lab/0_real/v0/0002.jpg"
    assert made.stat().st_ino == (source / "2.jpg").stat().st_ino
    assert "is not an image; --link takes images only" in report.summary()
    assert prepared(source / "list.csv", tmp_path, LinkOptions(32, "hardlink")).n_resumed == 2


def test_images_that_come_or_go_make_their_video_anew(source, tmp_path):
    for index in range(3):
        picture(source / f"{index}.png", index)
    rows = [(f"{index}.png", "Lab", "0", "v") for index in range(3)] + [("2.png", "Lab", "0", "w")]
    prepared(listed(source, *rows[:2], rows[3]), tmp_path)
    report = prepared(listed(source, *rows), tmp_path)
    assert report.n_resumed == 1
    assert frames(tmp_path) == {(0, "v"): [0, 1, 2], (0, "w"): [2]}
    prepared(listed(source, *rows[1:]), tmp_path)
    assert frames(tmp_path) == {(0, "v"): [1, 2], (0, "w"): [2]}
