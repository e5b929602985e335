"""What every reader has in common: links, files without a label, refusals that say what was looked for, no waiting."""

import functools
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from prepare_videos import SquareDetector, fake_folder, real_folder, write_video

from datasets_ext import manifest
from datasets_ext.prepare import celebdf, csv_list, deepfakebench, dfd, dfdc, dfdcp, driver, ffpp, uadfv
from datasets_ext.prepare.detectors import DETECTORS, DetectorInfo
from datasets_ext.prepare.ffpp_layout import FACESHIFTER
from datasets_ext.prepare.link import LinkOptions
from datasets_ext.prepare.options import CropOptions
from roga_domainbed.cli import main
from roga_domainbed.errors import Problems, RogaError

pytestmark = pytest.mark.usefixtures("squares")
OPTIONS = CropOptions(n_frames=2, size=32, margin=1.5, detector="squares")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("clip") / "face.mp4", 3)


@pytest.fixture
def source(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.fixture
def place(clip, source):
    """Put a file of its own, with a face in it, into the source."""

    def put(name):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copyfile(clip, source / name))

    return put


def of_metadata(part, **labels):
    part.mkdir(parents=True, exist_ok=True)
    entries = {f"{name}.mp4": {"label": label, "split": "train"} for name, label in labels.items()}
    (part / "metadata.json").write_text(json.dumps(entries))


def of_csv(source, *lines):
    path = source / "list.csv"
    path.write_text("path,env,label,video\n" + "".join(f"{line}\n" for line in lines))
    return path


def a_frame(path):
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), "red").save(path)


def of_index(source, tmp_path):
    a_frame(source / "UADFV/real/frames/0001/000.png")
    frames = ["UADFV/real/frames/0001/000.png"]
    index = {"UADFV": {"UADFV_Real": {"train": {"0001": {"label": "UADFV_Real", "frames": frames}}}}}
    (tmp_path / "index.json").write_text(json.dumps(index))
    return [tmp_path / "index.json"]


#: Reader → what makes it a source with one video, and its arguments after the source.
READERS = {
    "ffpp": (ffpp.read, ["original_sequences/youtube/c23/videos/000.mp4"], ("c23", None)),
    "faceshifter": (
        functools.partial(ffpp.read, part=FACESHIFTER),
        ["original_sequences/youtube/c23/videos/000.mp4"],
        ("c23", None),
    ),
    "dfd": (dfd.read, ["original_sequences/actors/c23/videos/01__kitchen.mp4"], ("c23",)),
    "celebdf": (celebdf.read, ["Celeb-real/id0_0000.mp4"], (2,)),
    "dfdc": (dfdc.read, ["part/aaaaaaaaaa.mp4"], ()),
    "dfdcp": (dfdcp.read, ["original_videos/11/11_A_000.mp4"], ()),
    "uadfv": (uadfv.read, ["real/0001.mp4"], ()),
}


def prepared(reader, *args, out, options=OPTIONS):
    return driver.prepare(lambda problems: reader(*args, problems=problems), out, options)


@pytest.mark.parametrize("name", READERS)
def test_media_that_no_list_and_no_name_labels_are_in_summary_json_and_page(name, source, place, tmp_path):
    reader, wanted, args = READERS[name]
    for path in wanted:
        place(path)
    of_metadata(source / "part", aaaaaaaaaa="REAL")
    place("someone/else/film.mp4")
    place("someone/else/other.MOV")
    a_frame(source / "pictures/x.png")
    real = place("elsewhere/behind a link.mp4").parent
    shutil.move(real, tmp_path / "outside")
    (source / "linked").symlink_to(tmp_path / "outside")
    report = prepared(reader, source, *args, out=tmp_path / "out")
    assert report.n_prepared == 1
    said = "left out, without a label or not of this dataset: 4 media files in 3 folders (someone/else: 2, "
    assert said in report.summary()
    expected = {
        "linked": ["behind a link.mp4"],
        "pictures": ["x.png"],
        "someone/else": ["film.mp4", "other.MOV"],
    }
    assert json.loads((report.folder / "prepare-report.json").read_text())["unlabelled_media"] == expected
    page = (report.folder / "prepare-report.html").read_text()
    assert "4 media files in 3 folders" in page
    assert "behind a link.mp4" in page


def test_media_beside_what_a_csv_lists_and_beside_an_index_are_told_too(source, place, tmp_path):
    place("a/x.mp4")
    place("a/y.mp4")
    place("b/z.mp4")
    report = prepared(csv_list.read, of_csv(source, "a/x.mp4,E,0,x"), "Mine", out=tmp_path / "out")
    assert report.unlabelled == {"a": ["y.mp4"]}  # b may hold anything
    index = of_index(source, tmp_path)
    a_frame(source / "UADFV/real/frames/0002/000.png")
    report = prepared(
        deepfakebench.read, source, index, None, None, out=tmp_path / "out", options=LinkOptions(2)
    )
    assert report.unlabelled == {"UADFV/real/frames/0002": ["000.png"]}


def test_what_was_prepared_into_the_source_itself_is_not_counted(source, place):
    place("real/0001.mp4")
    for _ in range(2):
        assert prepared(uadfv.read, source, out=source).unlabelled == {}
    assert len(list((source / "UADFV").rglob("*.png"))) == 2


def test_a_part_of_dfdc_behind_a_link_is_a_part_and_links_in_a_circle_end(source, place, tmp_path):
    place("part_0/aaaaaaaaaa.mp4")
    of_metadata(source / "part_0", aaaaaaaaaa="REAL")
    place("part_1/bbbbbbbbbb.mp4")
    of_metadata(source / "part_1", bbbbbbbbbb="FAKE")
    shutil.move(source / "part_1", tmp_path / "another disk")
    (source / "part_1").symlink_to(tmp_path / "another disk")
    (source / "part_0/up").symlink_to(source)
    (source / "one").symlink_to(source / "two")
    (source / "two").symlink_to(source / "one")
    report = prepared(dfdc.read, source, out=tmp_path / "out")
    assert report.n_prepared == 2
    assert set(manifest.read(report.folder)["video"]) == {"aaaaaaaaaa", "bbbbbbbbbb"}
    assert report.unlabelled == {}


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may list every folder")
def test_a_folder_that_may_not_be_listed_is_told(source, place, tmp_path):
    place("real/0001.mp4")
    (source / "closed").mkdir(mode=0)
    assert (
        "closed cannot be listed (Permission denied)"
        in prepared(uadfv.read, source, out=tmp_path / "out").summary()
    )
    (source / "real").chmod(0)
    try:
        with pytest.raises(RogaError, match=r"real(/videos)? cannot be read: Permission denied"):
            prepared(uadfv.read, source, out=tmp_path / "out")
    finally:
        (source / "real").chmod(0o700)


@pytest.mark.parametrize(
    ("name", "looked_for"),
    [
        (
            "ffpp",
            ["original_sequences/youtube/", "manipulated_sequences/<method>", "NNN_MMM.mp4", "Face2Face"],
        ),
        ("faceshifter", ["original_sequences/youtube/", "FaceShifter", "NNN_MMM.mp4"]),
        ("dfd", ["original_sequences/actors/", "DeepFakeDetection", "<T>_<S>__….mp4"]),
        ("celebdf", ["Celeb-real, YouTube-real, Celeb-synthesis"]),
        ("dfdc", ["metadata.json", "labels.csv"]),
        ("dfdcp", ["original_videos/…/<P>_<L>_<nnn>.mp4", "method_A", "method_B", "dfdc_preview_set/"]),
        ("uadfv", ["real/<NNNN>.mp4", "fake/<NNNN>_fake.mp4"]),
    ],
)
def test_a_refusal_names_what_it_looks_for_and_what_it_found(name, looked_for, source, place, tmp_path):
    reader, _, args = READERS[name]
    for path in ("original/a.mp4", "manipulate/b.mp4", "manipulate/c.avi"):
        place(path)
    with pytest.raises(RogaError) as caught:
        prepared(reader, source, *args, out=tmp_path / "out")
    for words in (*looked_for, "the folders manipulate, original", "in all 2 .mp4, 1 .avi"):
        assert words in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "folder", "looked_for"),
    [
        ("ffpp", "original_sequences/youtube", "original_sequences/youtube/c23/videos/NNN.mp4"),
        ("celebdf", "Celeb-real", "Celeb-real/id<A>_<NNNN>.mp4"),
        ("uadfv", "real", "real/<NNNN>.mp4"),
        ("dfdcp", "original_videos", "original_videos/…/<P>_<L>_<nnn>.mp4"),
    ],
)
def test_so_does_one_whose_folders_are_right_and_whose_files_are_not(
    name, folder, looked_for, source, place, tmp_path
):
    reader, _, args = READERS[name]
    place(f"{folder}/holiday.mp4")
    with pytest.raises(RogaError) as caught:
        prepared(reader, source, *args, out=tmp_path / "out")
    assert looked_for in str(caught.value)
    assert "in all 1 .mp4" in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "link to itself"])
def test_what_is_no_file_in_place_of_a_list_is_said_and_not_waited_for(source, place, tmp_path, kind):
    def put(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        else:
            path.symlink_to("/dev/zero" if kind == "device" else path)
        return path

    def problems(reader, *args):
        found = Problems()
        layout = reader(*args, problems=found)
        return "\n".join([*found.messages, *layout.notes])

    said = {
        "pipe": "named pipe",
        "folder": "directory",
        "device": "a device",
        "link to itself": "symbolic links",
    }[kind]
    place("real/0001.mp4")
    assert said in problems(csv_list.read, put(source / "list.csv"), "Mine")
    found = Problems()
    with pytest.raises(RogaError, match=said):
        deepfakebench.read(source, [put(source / "index.json")], None, None, found)
    place("part/aaaaaaaaaa.mp4")
    put(source / "part/metadata.json")
    assert said in problems(dfdc.read, source)
    place("original_videos/11/11_A_000.mp4")
    put(source / "dataset.json")
    assert said in problems(dfdcp.read, source)
    place("original_sequences/youtube/c23/videos/000.mp4")
    for split in ("train", "val", "test"):
        put(source / f"splits/{split}.json")
    assert problems(ffpp.read, source, "c23", None).count(said) == 3
    place("Celeb-real/id0_0000.mp4")
    put(source / celebdf.LIST)
    assert said in problems(celebdf.read, source, 2)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[" * 100_000, "nested"),
        (b'{"aaaaaaaaaa.mp4": ' + b"9" * 5000 + b"}", "more than 64 bits"),
        ('{"aaaaaaaaaa.mp4": "é"}'.encode("latin-1"), "not UTF-8"),
        (b"[1, 2]", "expected a mapping, got a list"),
        (b'{"aaaaaaaaaa.mp4": {"label": "\\ud800"}}', "not Unicode"),
    ],
)
def test_damaged_json_is_one_sentence_with_the_file(content, said, source, place, tmp_path, capsys):
    place("part/aaaaaaaaaa.mp4")
    (source / "part/metadata.json").write_bytes(content)
    for argv in (
        ["dfdc", "--source", str(source)],
        ["deepfakebench", "--source", str(source), "--json", str(source / "part/metadata.json")],
    ):
        assert main(["prepare", *argv, "--data_dir", str(tmp_path / "out"), "--n_workers", "1"]) == 2
        err = capsys.readouterr().err
        assert "metadata.json" in err
        assert said in err
        assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "path",
    [
        "UADFV/../../secret/frames/0001/000.png",
        "UADFV/../../secret/UADFV/real/frames/0001/000.png",
        "/UADFV/real/frames/../../../../secret/0001/000.png",
    ],
)
def test_an_index_leads_to_no_frame_outside_the_source(path, source, tmp_path):
    index = of_index(source, tmp_path)
    a_frame(tmp_path / "secret/frames/0001/000.png")
    a_frame(tmp_path / "secret/0001/000.png")
    a_frame(tmp_path / "secret/UADFV/real/frames/0001/000.png")
    content = json.loads(index[0].read_text())
    content["UADFV"]["UADFV_Real"]["train"]["0001"]["frames"] = [path]
    index[0].write_text(json.dumps(content))
    layout = deepfakebench.read(source, index, None, None, Problems())
    assert [video.frames for video in layout.videos.values()] == [()]
    assert "1 videos name frames that are no image files, those are left out: UADFV_Real/0001" in layout.notes


def test_names_that_a_terminal_would_obey_are_written_out(source, place, tmp_path):
    place("real/0001.mp4")
    for name in ("real/\x1b[31mred.mp4", "real/two\nlines.mp4", "gone\x1b[2J/x.mp4"):
        place(name)
    report = prepared(uadfv.read, source, out=tmp_path / "out")
    summary = report.summary()
    assert "\x1b" not in summary
    assert "\x1b" not in (report.folder / "prepare-report.html").read_text()
    assert r"real/\x1b[31mred.mp4, real/two\nlines.mp4" in summary
    assert r"gone\x1b[2J: 1" in summary


def test_so_are_names_in_lists_of_what_should_be_there(source, place, tmp_path):
    place("part/aaaaaaaaaa.mp4")
    of_metadata(source / "part", aaaaaaaaaa="REAL", **{"\x1b[31mred": "FAKE", "two\nlines": "FAKE"})
    report = prepared(dfdc.read, source, out=tmp_path / "out")
    assert r"not in the source: 2 train fake videos (\x1b[31mred, two\nlines)" in report.summary()


# --- the detector's scores -------------------------------------------------------------------------------------


class DimDetector(SquareDetector):
    """Its score is the brightness of the square: 0.43 in the first frame, 0.02 more in each that follows."""

    def detect(self, rgb: np.ndarray) -> np.ndarray:
        faces = super().detect(rgb)
        for face in faces:
            x, y, w, h = map(int, face[:4])
            face[4] = rgb[y + h // 2, x + w // 2].mean() / 255
        return faces


DIM = DetectorInfo("dim", target="test_prepare_sources:DimDetector", min_score=0.5)


def test_a_face_counts_from_a_score_on_and_the_report_has_the_scores(tmp_path, capsys):
    write_video(real_folder(tmp_path / "in") / "000.mp4", 12)  # brightness 110, 116, …, 176
    write_video(fake_folder(tmp_path / "in", "Deepfakes") / "000_001.mp4", 3)  # 110, 116, 122: all below 0.5
    argv = ["prepare", "ffpp", "--source", str(tmp_path / "in"), "--n_frames", "12", "--size", "32"]
    argv += ["--detector", "dim", "--n_workers", "1"]
    with DETECTORS.temporarily(DIM):
        assert main([*argv, "--data_dir", str(tmp_path / "a")]) == 0
        summary = capsys.readouterr().out
        assert main([*argv, "--data_dir", str(tmp_path / "b"), "--min_score", "0.6"]) == 0
        assert main([*argv, "--data_dir", str(tmp_path / "b"), "--min_score", "0.5"]) == 2
    assert "min_score was 0.6, now 0.5" in capsys.readouterr().err
    found = json.loads((tmp_path / "a/FFPP/prepare-report.json").read_text())
    ((faces),) = found["faces"]
    assert (faces["video"], faces["frames"]) == ("real/000", list(range(3, 12)))  # from 128 / 255 on
    np.testing.assert_allclose(
        faces["scores"], [(110 + 6 * index) / 255 for index in range(3, 12)], atol=0.01
    )
    assert found["options"]["min_score"] == 0.5
    assert found["faces_left_out_for_low_score"] == 3 + 3
    assert found["dropped_frames"] == [{"video": "real/000", "reason": "low_score", "frames": [0, 1, 2]}]
    assert [item["reason"] for item in found["dropped_videos"]] == ["low_score"]
    assert "dropped, only faces that the detector is not sure of: 3 frames of 1 video (real/000)" in summary
    assert "the detector's scores: median 0.60, lowest 0.50 (real/000); 6 faces below 0.5 left out" in summary
    assert "6 faces below 0.5 left out" in (tmp_path / "a/FFPP/prepare-report.html").read_text()
    assert set(manifest.read(tmp_path / "b/FFPP")["frame"]) == set(range(8, 12))  # from 153 / 255 on


def test_each_detector_has_a_score_of_its_own():
    assert CropOptions(detector="yunet").min_score == 0.8
    assert CropOptions(detector="dlib").min_score == 0.0
    assert CropOptions(detector="yunet", min_score=0.6).min_score == 0.6
    assert CropOptions(min_score=float("nan")).problems() == ["--min_score must be a number; got nan"]
