"""Each dataset in its distributed layout, in miniature and with its traps: what is found, labelled and dropped."""

import csv
import functools
import json
import os

import pytest
from prepare_videos import counts, dropped, write_video

from datasets_ext import manifest
from datasets_ext.prepare import celebdf, csv_list, dfdc, dfdcp, driver, uadfv
from datasets_ext.prepare.options import CropOptions
from roga_domainbed.cli import main
from roga_domainbed.errors import Problems, RogaError

pytestmark = pytest.mark.usefixtures("squares")
OPTIONS = CropOptions(n_frames=3, size=32, margin=1.5, detector="squares")
LIST = "List_of_testing_videos.txt"


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
    """The kinds of file that datasets hold; tests link them to the names that they need."""
    folder = tmp_path_factory.mktemp("clips")
    write_video(folder / "face.mp4", 6)
    whole = write_video(folder / "whole.mp4", 20).read_bytes()
    write_video(folder / "one frame.mp4", 1)
    write_video(folder / "no face.mp4", 6, no_face=tuple(range(6)))
    write_video(folder / "two faces.mp4", 6, bystander=True)
    (folder / "truncated.mp4").write_bytes(whole[: int(0.3 * len(whole))])
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("not a video")
    return folder


@pytest.fixture
def place(clips, tmp_path):
    """Put a clip of a kind into the source."""

    def put(name, kind="face"):
        path = tmp_path / "a source/with ümlaut" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(clips / f"{kind}.mp4", path)

    return put


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "a source/with ümlaut"
    folder.mkdir(parents=True)
    return folder


def prepared(reader, *args, out, **changes):
    read = functools.partial(reader, *args)
    return driver.prepare(lambda problems: read(problems=problems), out, **{"options": OPTIONS, **changes})


def videos(folder):
    """(label, video) → recording, identities, split, method."""
    rows = manifest.read(folder).drop_duplicates(["label", "video"])
    columns = ["recording", "identities", "split", "method"]
    return {
        (label, video): tuple(values)
        for label, video, *values in rows[["label", "video", *columns]].itertuples(index=False)
    }


# --- Celeb-DF --------------------------------------------------------------------------------------------------


def small_celebdf(source, place, youtube="YouTube-real", level=""):
    place(f"Celeb-real/{level}id0_0000.mp4")
    place(f"Celeb-real/{level}id1_0000.mp4", "two faces")
    place(f"Celeb-real/{level}id27_0005.mp4", "one frame")
    place(f"{youtube}/{level}00170.mp4")
    place(f"{youtube}/{level}00171.mp4", "no face")
    place(f"Celeb-synthesis/{level}id0_id1_0000.mp4")
    place(f"Celeb-synthesis/{level}id1_id0_0000.mp4", "truncated")
    # No header: the first line is a video. Label 1 is real.
    lines = ["1 YouTube-real/00170.mp4", "1 Celeb-real/id1_0000.mp4", "0 Celeb-synthesis/id0_id1_0000.mp4"]
    (source / LIST).write_text("\n".join([*lines, "1 Celeb-real/id9_0009.mp4"]))  # no newline at the end


@pytest.mark.parametrize(("version", "name"), [(1, "CelebDF1"), (2, "CelebDF2")])
@pytest.mark.parametrize(("youtube", "level"), [("YouTube-real", ""), ("Youtube-real", "videos/")])
def test_celebdf_in_either_form(source, place, tmp_path, version, name, youtube, level):
    small_celebdf(source, place, youtube, level)
    report = prepared(celebdf.read, source, version, out=tmp_path / "out")
    expected = {1: (158, 250, 795), 2: (590, 300, 5639)}[version]
    assert counts(report) == {
        "Celeb-real": (expected[0], 3, 3),
        "YouTube-real": (expected[1], 2, 1),
        "Celeb-synthesis": (expected[2], 2, 1),
    }
    assert dropped(report) == {
        "YouTube-real/00171": "no_face",
        "Celeb-synthesis/id1_id0_0000": "truncated",
    }
    assert report.missing == {"Celeb-real": ["id9_0009"]}
    assert videos(tmp_path / "out" / name) == {
        (0, "id0_0000"): ("id0_0000", "id0", "train", "real"),
        (0, "id1_0000"): ("id1_0000", "id1", "test", "real"),
        (0, "id27_0005"): ("id27_0005", "id27", "train", "real"),
        (0, "00170"): ("00170", "00170", "test", "real"),
        (1, "id0_id1_0000"): ("id0_0000", "id0+id1", "test", "Celeb-synthesis"),
    }
    rows = manifest.read(tmp_path / "out" / name)
    assert len(rows) == 3 + 3 + 1 + 3 + 3
    assert set(rows["env"]) == set(rows["dataset"]) == {name}
    assert all((tmp_path / "out" / name / path).is_file() for path in rows["path"])


def test_a_list_with_the_labels_of_the_rest_of_the_field_changes_no_label(source, place, tmp_path):
    small_celebdf(source, place)
    text = (source / LIST).read_text()
    (source / LIST).write_text(
        "".join({"0": "1", "1": "0"}[line[0]] + line[1:] + "\r\n" for line in text.split("\n"))
    )
    report = prepared(celebdf.read, source, 2, out=tmp_path)
    assert "4 labels of List_of_testing_videos.txt (1 real, 0 fake) contradict the folder" in report.summary()
    assert sorted(videos(tmp_path / "CelebDF2")) == [
        *((0, "00170"), (0, "id0_0000"), (0, "id1_0000"), (0, "id27_0005"), (1, "id0_id1_0000"))
    ]


def test_a_damaged_list_is_described(source, place, tmp_path):
    small_celebdf(source, place)
    (source / LIST).write_bytes(b"\xef\xbb\xbf0 Celeb-synthesis\\id0_id1_0000.mp4\nlabel path\n\x1b[31m\n")
    summary = prepared(celebdf.read, source, 2, out=tmp_path).summary()
    assert "names 1 videos; the official one has 518; it has none of YouTube-real" in summary
    assert "2 lines of List_of_testing_videos.txt are not '<0 or 1> <folder>/<file>'" in summary
    assert r"line 2 'label path', line 3 '\\x1b[31m'" in summary
    assert videos(tmp_path / "CelebDF2")[1, "id0_id1_0000"][2] == "test"


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_a_list_in_another_encoding_is_refused_with_the_line(source, place, tmp_path, encoding):
    small_celebdf(source, place)
    (source / LIST).write_bytes("1 Celeb-real/id0_0000.mp4\n0 café.mp4\n".encode(encoding))
    line = {"latin-1": 2, "utf-16": 1}[encoding]
    with pytest.raises(
        RogaError, match=rf"List_of_testing_videos\.txt cannot be used: line {line} is not UTF-8"
    ):
        prepared(celebdf.read, source, 2, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_the_list_the_split_is_empty_until_it_comes(source, place, tmp_path):
    small_celebdf(source, place)
    text = (source / LIST).read_text()
    (source / LIST).unlink()
    assert (
        "there is no List_of_testing_videos.txt" in prepared(celebdf.read, source, 2, out=tmp_path).summary()
    )
    assert {split for _, _, split, _ in videos(tmp_path / "CelebDF2").values()} == {""}
    (source / LIST).write_text(text)
    assert prepared(celebdf.read, source, 2, out=tmp_path).n_resumed == 5
    assert {split for _, _, split, _ in videos(tmp_path / "CelebDF2").values()} == {"train", "test"}


def test_names_of_other_datasets_no_text_and_a_link_to_itself_are_entries_in_the_report(
    source, place, tmp_path
):
    small_celebdf(source, place)
    place("Celeb-synthesis/id0_0001.mp4")  # a real's name: which class is it?
    place("Celeb-real/my holiday.mp4")
    (source / "Celeb-real" / os.fsdecode(b"id1_\xff.mp4")).touch()
    (source / "Celeb-real/id5_0000.mp4").symlink_to(source / "Celeb-real/id5_0000.mp4")
    report = prepared(celebdf.read, source, 2, out=tmp_path)
    summary = report.summary()
    assert "1 files whose name is not that of a Celeb-synthesis video, left out" in summary
    assert (
        "2 files whose name is not that of a Celeb-real video, left out: "
        "Celeb-real/id1_\\udcff.mp4, Celeb-real/my holiday.mp4"
    ) in summary
    assert dropped(report)["Celeb-real/id5_0000"] == "unreadable"
    assert report.n_prepared == 5
    assert (0, "id0_0001") not in videos(tmp_path / "CelebDF2")


def test_a_source_that_cannot_be_written_is_enough_and_more_videos_than_expected_are_pointed_out(
    source, place, tmp_path, monkeypatch
):
    monkeypatch.setitem(celebdf.EXPECTED, 1, (2, 250, 795))
    small_celebdf(source, place)
    before = {path: path.stat().st_mtime_ns for path in source.rglob("*")}
    folders = [path for path in (source, *source.rglob("*")) if path.is_dir()]
    for folder in folders:
        folder.chmod(0o555)
    try:
        report = prepared(celebdf.read, source, 1, out=tmp_path / "out")
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert report.n_prepared == 5
    assert "Celeb-real has 1 videos more than CelebDF1 has" in report.summary()
    assert {path: path.stat().st_mtime_ns for path in source.rglob("*")} == before


# --- UADFV -----------------------------------------------------------------------------------------------------


def test_uadfv(source, place, tmp_path):
    place("real/0000.mp4")
    place("real/0001.mp4", "empty")
    place("real/0002.mp4")
    place("fake/0000_fake.mp4")
    place("fake/0001_fake.mp4")
    place("fake/0003_fake.mp4", "text")
    place("fake/readme.mp4")
    report = prepared(uadfv.read, source, out=tmp_path)
    assert counts(report) == {"real": (49, 3, 2), "fake": (49, 3, 2)}
    assert dropped(report) == {"real/0001": "empty", "fake/0003_fake": "unreadable"}
    assert report.missing == {"real": ["0003"], "fake": ["0002_fake"]}
    assert videos(tmp_path / "UADFV") == {
        (0, "0000"): ("0000", "0000", "", "real"),
        (0, "0002"): ("0002", "0002", "", "real"),
        (1, "0000_fake"): ("0000", "0000", "", "FakeApp"),
        (1, "0001_fake"): ("0001", "0001", "", "FakeApp"),
    }


# --- DFDC preview ----------------------------------------------------------------------------------------------


def dfdcp_list(*entries):
    return {path: {"label": label, "set": part, "augmentations": []} for path, label, part in entries}


@pytest.mark.parametrize("root", ["", "dfdc_preview_set/"])
@pytest.mark.parametrize("level", ["", "videos/"])
def test_dfdcp_with_an_empty_method_and_stems_that_repeat(source, place, tmp_path, root, level):
    place(f"{root}original_videos/{level}11/11_A_001.mp4")
    place(f"{root}original_videos/{level}12/12_B_001.mp4", "no face")
    place(f"{root}method_A/{level}11/11_A/12_11_A_001.mp4")
    place(f"{root}method_A/{level}12/12_B/11_12_B_001.mp4", "truncated")
    (source / root / "method_B").mkdir()
    (source / root / "dataset.json").write_text(
        json.dumps(
            dfdcp_list(
                ("original_videos/11/11_A_001.mp4", "real", "train"),
                ("original_videos\\12\\12_B_001.mp4", "real", "test"),
                ("method_A/11/11_A/12_11_A_001.mp4", "fake", "train"),
                ("method_A/12/12_B/11_12_B_001.mp4", "fake", "test"),
                ("method_B/11/11_A/12_11_A_001.mp4", "fake", "test"),
            )
        )
    )
    report = prepared(dfdcp.read, source, out=tmp_path / "out")
    assert counts(report) == {
        "original_videos": (1131, 2, 1),
        "method_A": (None, 2, 1),
        "method_B": (None, 0, 0),
    }
    assert dropped(report) == {
        "original_videos/12_B_001": "no_face",
        "method_A/method_A-11_12_B_001": "truncated",
    }
    assert report.missing == {"method_B": ["method_B-12_11_A_001"]}
    assert videos(tmp_path / "out/DFDCP") == {
        (0, "11_A_001"): ("11_A_001", "11", "train", "real"),
        (1, "method_A-12_11_A_001"): ("11_A_001", "11+12", "train", "method_A"),
    }
    place(f"{root}method_B/{level}11/11_A/12_11_A_001.mp4")
    prepared(dfdcp.read, source, out=tmp_path / "out")
    found = videos(tmp_path / "out/DFDCP")
    assert found[1, "method_B-12_11_A_001"] == ("11_A_001", "11+12", "test", "method_B")


def test_dfdcp_videos_whose_label_is_contradicted_or_that_are_not_listed(source, place, tmp_path):
    place("original_videos/11/11_A_001.mp4")
    place("original_videos/11/11_A_002.mp4")
    place("method_A/11/11_A/12_11_A_001.mp4")
    entries = dfdcp_list(
        ("original_videos/11/11_A_001.mp4", "fake", "train"),
        ("method_A/11/11_A/12_11_A_001.mp4", "fake", "train"),
    )
    (source / "dataset.json").write_text(
        json.dumps({**entries, "somewhere/else.mp4": {}, "method_A/x.mp4": 3})
    )
    report = prepared(dfdcp.read, source, out=tmp_path)
    assert "1 videos of original_videos have the other label in dataset.json, left out" in report.summary()
    assert "1 videos of original_videos are not in dataset.json, their 'split' is empty" in report.summary()
    assert "2 entries of dataset.json name no video" in report.summary()
    assert {key: value[2] for key, value in videos(tmp_path / "DFDCP").items()} == {
        (0, "11_A_002"): "",
        (1, "method_A-12_11_A_001"): "train",
    }


@pytest.mark.parametrize("text", ["", '{"original_videos/11/11_A_0', "[]", None])
def test_dfdcp_without_a_usable_list_has_labels_from_its_folders(source, place, text):
    place("original_videos/11/11_A_001.mp4")
    place("method_A/11/11_A/12_11_A_001.mp4")
    if text is not None:
        (source / "dataset.json").write_text(text)
    layout = dfdcp.read(source, Problems())
    (note,) = layout.notes
    assert note.startswith("dataset.json ")
    found = sorted((video.label, video.name) for video in layout.videos.values())
    assert found == [(0, "11_A_001"), (1, "method_A-12_11_A_001")]


# --- DFDC ------------------------------------------------------------------------------------------------------


def small_dfdc(source, place):
    part = "dfdc_train_part_0"
    place(f"{part}/aaaaaaaaaa.mp4")
    place(f"{part}/bbbbbbbbbb.mp4")
    place(f"{part}/cccccccccc.mp4")
    place(f"{part}/dddddddddd.mp4")  # not in the metadata
    place(f"{part}/eeeeeeeeee.mp4", "truncated")
    metadata = {
        "aaaaaaaaaa.mp4": {"label": "REAL", "split": "train"},  # no original
        "bbbbbbbbbb.mp4": {"label": "FAKE", "split": "train", "original": "aaaaaaaaaa.mp4"},
        "cccccccccc.mp4": {"label": "FAKE", "split": "train"},  # no original, and should have one
        "eeeeeeeeee.mp4": {"label": "REAL", "split": "train", "original": None},
        "ffffffffff.mp4": {"label": "FAKE", "split": "train", "original": "aaaaaaaaaa.mp4"},  # not there
        "gggggggggg.mp4": {"label": "PERHAPS"},
        "hhhhhhhhhh.mp4": "REAL",
    }
    (source / part / "metadata.json").write_text(json.dumps(metadata))


@pytest.mark.parametrize(
    ("level", "form"), [("", "csv"), ("videos/", "csv"), ("", "json"), ("videos/", "json")]
)
def test_dfdc_parts_and_test_with_labels_in_either_form(source, place, tmp_path, level, form):
    small_dfdc(source, place)
    place(f"test/{level}jjjjjjjjjj.mp4")
    place(f"test/{level}kkkkkkkkkk.mp4")
    if form == "csv":
        (source / "test/labels.csv").write_text("filename,label\r\njjjjjjjjjj.mp4,0\r\nkkkkkkkkkk.mp4,1\r\n")
    else:
        labels = {"jjjjjjjjjj.mp4": {"is_fake": 0}, "kkkkkkkkkk.mp4": {"is_fake": 1, "augmentations": {}}}
        (source / "test/metadata.json").write_text(json.dumps(labels))
    report = prepared(dfdc.read, source, out=tmp_path / "out")
    assert counts(report) == {
        "train real": (19154, 2, 1),
        "train fake": (100000, 2, 2),
        "test real": (2500, 1, 1),
        "test fake": (2500, 1, 1),
    }
    assert dropped(report) == {"train real/eeeeeeeeee": "truncated"}
    assert report.missing == {"train fake": ["ffffffffff"]}
    assert videos(tmp_path / "out/DFDC") == {
        (0, "aaaaaaaaaa"): ("aaaaaaaaaa", "", "train", "real"),
        (1, "bbbbbbbbbb"): ("aaaaaaaaaa", "", "train", "DFDC"),
        (1, "cccccccccc"): ("cccccccccc", "", "train", "DFDC"),
        (0, "jjjjjjjjjj"): ("jjjjjjjjjj", "", "test", "real"),
        (1, "kkkkkkkkkk"): ("kkkkkkkkkk", "", "test", "DFDC"),
    }
    summary = report.summary()
    assert "1 videos have no label, left out: dfdc_train_part_0/dddddddddd.mp4" in summary
    assert "2 entries of dfdc_train_part_0/metadata.json have no label, left out: gggggggggg.mp4" in summary
    assert "1 fakes of the train parts have no original" in summary


def test_dfdc_one_part_is_a_source_too_and_parts_may_come_one_after_the_other(source, place, tmp_path):
    small_dfdc(source, place)
    place("dfdc_train_part_1/mmmmmmmmmm.mp4")
    (source / "dfdc_train_part_1/metadata.json").write_text(json.dumps({"mmmmmmmmmm.mp4": {"label": "REAL"}}))
    report = prepared(dfdc.read, source / "dfdc_train_part_0", out=tmp_path / "parts")
    assert counts(report) == {"train real": (19154, 2, 1), "train fake": (100000, 2, 2)}
    prepared(dfdc.read, source / "dfdc_train_part_1", out=tmp_path / "parts")
    prepared(dfdc.read, source, out=tmp_path / "whole")
    assert manifest.read(tmp_path / "parts/DFDC").equals(manifest.read(tmp_path / "whole/DFDC"))


def test_dfdc_labels_that_contradict_each_other_leave_the_video_out(source, place, tmp_path):
    for name in ("jjjjjjjjjj", "kkkkkkkkkk"):
        place(f"test/{name}.mp4")
    (source / "test/labels.csv").write_text("filename,label\njjjjjjjjjj.mp4,0\nkkkkkkkkkk.mp4,1\n")
    (source / "test/metadata.json").write_text(
        json.dumps({"jjjjjjjjjj.mp4": {"is_fake": 1}, "kkkkkkkkkk.mp4": {"is_fake": 1}})
    )
    report = prepared(dfdc.read, source, out=tmp_path)
    assert "1 videos have two different labels, left out: test/jjjjjjjjjj.mp4" in report.summary()
    assert list(videos(tmp_path / "DFDC")) == [(1, "kkkkkkkkkk")]


@pytest.mark.parametrize("field", ["label", "is_fake"])
def test_dfdc_a_label_that_is_none_is_never_taken_for_one(source, place, field):
    small_dfdc(source, place)
    place("odd/mmmmmmmmmm.mp4")
    for label in (0.5, float("nan"), float("inf"), 2, None, [], "", "reall", "-1"):
        entries = {"mmmmmmmmmm.mp4": {field: label}, "": {field: 1}}
        (source / "odd/metadata.json").write_text(json.dumps(entries))
        layout = dfdc.read(source, Problems())
        assert "1 videos have no label, left out: odd/mmmmmmmmmm.mp4" in layout.notes, label
        assert sorted(video.name[0] for video in layout.videos.values()) == ["a", "b", "c", "e"]


def test_dfdc_metadata_with_names_that_are_no_text_gives_no_labels_and_is_named(source, place, tmp_path):
    small_dfdc(source, place)
    metadata = json.loads((source / "dfdc_train_part_0/metadata.json").read_text())
    metadata |= {
        "cccccccccc.mp4": {"label": "FAKE", "original": "\ud800.mp4"},
        "\udfff.mp4": {"label": "REAL"},
    }
    (source / "dfdc_train_part_0/metadata.json").write_text(json.dumps(metadata))
    said = r"dfdc_train_part_0/metadata\.json cannot be used: text that is not Unicode"
    with pytest.raises(RogaError, match=said):
        prepared(dfdc.read, source, out=tmp_path)


def test_dfdc_a_label_that_is_corrected_moves_the_video(source, place, tmp_path):
    small_dfdc(source, place)
    prepared(dfdc.read, source, out=tmp_path / "out")
    path = source / "dfdc_train_part_0/metadata.json"
    metadata = json.loads(path.read_text())
    metadata["aaaaaaaaaa.mp4"] = {"label": "FAKE", "original": "bbbbbbbbbb.mp4"}
    metadata["bbbbbbbbbb.mp4"] = {"label": "REAL"}
    path.write_text(json.dumps(metadata))
    prepared(dfdc.read, source, out=tmp_path / "out")
    prepared(dfdc.read, source, out=tmp_path / "at once")
    assert manifest.read(tmp_path / "out/DFDC").equals(manifest.read(tmp_path / "at once/DFDC"))
    assert not (tmp_path / "out/DFDC/DFDC/0_real/aaaaaaaaaa").exists()


@pytest.mark.parametrize("text", ["", '{"aaaaaaaaaa.mp4": {"label": "RE', "[1, 2]", "[" * 100_000])
def test_dfdc_damaged_metadata_costs_its_part_alone(source, place, text):
    small_dfdc(source, place)
    place("dfdc_train_part_1/mmmmmmmmmm.mp4")
    (source / "dfdc_train_part_1/metadata.json").write_text(text)
    layout = dfdc.read(source, Problems())
    assert any(note.startswith("dfdc_train_part_1/metadata.json ") for note in layout.notes)
    assert "1 videos have no label, left out: dfdc_train_part_1/mmmmmmmmmm.mp4" in layout.notes
    assert len(layout.videos) == 4


# --- a list of one's own ---------------------------------------------------------------------------------------


COLUMNS = ("path", "env", "label", "video")


def write_list(path, *rows, columns=COLUMNS, **how):
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, **how).writerows([columns, *rows])
    return path


def test_a_list_of_ones_own(source, place, tmp_path):
    place("clips/übung 1.mp4")
    place("clips/b.mp4")
    place("clips/c.mp4", "no face")
    faces = write_list(
        source / "faces.csv",
        ("clips/übung 1.mp4", "Lab A", "real", "übung 1", "r1", "p2+p1", "train"),
        ("clips\\b.mp4", "Lab A", "1", "b", "r1", "", "test"),
        (str(source / "clips/c.mp4"), "Lab B", "0", "c", "", "", ""),
        ("clips/nowhere.mp4", "Lab B", "FAKE", "d", "", "", ""),
        columns=(*COLUMNS, "recording", "identities", "split"),
        delimiter=";",
    )
    report = prepared(csv_list.read, faces, "Mine", out=tmp_path / "out")
    assert counts(report) == {
        "Lab A real": (1, 1, 1),
        "Lab A fake": (1, 1, 1),
        "Lab B real": (1, 1, 0),
        "Lab B fake": (1, 1, 0),
    }
    assert dropped(report) == {"Lab B real/c": "no_face", "Lab B fake/d": "missing"}
    assert videos(tmp_path / "out/Mine") == {
        (0, "übung 1"): ("r1", "p1+p2", "train", "real"),
        (1, "b"): ("r1", "", "test", "fake"),
    }
    assert (tmp_path / "out/Mine/Lab A/0_real/übung 1/0000.png").is_file()
    assert "environment Lab B has no reals" in report.summary()


def test_lines_that_are_wrong_are_named_and_never_guessed(source, place, tmp_path):
    for name in "abcd":
        place(f"{name}.mp4")
    faces = write_list(
        source / "faces.csv",
        ("a.mp4", "X", "0", "a"),
        ("b.mp4", "X", "2", "b"),
        ("b.mp4", "X", "0", "../b"),
        ("b.mp4", "", "0", "b"),
        ("", "X", "0", "b"),
        ("b.mp4",),
        ("b.mp4", "X", "0", "a"),
        ("c.mp4", "X", "0", "c"),
        ("c.mp4", "X", "1", "c"),
        ("d.mp4", "X", "1", "d"),
    )
    summary = prepared(csv_list.read, faces, "Mine", out=tmp_path).summary()
    assert sorted(videos(tmp_path / "Mine")) == [(0, "a"), (1, "d")]
    assert (
        "6 lines are wrong, left out: line 3 has the label '2', which is none of 0, real, 1, fake" in summary
    )
    assert "1 files are listed as real and as fake, left out" in summary
    assert "no column 'recording'" in summary


def test_a_video_that_is_no_longer_listed_goes(source, place, tmp_path):
    for name in "abc":
        place(f"{name}.mp4")
    first = [("a.mp4", "X", "0", "a"), ("b.mp4", "X", "1", "b"), ("c.mp4", "X", "1", "c")]
    second = [("a.mp4", "X", "1", "a"), ("b.mp4", "X", "0", "b")]
    for listed in (first, second):
        prepared(csv_list.read, write_list(source / "l.csv", *listed), "Mine", out=tmp_path)
    assert sorted(videos(tmp_path / "Mine")) == [(0, "b"), (1, "a")]
    assert sorted(path.name for path in (tmp_path / "Mine/X").glob("*/*")) == ["a", "b"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "lacks the columns path, env, label, video"),
        (b"path,label\nx.mp4,0\n", "lacks the columns env, video"),
        (b"path,env,label,video\n", "lists no usable video"),
        (b"path,env,label,video\nx.mp4,X,maybe,v\n", "wrong, left out: line 2 has the label 'maybe'"),
        (b"path,env,label,video\n\xff\xfe.mp4,X,0,v\n", "line 2 is not UTF-8"),
        ("path,env,label,video\nx.mp4,X,0,v\n".encode("utf-16"), "line 1 is not UTF-8"),
        (b"path,env,label,video\nx.mp4,X,0,v\nx.mp4,X,1,v\n", "1 files are listed as real and as fake"),
        (b"path,env,label,video\n" + b"x" * 200_000 + b".mp4,X,0,v\n", "cannot be read from line 2 on"),
        (
            b"path,env,label,video\nx.mp4,../x,0,v\n",
            "has the env '../x', which cannot be the name of a folder",
        ),
        (b"path,env,label,video\nx.mp4,manifest.parquet,0,v\n", "which is the name of a file of the dataset"),
        (b"path,env,label,video\nx.mp4,X,0,..\n", "has the video '..', which cannot"),
        (b"path,env,label,video\nx.mp4,X,0,a/b\n", "has the video 'a/b', which cannot"),
        (b"path,env,label,video\nx.mp4,X,0,\x1b[31m\n", r"the video '\\x1b\[31m', which cannot"),
        (b"path,env,label,video,method\nx.mp4,X,0,v,\x1b[31m\n", "has the method .* which cannot be printed"),
        (
            b"path,env,label,video,recording\nx.mp4,X,0,v," + b"r" * 5000 + b"\n",
            r"r\.\.\.', which .* is over 1,000",
        ),
        (
            b"path,env,label,video,frame\nx.png,X,0,v," + b"9" * 5000 + b"\n",
            r"the frame '9+\.\.\.', which is no",
        ),
    ],
)
def test_a_file_that_is_no_such_list_is_one_error(tmp_path, content, words):
    (tmp_path / "list.csv").write_bytes(content)
    with pytest.raises(RogaError, match=words):
        prepared(csv_list.read, tmp_path / "list.csv", "Mine", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_name_of_ones_own_dataset_must_be_that_of_a_folder(source, place, tmp_path):
    place("a.mp4")
    faces = write_list(source / "l.csv", ("a.mp4", "X", "0", "a"))
    for name in ("", "../up", ".hidden", "a/b"):
        with pytest.raises(RogaError, match="--name"):
            prepared(csv_list.read, faces, name, out=tmp_path)


def test_a_list_does_not_take_over_a_dataset_that_was_prepared_as_distributed(source, place, tmp_path):
    small_celebdf(source, place)
    prepared(celebdf.read, source, 2, out=tmp_path)
    before = manifest.read(tmp_path / "CelebDF2")
    faces = write_list(source / "l.csv", ("Celeb-real/id0_0000.mp4", "X", "0", "a"))
    with pytest.raises(RogaError, match=r"was prepared as distributed: .*--overwrite"):
        prepared(csv_list.read, faces, "CelebDF2", out=tmp_path)
    assert manifest.read(tmp_path / "CelebDF2").equals(before)
    prepared(csv_list.read, faces, "CelebDF2", out=tmp_path, overwrite=True)
    assert sorted(path.name for path in (tmp_path / "CelebDF2").iterdir() if path.is_dir()) == ["X"]


# --- all of them -----------------------------------------------------------------------------------------------

READERS = {
    "celebdf1": functools.partial(celebdf.read, version=1),
    "celebdf2": functools.partial(celebdf.read, version=2),
    "dfdc": dfdc.read,
    "dfdcp": dfdcp.read,
    "uadfv": uadfv.read,
}


@pytest.mark.parametrize("name", READERS)
def test_a_folder_that_is_not_the_dataset_is_one_error_before_anything_is_written(
    name, source, place, tmp_path
):
    place("holiday.mp4")
    for folder in (source, source / "nowhere"):
        with pytest.raises(RogaError, match=r"^--source"):
            prepared(READERS[name], folder, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["celebdf1", "celebdf2", "uadfv"])
def test_the_folder_above_the_dataset_is_recognized(name, source, place, tmp_path, capsys):
    place("below/Celeb-real/id0_0000.mp4")
    place("below/real/0000.mp4")
    argv = ["--source", str(source), "--data_dir", str(tmp_path / "out"), "--detector", "squares"]
    assert main(["prepare", name, *argv]) == 2
    assert f"did you mean {str(source / 'below')!r}?" in capsys.readouterr().err
