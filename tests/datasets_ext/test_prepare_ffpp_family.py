"""FaceShifter and DeepFakeDetection, which come in FaceForensics++'s download, in miniature."""

import functools
import json

import numpy as np
import pytest
from PIL import Image
from prepare_videos import counts, fake_folder, level, real_folder, write_mask, write_video

from datasets_ext import manifest
from datasets_ext.prepare import dfd, driver, ffpp, ffpp_layout
from datasets_ext.prepare.options import CropOptions
from roga_domainbed.errors import RogaError

pytestmark = pytest.mark.usefixtures("squares")
OPTIONS = CropOptions(n_frames=4, size=32, margin=1.5, detector="squares")
ACTORS = "original_sequences/actors/c23/videos"
FAKE = "01_02__walk_down_hall__ABCD1234"


def prepared_dfd(source, out, compression="c23"):
    return driver.prepare(lambda problems: dfd.read(source, compression, problems), out, OPTIONS)


def prepared_faceshifter(source, out, splits=None):
    return driver.prepare(
        lambda problems: ffpp.read(source, "c23", splits, problems, ffpp_layout.FACESHIFTER), out, OPTIONS
    )


def masks(source):
    return source / "manipulated_sequences/DeepFakeDetection/masks/videos"


def brightness(path):
    return np.asarray(Image.open(path).convert("L"), float)[8:24, 8:24].mean()


def test_faceshifter_has_the_reals_and_the_split_of_ffpp(tmp_path):
    source = tmp_path / "in"
    for stem in ("000", "003", "010"):
        write_video(real_folder(source) / f"{stem}.mp4", 4)
    write_video(fake_folder(source, "FaceShifter") / "000_003.mp4", 4)
    write_video(fake_folder(source, "Deepfakes") / "003_000.mp4", 4)  # another part of the download
    for name, pair in (("train", ["000", "003"]), ("val", ["004", "005"]), ("test", ["010", "011"])):
        (source / f"{name}.json").write_text(json.dumps([pair]))
    report = prepared_faceshifter(source, tmp_path)
    rows = manifest.read(tmp_path / "FaceShifter").drop_duplicates("video").set_index("video")
    assert set(rows["env"]) == {"FaceShifter"}
    assert rows["split"].to_dict() == {"000": "train", "003": "train", "010": "test", "000_003": "train"}
    assert rows.loc["000_003", ["recording", "identities", "label", "method"]].tolist() == [
        *("000", "000+003", 1, "FaceShifter")
    ]
    assert counts(report) == {"real": (1000, 3, 3), "FaceShifter": (1000, 1, 1)}
    assert report.missing["FaceShifter"] == ["003_000", "004_005", "005_004", "010_011", "011_010"]


def test_ffpp_says_which_commands_read_the_rest_of_the_download(tmp_path):
    write_video(real_folder(tmp_path / "in") / "000.mp4", 2)
    for method in ("FaceShifter", "DeepFakeDetection", "Mine"):
        write_video(fake_folder(tmp_path / "in", method) / "000_003.mp4", 2)
    read = functools.partial(ffpp.read, tmp_path / "in", "c23", None)
    summary = driver.prepare(read, tmp_path, OPTIONS).summary()
    assert (
        "left out: DeepFakeDetection (see 'prepare dfd'), FaceShifter (see 'prepare faceshifter'), Mine"
        in summary
    )


def small_dfd(source):
    """A real, a fake with a bystander, one whose mask is wanting, and names that are none."""
    write_video(source / ACTORS / "01__walk_down_hall.mp4", 12)
    write_video(source / ACTORS / "03__podium__speech.mp4", 12)  # only the first __ ends the actor
    write_video(source / ACTORS / "walk.mp4", 2)
    write_video(fake_folder(source, "DeepFakeDetection") / f"{FAKE}.mp4", 12, bystander=True)
    write_video(fake_folder(source, "DeepFakeDetection") / "04_03__kitchen_pan__WXYZ9876.mp4", 12)
    write_video(fake_folder(source, "DeepFakeDetection") / "04_03__kitchen_pan.mp4", 2)
    return source


def test_dfd_names_say_who_is_in_it_and_where(tmp_path):
    report = prepared_dfd(small_dfd(tmp_path / "in"), tmp_path)
    rows = manifest.read(tmp_path / "DFD").drop_duplicates("video").set_index("video")
    columns = ["label", "recording", "identities", "split", "method", "env", "compression"]
    assert {video: tuple(values) for video, *values in rows[columns].itertuples()} == {
        "01__walk_down_hall": (0, "01__walk_down_hall", "01", "", "real", "DFD", "c23"),
        "03__podium__speech": (0, "03__podium__speech", "03", "", "real", "DFD", "c23"),
        FAKE: (1, "01__walk_down_hall", "01+02", "", "DeepFakeDetection", "DFD", "c23"),
        "04_03__kitchen_pan__WXYZ9876": (
            1,
            "04__kitchen_pan",
            "03+04",
            "",
            "DeepFakeDetection",
            "DFD",
            "c23",
        ),
    }
    assert counts(report) == {"real": (363, 2, 2), "DeepFakeDetection": (3068, 2, 2)}
    assert report.missing == {"real": ["04__kitchen_pan"]}
    summary = report.summary()
    assert "2 fakes have no mask video: their largest face is taken" in summary
    assert summary.count("1 files whose name is not that of a") == 2


@pytest.mark.parametrize("marked", ["face", "bystander"])
@pytest.mark.parametrize("scale", [1, 2])
def test_of_two_faces_the_one_that_the_mask_marks_is_cut_out(tmp_path, marked, scale):
    source = small_dfd(tmp_path / "in")
    write_mask(masks(source) / f"{FAKE}.mp4", [marked] * 12, scale)
    prepared_dfd(source, tmp_path)
    for index in (0, 3, 7, 11):
        found = brightness(tmp_path / f"DFD/DFD/1_fake/{FAKE}/{index:04d}.png")
        assert found == pytest.approx(level(index) if marked == "face" else 250, abs=6)


def test_frames_without_a_marked_face_or_past_the_end_of_the_mask_are_dropped(tmp_path):
    source = small_dfd(tmp_path / "in")
    # 12 frames, of which 0, 3, 7 and 11 are chosen: marked, nothing, elsewhere; 11 is past the end
    marks = ["bystander", *[None] * 6, "corner"]
    write_mask(masks(source) / f"{FAKE}.mp4", marks)
    write_mask(masks(source) / "04_03__kitchen_pan__WXYZ9876.mp4", ["face"] * 2)  # one person: no doubt
    report = prepared_dfd(source, tmp_path)
    assert [(outcome.key, reason, frames) for outcome, reason, frames in report.dropped_frames()] == [
        (f"DeepFakeDetection/{FAKE}", "no_masked_face", [3, 7]),
        (f"DeepFakeDetection/{FAKE}", "mask_ended", [11]),
    ]
    rows = manifest.read(tmp_path / "DFD")
    assert rows.loc[rows["video"] == FAKE, "frame"].tolist() == [0]
    assert rows.loc[rows["video"].str.startswith("04"), "frame"].tolist() == [0, 3, 7, 11]


def test_a_mask_that_comes_later_cuts_its_video_anew_and_a_damaged_one_counts_as_none(tmp_path):
    source = small_dfd(tmp_path / "in")
    prepared_dfd(source, tmp_path)
    before = brightness(tmp_path / f"DFD/DFD/1_fake/{FAKE}/0000.png")
    masks(source).mkdir(parents=True)
    (masks(source) / f"{FAKE}.mp4").write_bytes(b"no video")
    prepared_dfd(source, tmp_path)
    assert brightness(tmp_path / f"DFD/DFD/1_fake/{FAKE}/0000.png") == before
    (masks(source) / f"{FAKE}.mp4").unlink()
    write_mask(masks(source) / f"{FAKE}.mp4", ["bystander"] * 12)
    report = prepared_dfd(source, tmp_path)
    assert report.n_resumed == 3
    assert brightness(tmp_path / f"DFD/DFD/1_fake/{FAKE}/0000.png") > before + 100


def test_dfd_elsewhere_is_one_error(tmp_path):
    write_video(real_folder(tmp_path / "in") / "000.mp4", 2)
    with pytest.raises(RogaError, match="neither original_sequences/actors/ nor manipulated_sequences/"):
        prepared_dfd(tmp_path / "in", tmp_path / "out")
    write_video(tmp_path / "in/original_sequences/actors/c40/01__walk.mp4", 2)
    with pytest.raises(
        RogaError, match=r"no c23 videos .* There is c40 \(1 real\): choose with --compression"
    ):
        prepared_dfd(tmp_path / "in", tmp_path / "out")
    assert prepared_dfd(tmp_path / "in", tmp_path / "out", "c40").dataset == "DFD_c40"
