"""The folder of a prepared dataset: one run at a time, nothing of the user's removed, and a run can always go on."""

import errno
import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from prepare_videos import SQUARES, real_folder, small_tree, write_video

from datasets_ext import manifest
from datasets_ext.prepare import driver, ffpp, folder, journal
from datasets_ext.prepare.detectors import DETECTORS, DetectorInfo  # noqa: F401 - for the children
from datasets_ext.prepare.options import CropOptions
from roga_domainbed.errors import RogaError

pytestmark = pytest.mark.usefixtures("squares")
OPTIONS = CropOptions(n_frames=4, size=32, margin=1.5, detector="squares")
JOURNAL = f"FFPP/{journal.FILE}"


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    source = small_tree(tmp_path_factory.mktemp("originals"))
    out = tmp_path_factory.mktemp("made")
    with DETECTORS.temporarily(SQUARES):
        prepared(source, out)
    return source, out


@pytest.fixture
def source(originals, tmp_path):
    return Path(shutil.copytree(originals[0], tmp_path / "source"))


@pytest.fixture
def out(originals, tmp_path):
    return Path(shutil.copytree(originals[1], tmp_path / "out"))


def prepared(source, out, options=OPTIONS, **others):
    return driver.prepare(functools.partial(ffpp.read, source, "c23", None), out, options, **others)


def files(place):
    return {
        path.relative_to(place).as_posix(): path.read_bytes() for path in place.rglob("*") if path.is_file()
    }


def pixels(place):
    return {name: data for name, data in files(place).items() if name.endswith(".png")}


# --- what is not ours ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "DF/notes.txt",
        "DF/0_real/notes.txt",
        "DF/0_real/000/notes.txt",
        "DF/0_real/000/mine.png",
        "DF/0_real/000/0001.png",  # named like a frame, but none that was made
        "F2F/0_real/000/inside/0000.png",
        "NT/0_real/mine/0000.png",
    ],
)
def test_overwrite_removes_nothing_where_a_file_is_not_ours(source, out, name):
    mine = out / "FFPP" / name
    mine.parent.mkdir(parents=True, exist_ok=True)
    mine.write_text("precious")
    before = files(out)
    with pytest.raises(RogaError, match=r"'prepare' did not make") as caught:
        prepared(source, out, overwrite=True)
    assert name in str(caught.value) or os.path.dirname(name) in str(caught.value)
    assert files(out) == before


def test_overwrite_does_not_follow_a_link_out_of_the_folder(source, out, tmp_path):
    elsewhere = Path(shutil.move(out / "FFPP/DF", tmp_path / "elsewhere"))
    (out / "FFPP/DF").symlink_to(elsewhere)
    before = files(elsewhere)
    with pytest.raises(RogaError, match=r"'prepare' did not make.*\(DF"):
        prepared(source, out, overwrite=True)
    assert files(elsewhere) == before


def test_a_file_beside_the_environments_stays(source, out):
    (out / "FFPP/notes.txt").write_text("precious")
    other = CropOptions(n_frames=2, size=16, margin=1.5, detector="squares")
    prepared(source, out, options=other, overwrite=True)
    assert (out / "FFPP/notes.txt").read_text() == "precious"
    assert set(manifest.read(out / "FFPP")["path"]) == set(pixels(out / "FFPP"))


def test_a_video_is_not_made_again_over_a_file_of_the_user(source, out):
    (out / "FFPP/F2F/0_real/000/mine.txt").write_text("precious")
    prepared(source, out)  # the video is finished: nothing is in the way
    (real_folder(source) / "000.mp4").unlink()
    write_video(real_folder(source) / "000.mp4", 8)
    before = files(out)
    with pytest.raises(RogaError, match=r"F2F/0_real/000/mine\.txt"):
        prepared(source, out)
    assert files(out) == before


def test_a_link_that_lost_a_frame_is_not_made_again_over_a_file_of_the_user(source, out):
    (out / "FFPP/F2F/0_real/000/mine.txt").write_text("precious")
    (out / "FFPP/F2F/0_real/000/0000.png").unlink()
    (real_folder(source) / "003.mp4").unlink()  # would be made again
    write_video(real_folder(source) / "003.mp4", 8)
    before = files(out)
    with pytest.raises(RogaError, match=r"F2F/0_real/000/mine\.txt.*nothing was removed"):
        prepared(source, out)
    assert files(out) == before


def test_a_folder_in_which_the_run_before_left_only_its_lock_is_begun(source, tmp_path):
    for name in (folder.LOCK, f"{journal.FILE}.part"):
        (tmp_path / "out/FFPP").mkdir(parents=True, exist_ok=True)
        (tmp_path / "out/FFPP" / name).touch()
    assert prepared(source, tmp_path / "out").n_prepared == 6


# --- two at once -----------------------------------------------------------------------------------------------

CHILD = """
import sys
sys.path.insert(0, {tests!r})
from test_prepare_folder import *
with DETECTORS.temporarily(DetectorInfo("squares", target="prepare_videos:SlowSquareDetector")):
    print(prepared(sys.argv[1], sys.argv[2]).n_resumed)
"""


def test_of_two_at_once_the_second_waits_and_finds_all_done(source, tmp_path, originals):
    command = [sys.executable, "-c", CHILD.format(tests=str(Path(__file__).parent)), source, tmp_path / "out"]
    runs = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in "12"
    ]
    told = [run.communicate(timeout=60) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], told
    assert sorted(int(text) for text, _ in told) == [0, 6]
    assert pixels(tmp_path / "out") == pixels(originals[1])
    assert len(manifest.read(tmp_path / "out/FFPP")) == len(manifest.read(originals[1] / "FFPP"))


# --- a journal that is damaged, or made up ----------------------------------------------------------------------


def lines_of(out):
    return [json.loads(line) for line in (out / JOURNAL).read_text().splitlines()]


def rewrite(out, lines):
    texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    (out / JOURNAL).write_text("\n".join(texts) + "\n")


def changed(entry, **changes):
    video = {**entry["video"], **changes.pop("video", {})}
    return {**entry, "video": video, **changes}


DAMAGE = {
    "no object": lambda entry: [],
    "nested": lambda entry: "[" * 100_000,
    "a number of 5,000 digits": lambda entry: '{"key": ' + "9" * 5000 + "}",
    "other keys": lambda entry: {"key": "x", "folder": "y", "more": 1},
    "key is a number": lambda entry: changed(entry, key=5),
    "written is a number": lambda entry: changed(entry, written=5),
    "written has text": lambda entry: changed(entry, written=["../../x"]),
    "dropped is flat": lambda entry: changed(entry, dropped=[3, "no_face"]),
    "unknown reason": lambda entry: changed(entry, reason="because"),
    "size is text": lambda entry: changed(entry, source_bytes="12"),
    "scores are too few": lambda entry: changed(entry, scores=[1.0]),
    "suffix leads elsewhere": lambda entry: changed(entry, suffix="/../../x.png"),
    "folder leads elsewhere": lambda entry: changed(entry, folder="../../precious"),
    "folder is of another video": lambda entry: changed(entry, folder="DF/0_real/other"),
    "source is a list": lambda entry: changed(entry, video={"source": []}),
    "env is a number": lambda entry: changed(entry, video={"envs": 3}),
    "env leads elsewhere": lambda entry: changed(entry, video={"envs": ["../../precious"]}),
    "name leads elsewhere": lambda entry: changed(entry, video={"name": "../../../../precious"}),
    "label is 2": lambda entry: changed(entry, video={"label": 2}),
    "label is true": lambda entry: changed(entry, video={"label": True}),
    "method is no text": lambda entry: changed(entry, video={"method": "\ud800"}),
    "no video": lambda entry: {name: value for name, value in entry.items() if name != "video"},
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_wrong_line_of_the_journal_costs_its_video_and_is_named(source, out, tmp_path, damage, overwrite):
    precious = tmp_path / "precious/0_real/000/0000.png"
    precious.parent.mkdir(parents=True)
    precious.write_text("precious")
    before = pixels(out)
    lines = lines_of(out)
    place = next(number for number, line in enumerate(lines) if line.get("key") == "real/000")
    rewrite(out, [*lines[:place], damage(lines[place]), *lines[place + 1 :]])
    report = prepared(source, out, overwrite=overwrite)
    assert report.n_resumed == (0 if overwrite else 5)
    told = f"{journal.FILE}: line {place + 1} is damaged; what they were about was prepared again"
    assert (told in report.summary()) == (not overwrite)
    assert pixels(out) == before
    assert precious.read_text() == "precious"


@pytest.mark.parametrize("head", ["", "[]", "{", '{"options": 3}', '{"options": null, "from_list": false}'])
def test_without_its_first_line_the_options_are_unknown_until_overwrite(source, out, head):
    before = pixels(out)
    rewrite(out, [head, *lines_of(out)[1:]])
    with pytest.raises(RogaError, match=r"line 1 is damaged.*--overwrite"):
        prepared(source, out)
    assert pixels(out) == before
    prepared(source, out, overwrite=True)
    assert pixels(out) == before


def test_a_tree_of_version_0_1_0_goes_on_with_the_score_that_it_was_made_with(source, out):
    lines = lines_of(out)
    del lines[0]["options"]["min_score"]
    for line in lines[1:]:
        del line["scores"], line["n_low"]
    rewrite(out, lines)
    assert prepared(source, out).n_resumed == 6
    lines[0]["options"]["detector"] = "yunet"
    rewrite(out, lines)
    options = CropOptions(n_frames=4, size=32, margin=1.5)
    with pytest.raises(RogaError, match=r"options \(min_score was 0\.7, now 0\.8\)"):
        prepared(source, out, options=options)


# --- a full disk -----------------------------------------------------------------------------------------------


@pytest.fixture
def room(monkeypatch):
    """A disk that takes a number of writes, in the order in which 'prepare' makes them."""
    left = [10**9]

    def limited(call):
        def write(*args, **kwargs):
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return call(*args, **kwargs)

        return write

    for owner, name in (
        (Path, "write_bytes"),
        (Path, "write_text"),
        (Path, "mkdir"),
        (pd.DataFrame, "to_parquet"),
        (journal.Journal, "add"),
    ):
        monkeypatch.setattr(owner, name, limited(getattr(owner, name)))
    return left


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_disk_that_is_full_at_any_write_leaves_what_the_same_command_continues(
    source, originals, tmp_path, room, overwrite
):
    command = functools.partial(prepared, source, overwrite=overwrite)
    n_writes = 0
    while True:
        out = Path(shutil.copytree(originals[1], tmp_path / f"out{n_writes}"))
        if not overwrite:
            shutil.rmtree(out / "FFPP")
        room[0] = n_writes
        try:
            command(out)
            break
        except RogaError as error:
            assert "No space left on device" in str(error)  # noqa: PT017 - the loop ends when there is none
            assert not (out / "FFPP" / manifest.FILE).exists() or overwrite
        room[0] = 10**9
        command(out)
        assert pixels(out) == pixels(originals[1])
        n_writes += 6
    assert n_writes > 30


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="only root on Linux may mount a small disk"
)
@pytest.mark.parametrize("kib", [4, 64, 120])
def test_a_full_disk_is_one_sentence_and_the_same_command_goes_on(source, originals, tmp_path, kib):
    out = tmp_path / "small"
    out.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "none", out], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        with pytest.raises(RogaError, match=r"No space left on device.*run the same command again"):
            prepared(source, out)
        subprocess.run(["mount", "-o", "remount,size=20m", out], check=True)
        prepared(source, out)
        assert pixels(out) == pixels(originals[1])
    finally:
        subprocess.run(["umount", out], check=True)


# --- what is no file -------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize("name", [folder.LOCK, journal.FILE])
def test_a_named_pipe_in_the_folder_is_not_waited_for(source, tmp_path, name):
    (tmp_path / "out/FFPP").mkdir(parents=True)
    os.mkfifo(tmp_path / "out/FFPP" / name)
    with pytest.raises(RogaError, match="is not a file"):
        prepared(source, tmp_path / "out")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_in_place_of_a_video_or_its_mask_is_dropped_with_the_reason(source, tmp_path):
    os.mkfifo(real_folder(source) / "007.mp4")
    report = prepared(source, tmp_path / "out")
    (pipe,) = (outcome for outcome in report.outcomes if outcome.key == "real/007")
    assert (pipe.reason, pipe.detail) == ("unreadable", "not a regular file but a named pipe")
