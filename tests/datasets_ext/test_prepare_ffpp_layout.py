import json
import subprocess
import sys
from pathlib import Path

import pytest

from datasets_ext.prepare import ffpp_layout as layout
from datasets_ext.prepare import ffpp_splits as splits
from roga_domainbed.errors import Problems, RogaError


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


def found(source, compression="c23"):
    problems = Problems()
    value = layout.find(source, layout.FFPP, compression, problems)
    problems.check()
    return value


def listed(source, folder=None):
    problems = Problems()
    value = splits.find(source, folder, problems)
    problems.check()
    return value


def write_lists(folder, train=(("071", "054"),), val=(("720", "672"),), test=(("953", "974"),)):
    folder.mkdir(parents=True, exist_ok=True)
    for name, pairs in (("train", train), ("val", val), ("test", test)):
        (folder / f"{name}.json").write_text(json.dumps([list(pair) for pair in pairs]))
    return folder


def test_the_layout_needs_neither_torch_nor_video_packages():
    code = (
        "import sys, datasets_ext.prepare.ffpp_layout, datasets_ext.prepare.ffpp, roga_domainbed.cli.prepare; "
        "assert not {'torch', 'cv2', 'av'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_videos_are_found_with_and_without_the_level_videos_and_the_lossless_ones_in_raw_or_c0(tmp_path):
    touch(tmp_path / "original_sequences/youtube/c23/videos/004.mp4")
    touch(tmp_path / "manipulated_sequences/Deepfakes/c23/004_982.mp4")
    videos, _ = found(tmp_path)
    assert list(videos["real"]) == ["004"]
    assert list(videos["Deepfakes"]) == ["004_982"]
    assert videos["NeuralTextures"] == {}
    for folder in ("raw", "c0"):
        touch(tmp_path / folder / f"original_sequences/youtube/{folder}/videos/004.mp4")
        assert list(found(tmp_path / folder, "raw")[0]["real"]) == ["004"]


def test_files_that_are_no_videos_of_the_class_are_left_out_and_named(tmp_path):
    folder = tmp_path / "original_sequences/youtube/c23/videos"
    for name in ("004.mp4", "._004.mp4", "004_982.mp4", "readme.txt", "4.mp4"):
        touch(folder / name)
    touch(tmp_path / "manipulated_sequences/FaceShifter/c23/videos/004_982.mp4")
    videos, skipped = found(tmp_path)
    assert list(videos["real"]) == ["004"]
    notes = "\n".join(skipped)
    assert "2 files whose name is not that of a real video, left out: " in notes
    assert f"{folder.relative_to(tmp_path)}/004_982.mp4, {folder.relative_to(tmp_path)}/4.mp4" in notes
    assert "left out: FaceShifter" in notes
    assert "._004" not in notes


def test_another_compression_is_answered_with_those_that_exist(tmp_path):
    touch(tmp_path / "original_sequences/youtube/c23/videos/004.mp4")
    touch(tmp_path / "manipulated_sequences/Deepfakes/c0/videos/004_982.mp4")
    with pytest.raises(RogaError, match=r"no c40 videos.*c23 \(1 real\), raw \(1 Deepfakes\).*--compression"):
        found(tmp_path, "c40")


def test_a_folder_that_is_something_else_is_refused_and_one_too_high_is_answered_with_the_right_one(tmp_path):
    with pytest.raises(RogaError, match=r"--source .* is not a folder"):
        found(tmp_path / "nowhere")
    with pytest.raises(RogaError, match=r"neither original_sequences/youtube/ nor manipulated_sequences/"):
        found(tmp_path)
    touch(tmp_path / "FaceForensics++/original_sequences/youtube/c23/videos/004.mp4")
    with pytest.raises(RogaError, match=r"did you mean .*FaceForensics\+\+'\?"):
        found(tmp_path)


@pytest.mark.parametrize("place", ["", "splits", "dataset/splits"])
def test_split_lists_are_found_where_they_usually_lie(tmp_path, place):
    write_lists(tmp_path / place)
    assert listed(tmp_path).folder == tmp_path / place


def test_a_pair_stands_for_two_reals_and_two_fakes_of_every_method(tmp_path):
    value = listed(tmp_path, write_lists(tmp_path / "lists"))
    assert [value.of(stem) for stem in ("071", "054", "071_054", "054_071")] == ["train"] * 4
    assert value.of("974_953") == "test"
    assert value.of("071_720") == ""  # both ids are listed, the pair is not
    assert value.of("000") == ""
    assert value.fakes() == ["054_071", "071_054", "672_720", "720_672", "953_974", "974_953"]
    assert len(value.notes) == 3
    assert "train.json has 1 pairs; the official list has 360" in value.notes[0]


def test_no_lists_is_no_fault_unless_they_were_promised_and_two_of_three_are_one(tmp_path):
    assert listed(tmp_path).folder is None
    with pytest.raises(RogaError, match=r"lack train\.json, val\.json, test\.json"):
        listed(tmp_path, tmp_path)
    write_lists(tmp_path / "splits")
    (tmp_path / "splits" / "val.json").unlink()
    with pytest.raises(RogaError, match=r"lack val\.json"):
        listed(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[["071"', "cannot be used: not valid JSON"),
        ("[" * 100 + "]" * 100, "nested more than 64 deep"),
        ("[" + "9" * 5000 + "]", "a whole number of more than 64 bits"),
        (r'[["\ud800", "054"]]', "text that is not Unicode"),
        ('[["071", "054"], 7]', r"found 7 in place 2"),
        ('{"071": "054"}', r"must be a list of pairs"),
        ('[["071", 54]]', r'found \["071", 54\]'),
        ('[["71", "54"]]', r'found \["71", "54"\]'),
        ('[["071", "071"]]', r'found \["071", "071"\]'),
        ("[]", "found an empty list"),
        ("null", "must be a list of pairs"),
        ('[["001", "953"]]', r"id 953 is in val\.json already"),
    ],
)
def test_damaged_lists_are_refused_with_the_place(tmp_path, text, said):
    folder = write_lists(tmp_path / "lists", val=(("953", "672"),), test=(("001", "002"),))
    (folder / "test.json").write_text(text)
    with pytest.raises(RogaError, match=r"test\.json.*" + said):
        listed(tmp_path, folder)
