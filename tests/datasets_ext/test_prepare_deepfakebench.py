"""DeepfakeBench's frames and index in miniature, each of its traps built in; counts come from the construction."""

import json
import os
import shutil
import zlib

import numpy as np
import pytest
from PIL import Image

from datasets_ext import manifest
from datasets_ext.ffpp import FFPP
from datasets_ext.prepare import deepfakebench, driver
from datasets_ext.prepare.link import LINKS, LinkOptions
from roga_domainbed.cli import main
from roga_domainbed.errors import Problems, RogaError

pytestmark = pytest.mark.usefixtures("few_thumbnails")
SUB_ROOTS = {
    "FF-real": "FaceForensics++/original_sequences/youtube/{comp}",
    "FF-DF": "FaceForensics++/manipulated_sequences/Deepfakes/{comp}",
    "FF-F2F": "FaceForensics++/manipulated_sequences/Face2Face/{comp}",
    "FF-FS": "FaceForensics++/manipulated_sequences/FaceSwap/{comp}",
    "FF-NT": "FaceForensics++/manipulated_sequences/NeuralTextures/{comp}",
    "FF-FH": "FaceForensics++/manipulated_sequences/FaceShifter/{comp}",
    "DFD_real": "FaceForensics++/original_sequences/actors/{comp}",
    "DFD_fake": "FaceForensics++/manipulated_sequences/DeepFakeDetection/{comp}",
    "Celeb-real": "Celeb-DF-v2/Celeb-real",
    "YouTube-real": "Celeb-DF-v2/YouTube-real",
    "CelebDFv2_fake": "Celeb-DF-v2/Celeb-synthesis",
    "DFDC_train": "DFDC/train/dfdc_train_part_7",
    "DFDC_test": "DFDC/test",
    "DFDCP_Real": "DFDCP/original_videos",
    "DFDCP_FakeA": "DFDCP/method_A",
    "DFDCP_FakeB": "DFDCP/method_B",
    "UADFV_Real": "UADFV/real",
    "UADFV_Fake": "UADFV/fake",
}


class Bench:
    """The benchmark's folders, to put frames and index files into."""

    def __init__(self, folder):
        self.rgb = folder / "datasets/rgb of 'me'"
        self.json = folder / "json"
        self.rgb.mkdir(parents=True)
        self.json.mkdir()

    def frames(self, place, stem, indices=(0, 14, 1043), comp="c23", prefix="", sep="\\"):
        """Write the frames of a video, and its paths as the index has them: the last first."""
        folder = SUB_ROOTS[place].format(comp=comp) + f"/frames/{stem}"
        (self.rgb / folder).mkdir(parents=True)
        for index in indices:
            pixels = np.random.default_rng(zlib.crc32(f"{place}/{stem}/{index}".encode())).integers(
                0, 255, (6, 6, 3)
            )
            Image.fromarray(pixels.astype(np.uint8)).save(self.rgb / folder / f"{index:03d}.png")
        paths = [f"{prefix}{folder}/{index:03d}.png" for index in reversed(indices)]
        return [path.replace("/", sep) for path in paths]

    def record(self, place, stem, label=None, **how):
        return {"label": label or place, "frames": self.frames(place, stem, **how)}

    def write(self, name, content):
        path = self.json / f"{name}.json"
        path.write_text(json.dumps(content))
        return path


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def imported(bench, out, *files, compression=None, splits=None, link="copy", n_frames=32, overwrite=False):
    return driver.prepare(
        lambda problems: deepfakebench.read(bench.rgb, files, compression, splits, problems),
        out,
        LinkOptions(n_frames, link),
        overwrite=overwrite,
    )


def videos(folder):
    """(env, label, video) → recording, identities, split, method, frames."""
    rows = manifest.read(folder)
    return {
        key: (*group[["recording", "identities", "split", "method"]].iloc[0], group["frame"].tolist())
        for key, group in rows.groupby(["env", "label", "video"])
    }


def shape_a(label, train=None, val=None, test=None, comp="c23"):
    return {label: {"train": {comp: train or {}}, "val": {comp: val or {}}, "test": {comp: test or {}}}}


def small_ffpp(bench, comp="c23", **how):
    """000 and 001 are a train pair, 002 and 003 a test pair; one fake a method, and the reals in every file."""
    reals = {stem: bench.record("FF-real", stem, comp=comp, **how) for stem in ("000", "001", "002", "003")}
    train = {stem: reals[stem] for stem in ("000", "001")}
    test = {stem: reals[stem] for stem in ("002", "003")}
    suffix = "_c40" if comp == "c40" else ""
    for label, stem in (
        ("FF-DF", "000_001"),
        ("FF-F2F", "001_000"),
        ("FF-FS", "002_003"),
        ("FF-NT", "003_002"),
    ):
        fake = {stem: {**bench.record(label, stem, comp=comp, **how), "masks": []}}
        fakes = shape_a(label, **{"train" if stem < "002" else "test": fake}, comp=comp)
        yield bench.write(
            label + suffix, {label: {**shape_a("FF-real", train, test=test, comp=comp), **fakes}}
        )


def test_the_four_files_of_ffpp_become_its_tree(bench, tmp_path):
    report = imported(bench, tmp_path, *small_ffpp(bench))
    frames = [0, 14, 1043]  # sorted as numbers, with the names of our own trees
    fakes = {
        ("DF", 1, "000_001"): ("000", "000+001", "train", "Deepfakes", frames),
        ("F2F", 1, "001_000"): ("001", "000+001", "train", "Face2Face", frames),
        ("FS", 1, "002_003"): ("002", "002+003", "test", "FaceSwap", frames),
        ("NT", 1, "003_002"): ("003", "002+003", "test", "NeuralTextures", frames),
    }
    reals = {
        (env, 0, stem): (stem, stem, "train" if stem < "002" else "test", "real", frames)
        for env in ("DF", "F2F", "FS", "NT")
        for stem in ("000", "001", "002", "003")
    }
    assert videos(tmp_path / "FFPP") == fakes | reals
    rows = manifest.read(tmp_path / "FFPP")
    assert set(rows["compression"]) == {"c23"}
    assert all((tmp_path / "FFPP" / path).is_file() for path in rows["path"])
    assert (report.n_prepared, report.n_crops) == (8, 24)
    assert {count.name: count.found for count in report.classes}["real"] == 4
    dataset = FFPP(tmp_path, [3], {"image_size": 6, "data_augmentation": False})  # as it is registered
    assert [len(environment) for environment in dataset.datasets] == [15] * 4
    assert dataset[0][0][0].shape == (3, 6, 6)


@pytest.mark.parametrize("link", ["copy", "hardlink", "symlink"])
def test_no_byte_of_a_frame_changes(bench, tmp_path, link):
    imported(bench, tmp_path, *small_ffpp(bench), link=link)
    source = bench.rgb / "FaceForensics++/manipulated_sequences/FaceSwap/c23/frames/002_003/1043.png"
    made = tmp_path / "FFPP/FS/1_fake/002_003/1043.png"
    assert made.read_bytes() == source.read_bytes()
    assert made.is_symlink() == (link == "symlink")
    assert (made.stat().st_ino == source.stat().st_ino) == (link != "copy")
    for env in ("DF", "F2F", "FS", "NT"):  # the reals, shared by all
        shared = tmp_path / f"FFPP/{env}/0_real/002/0014.png"
        assert (
            shared.read_bytes()
            == (bench.rgb / "FaceForensics++/original_sequences/youtube/c23/frames/002/014.png").read_bytes()
        )
        assert shared.is_symlink() == (link == "symlink")


def test_a_c40_file_has_the_name_and_not_the_key(bench, tmp_path):
    files = list(small_ffpp(bench, "c40"))
    assert all(path.stem.endswith("_c40") for path in files)
    with pytest.raises(RogaError, match=r"no c23 videos; it has c40: choose with --compression"):
        imported(bench, tmp_path, *files)
    imported(bench, tmp_path, *files, compression="c40")
    assert set(manifest.read(tmp_path / "FFPP_c40")["compression"]) == {"c40"}


@pytest.mark.parametrize(
    ("prefix", "sep"),
    [
        ("", "/"),
        (".\\", "\\"),
        ("/mnt/cluster/FaceForensics++/deepfakes_detection_datasets/", "/"),  # the name twice
        ("D:\\frames\\rgb\\", "\\"),
        ("../../datasets/rgb/", "/"),
    ],
)
def test_what_stands_before_the_datasets_folder_and_its_capitals_do_not_matter(bench, tmp_path, prefix, sep):
    files = list(small_ffpp(bench, prefix=prefix, sep=sep))
    os.rename(bench.rgb / "FaceForensics++", bench.rgb / "faceforensics++")
    report = imported(bench, tmp_path / "a", *files)
    assert (report.n_prepared, report.n_crops) == (8, 24)
    bench.rgb = bench.rgb / "faceforensics++"  # the dataset's folder is a source too
    assert imported(bench, tmp_path / "b", *files).n_crops == 24


def test_the_authors_lists_go_before_the_index(bench, tmp_path):
    files = list(small_ffpp(bench))
    for name, pair in (("train", ["002", "003"]), ("val", ["000", "001"]), ("test", ["004", "005"])):
        (bench.rgb / f"FaceForensics++/{name}.json").write_text(json.dumps([pair]))
    imported(bench, tmp_path, *files)
    split = {key[2]: value[2] for key, value in videos(tmp_path / "FFPP").items()}
    assert split == {
        **dict.fromkeys(("000", "001", "000_001", "001_000"), "val"),
        **dict.fromkeys(("002", "003", "002_003", "003_002"), "train"),
    }


def test_an_id_in_two_splits_of_the_index_has_none(bench, tmp_path):
    reals = {stem: bench.record("FF-real", stem) for stem in ("000", "001", "002")}
    train = {"000": reals["000"], "001": reals["001"]}
    fake = {"001_000": bench.record("FF-DF", "001_000")}
    content = {**shape_a("FF-real", train, test={"002": reals["002"]}), **shape_a("FF-DF", test=fake)}
    report = imported(bench, tmp_path, bench.write("FF-DF", {"FF-DF": content}))
    assert {key[2]: value[2] for key, value in videos(tmp_path / "FFPP").items()} == {
        **{"000": "", "001": "", "001_000": ""},
        "002": "test",
    }
    assert "2 ids are in several splits of the index" in report.summary()


def test_what_is_missing_or_damaged_is_in_the_report_and_nowhere_else(bench, tmp_path):
    reals = {stem: bench.record("FF-real", stem) for stem in ("000", "001", "002", "003", "004", "005")}
    folder = bench.rgb / SUB_ROOTS["FF-real"].format(comp="c23") / "frames"
    reals["001"]["frames"] = []  # as DeepfakeBench writes for videos in which it found no face
    for name in os.listdir(folder / "002"):
        (folder / "002" / name).unlink()
    (folder / "003/014.png").unlink()
    (folder / "003/000.png").write_bytes((folder / "003/000.png").read_bytes()[:60])
    (folder / "004/014.png").write_bytes(b"")
    reals["005"]["frames"] += [
        "FaceForensics++/original_sequences/youtube/c23/frames/000/000.png",
        7,
        "x.txt",
    ]
    reals["005"]["frames"].append("FaceForensics++/original_sequences/youtube/c23/frames/005/last.png")
    fakes = {"000_001": bench.record("FF-DF", "000_001")}
    content = {**shape_a("FF-real", reals), **shape_a("FF-DF", fakes)}
    imported(bench, tmp_path, bench.write("FF-DF", {"FF-DF": content}))
    kept = {key[2]: value[4] for key, value in videos(tmp_path / "FFPP").items()}
    assert kept == {
        "000": [0, 14, 1043],
        "000_001": [0, 14, 1043],
        "003": [1043],
        "004": [0, 1043],
        "005": [0, 14, 1043],
    }
    written = json.loads((tmp_path / "FFPP/prepare-report.json").read_text())
    assert {item["video"]: item["reason"] for item in written["dropped_videos"]} == {
        "real/001": "no_frames",
        "real/002": "missing",
    }
    assert written["dropped_frames"] == [
        {"video": "real/003", "reason": "missing", "frames": [14]},
        {"video": "real/003", "reason": "unreadable", "frames": [0]},
        {"video": "real/004", "reason": "empty", "frames": [14]},
    ]
    notes = "\n".join(written["notes"])
    assert "1 videos name frames of another video, those are left out: FF-real/005" in notes
    assert "1 videos name frames that are no image files, those are left out: FF-real/005" in notes
    assert "1 videos name images that no frame index names, those are left out: FF-real/005" in notes


def test_a_label_that_the_folder_or_the_record_denies_is_not_believed(bench, tmp_path):
    reals = {"000": bench.record("FF-real", "000"), "001": bench.record("FF-real", "001", label="FF-DF")}
    fakes = {
        "000_001": bench.record("FF-DF", "000_001"),
        "001_000": bench.record("FF-F2F", "001_000", label="FF-DF"),  # lies in Face2Face
        "002_003": bench.record("FF-DF", "002_003", comp="c40"),  # lies in c40
        "003_002": bench.record("FF-DF", "003_002"),  # in part in FaceSwap
        "nobody": bench.record("FF-DF", "nobody"),
        "004_005": [],
    }
    fakes["003_002"]["frames"][:1] = bench.frames("FF-FS", "003_002", indices=(7,))
    content = {
        **shape_a("FF-real", reals),
        **shape_a("FF-DF", fakes),
        **shape_a("FF-SH", {"000_001": {"label": "FF-SH", "frames": []}}),
    }
    summary = imported(bench, tmp_path, bench.write("any name", {"FaceForensics++": content})).summary()
    assert sorted(videos(tmp_path / "FFPP")) == [("DF", 0, "000"), ("DF", 1, "000_001")]
    assert "3 videos have frames in the folder of another class or compression, left out" in summary
    assert "1 videos have another label inside their record, left out: FF-real/001" in summary
    assert "1 entries have a name that does not fit the dataset, left out: FF-DF/nobody" in summary
    assert "1 entries are no record of a video, left out: FF-DF/train/004_005" in summary
    assert "1 labels are none of this dataset's, left out: FF-SH" in summary


@pytest.mark.parametrize("with_list", [False, True])
def test_celebdf_a_test_video_in_train_is_a_test_video(bench, tmp_path, with_list):
    real = bench.record("Celeb-real", "id0_0000", label="CelebDFv2_real", sep="/")
    other = bench.record("YouTube-real", "00170", label="CelebDFv2_real", sep="/")
    fake = bench.record("CelebDFv2_fake", "id0_id1_0000", sep="/")
    second = bench.record("CelebDFv2_fake", "id1_id0_0003", sep="/")
    unseen = {"label": "CelebDFv2_real", "frames": []}
    content = {
        "CelebDFv2_real": {
            "train": {"id0_0000": real, "00170": other},
            "val": {"00170": other},
            "test": {"00170": other, "id9_0001": unseen},
        },
        "CelebDFv2_fake": {
            "train": {"id0_id1_0000": fake, "id1_id0_0003": second},
            "val": {"id0_id1_0000": fake},
            "test": {"id0_id1_0000": fake},
        },
    }
    if with_list:  # labels there are 1 real, 0 fake
        lines = [
            "1 YouTube-real/00170.mp4",
            "0 Celeb-synthesis/id0_id1_0000.mp4",
            "1 Celeb-real/id9_0001.mp4",
        ]
        (bench.rgb / "Celeb-DF-v2/List_of_testing_videos.txt").write_text("\n".join(lines))
    report = imported(bench, tmp_path, bench.write("Celeb-DF-v2", {"Celeb-DF-v2": content}))
    found = {key[1:]: value[:4] for key, value in videos(tmp_path / "CelebDF2").items()}
    assert found == {
        (0, "id0_0000"): ("id0_0000", "id0", "train", "real"),
        (0, "00170"): ("00170", "00170", "test", "real"),
        (1, "id0_id1_0000"): ("id0_0000", "id0+id1", "test", "Celeb-synthesis"),
        (1, "id1_id0_0003"): ("id1_0003", "id0+id1", "train", "Celeb-synthesis"),
    }
    summary = report.summary()
    assert "2 videos of the index's 'train' are test videos; their 'split' is test" in summary
    assert "2 entries of the index's 'val' were not read" in summary
    assert "dropped, its list of frames is empty: 1 video (Celeb-real/id9_0001)" in summary
    assert ("there is no List_of_testing_videos.txt" in summary) == (not with_list)


def test_dfdc_val_is_not_read_and_originals_come_from_the_parts(bench, tmp_path):
    real = bench.record("DFDC_train", "aaaaaaaaaa", label="DFDC_Real")
    fake = bench.record("DFDC_train", "bbbbbbbbbb", label="DFDC_Fake")
    wrong = bench.record("DFDC_train", "cccccccccc", label="DFDC_Fake")
    test_real = bench.record("DFDC_test", "jjjjjjjjjj", label="DFDC_Real")
    test_fake = bench.record("DFDC_test", "kkkkkkkkkk", label="DFDC_Fake")
    content = {
        "DFDC_Real": {"train": {"aaaaaaaaaa": real}, "val": test_real, "test": {"jjjjjjjjjj": test_real}},
        "DFDC_Fake": {
            "train": {"bbbbbbbbbb": fake, "cccccccccc": wrong},
            "val": {"label": "DFDC_Fake", "frames": test_fake["frames"], "kkkkkkkkkk": test_fake},
            "test": {"kkkkkkkkkk": test_fake},
        },
    }
    metadata = {
        "bbbbbbbbbb.mp4": {"label": "FAKE", "original": "aaaaaaaaaa.mp4"},
        "cccccccccc.mp4": {"label": "REAL"},
    }
    (bench.rgb / "DFDC/train/dfdc_train_part_7/metadata.json").write_text(json.dumps(metadata))
    report = imported(bench, tmp_path, bench.write("DFDC", {"DFDC": content}))
    assert {key[1:]: value[:4] for key, value in videos(tmp_path / "DFDC").items()} == {
        (0, "aaaaaaaaaa"): ("aaaaaaaaaa", "", "train", "real"),
        (1, "bbbbbbbbbb"): ("aaaaaaaaaa", "", "train", "DFDC"),
        (0, "jjjjjjjjjj"): ("jjjjjjjjjj", "", "test", "real"),
        (1, "kkkkkkkkkk"): ("kkkkkkkkkk", "", "test", "DFDC"),
    }
    summary = report.summary()
    assert "1 videos have another label in metadata.json or labels.csv, left out: DFDC_Fake/ccc" in summary
    assert (
        "5 entries of the index's 'val' were not read" in summary
    )  # 2 keys of a record, 3 beside each other
    assert [count.name for count in report.classes] == ["train real", "train fake", "test real", "test fake"]


def test_a_name_never_leads_out_of_the_tree(bench, tmp_path):
    names = ("../../../escaped", "..", "", "a/b", "..\\up", "/tmp/x")
    real = bench.record("DFDC_test", "jjjjjjjjjj", label="DFDC_Real")
    fakes = {name: {"label": "DFDC_Fake", "frames": []} for name in names}
    content = {"DFDC_Real": {"test": {"jjjjjjjjjj": real}}, "DFDC_Fake": {"test": fakes}}
    report = imported(bench, tmp_path / "a/b/c/out", bench.write("DFDC", {"DFDC": content}))
    assert [outcome.key for outcome in report.outcomes] == ["test real/jjjjjjjjjj"]
    assert "6 entries have a name that cannot be a folder's, left out" in report.summary()
    assert sorted(os.listdir(tmp_path)) == ["a", "datasets", "json"]


def test_the_datasets_without_a_split_get_none_from_three_equal_copies(bench, tmp_path):
    actors = {"01__kitchen_pan": bench.record("DFD_real", "01__kitchen_pan")}
    forged = {"01_02__kitchen_pan__ABCD1234": bench.record("DFD_fake", "01_02__kitchen_pan__ABCD1234")}
    content = {**shape_a("DFD_real", actors, actors, actors), **shape_a("DFD_fake", forged, forged, forged)}
    report = imported(bench, tmp_path, bench.write("DeepFakeDetection", {"DeepFakeDetection": content}))
    assert videos(tmp_path / "DFD") == {
        ("DFD", 0, "01__kitchen_pan"): ("01__kitchen_pan", "01", "", "real", [0, 14, 1043]),
        ("DFD", 1, "01_02__kitchen_pan__ABCD1234"): (
            *("01__kitchen_pan", "01+02", "", "DeepFakeDetection"),
            [0, 14, 1043],
        ),
    }
    assert "'prepare dfd' uses the masks" in report.summary()

    real, fake = bench.record("UADFV_Real", "0003"), bench.record("UADFV_Fake", "0003_fake")
    content = {
        "UADFV_Real": {split: {"0003": real} for split in ("train", "val", "test")},
        "UADFV_Fake": {split: {"0003_fake": fake} for split in ("train", "val", "test")},
    }
    imported(bench, tmp_path, bench.write("UADFV", {"UADFV": content}))
    assert {key[2]: value[:3] for key, value in videos(tmp_path / "UADFV").items()} == {
        "0003": ("0003", "0003", ""),
        "0003_fake": ("0003", "0003", ""),
    }


def test_faceshifter_and_the_dfdc_preview(bench, tmp_path):
    reals, fakes = {"000": bench.record("FF-real", "000")}, {"000_001": bench.record("FF-FH", "000_001")}
    content = {**shape_a("FF-real", test=reals), **shape_a("FF-FH", test=fakes)}
    imported(bench, tmp_path, bench.write("FaceShifter", {"FaceShifter": content}))
    assert {key: value[:4] for key, value in videos(tmp_path / "FaceShifter").items()} == {
        ("FaceShifter", 0, "000"): ("000", "000", "test", "real"),
        ("FaceShifter", 1, "000_001"): ("000", "000+001", "test", "FaceShifter"),
    }
    stem = "12_11_A_001"
    content = {
        "DFDCP_Real": {"train": {"11_A_001": bench.record("DFDCP_Real", "11_A_001")}},
        "DFDCP_FakeA": {"train": {stem: bench.record("DFDCP_FakeA", stem)}, "val": {}},
        "DFDCP_FakeB": {"test": {stem: bench.record("DFDCP_FakeB", stem)}},
    }
    imported(bench, tmp_path, bench.write("DFDCP", {"DFDCP": content}))
    assert {key[1:]: value[:4] for key, value in videos(tmp_path / "DFDCP").items()} == {
        (0, "11_A_001"): ("11_A_001", "11", "train", "real"),
        (1, f"method_A-{stem}"): ("11_A_001", "11+12", "train", "method_A"),
        (1, f"method_B-{stem}"): ("11_A_001", "11+12", "test", "method_B"),
    }


def test_frames_are_chosen_evenly_among_those_that_are_there(bench, tmp_path):
    files = list(small_ffpp(bench, indices=tuple(range(0, 50, 10)) + (75, 99, 101)))
    (bench.rgb / "FaceForensics++/manipulated_sequences/FaceSwap/c23/frames/002_003/000.png").unlink()
    imported(bench, tmp_path, *files, n_frames=3)
    found = videos(tmp_path / "FFPP")
    assert found["DF", 1, "000_001"][4] == [0, 30, 101]  # of 8: 0, floor(7/2), 7
    assert found["FS", 1, "002_003"][4] == [10, 40, 101]  # of the 7 that are left: 0, 3, 6


def test_a_second_run_links_nothing_again_and_other_files_add_to_the_tree(bench, tmp_path):
    files = list(small_ffpp(bench))
    imported(bench, tmp_path / "at once", *files)
    imported(bench, tmp_path / "out", *files[:2])
    report = imported(bench, tmp_path / "out", *files[2:])
    assert report.n_resumed == 4  # the reals
    assert "2 videos prepared earlier are not in this source; they are kept" in report.summary()
    assert manifest.read(tmp_path / "out/FFPP").equals(manifest.read(tmp_path / "at once/FFPP"))
    with pytest.raises(RogaError, match=r"other options \(link was 'copy', now 'symlink'\)"):
        imported(bench, tmp_path / "out", *files, link="symlink")


def test_what_was_taken_over_stays_when_the_frames_go(bench, tmp_path):
    files = list(small_ffpp(bench))
    imported(bench, tmp_path, *files)
    before = manifest.read(tmp_path / "FFPP")
    shutil.rmtree(bench.rgb / "FaceForensics++/manipulated_sequences/FaceSwap")
    assert imported(bench, tmp_path, *files).n_resumed == 8
    assert manifest.read(tmp_path / "FFPP").equals(before)
    imported(bench, tmp_path, *files, overwrite=True)
    assert "FS" not in set(manifest.read(tmp_path / "FFPP").query("label == 1")["env"])


def test_a_source_on_another_disk_says_what_to_do(bench, tmp_path, monkeypatch):
    def refuse(path, target):
        raise OSError(18, "Invalid cross-device link", str(path))

    monkeypatch.setitem(LINKS, "hardlink", refuse)
    with pytest.raises(RogaError, match=r"--link hardlink: .*Invalid cross-device link.*use --link copy"):
        imported(bench, tmp_path / "out", *small_ffpp(bench), link="hardlink")
    assert not (tmp_path / "out/FFPP/manifest.parquet").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not valid JSON"),
        ("[]", "expected a mapping, got a list"),
        ("{}", "is empty"),
        ('{"FF-DF": []}', "FF-DF must hold labels"),
        ('{"FF-Df": {}}', "unknown dataset 'FF-Df' (did you mean 'FF-DF'?)"),
        ('{"FF-DF": {}}', "the index has no c23 videos; it has no videos at all"),
        ('{"UADFV": {"UADFV_Real": {"train": 3, "dev": {}}}}', "the index names no usable video of UADFV"),
        ('{"FF-DF": {"FF-DF": {"train": {"c23": {"000_001": {"frames": ["x"]}}}}}}', None),
        ('{"FF-DF": {"FF-DF": {"train": {"000_001": {"frames": []}}}}}', "no c23 videos"),
    ],
)
def test_a_file_that_is_no_index_is_one_error(bench, tmp_path, capsys, text, words):
    path = bench.json / "index.json"
    path.write_text(text)
    argv = ["--source", str(bench.rgb), "--json", str(path), "--data_dir", str(tmp_path / "out")]
    assert main(["prepare", "deepfakebench", *argv, "--n_workers", "1"]) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert (words or "nothing was prepared") in error


def test_files_of_two_datasets_and_other_faults_come_at_once(bench, tmp_path, capsys):
    a = bench.write("a", {"FF-DF": {}})
    b = bench.write("b", {"Celeb-DF-v2": {}})
    argv = ["--source", str(tmp_path / "nowhere"), "--json", str(a), str(b), str(tmp_path / "c.json")]
    assert (
        main(["prepare", "deepfakebench", *argv, "--data_dir", str(tmp_path / "out"), "--n_frames", "0"]) == 2
    )
    error = capsys.readouterr().err
    for words in (
        "is not a folder",
        "c.json' cannot be used: No such file",
        "files of FFPP, CelebDF2",
        "--n_frames must be",
    ):
        assert words in error
    assert not (tmp_path / "out").exists()


def places(node, path=()):
    """The paths to all nodes of a JSON value."""
    yield path
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield from places(value, (*path, key))


def test_an_option_that_has_no_effect_on_the_dataset_is_a_fault(bench, tmp_path):
    content = {"UADFV_Real": {"train": {"0003": bench.record("UADFV_Real", "0003")}}}
    with pytest.raises(RogaError) as caught:
        imported(bench, tmp_path, bench.write("UADFV", {"UADFV": content}), compression="c23", splits="lists")
    for message in (
        "--compression c23: UADFV comes in one compression; leave it out",
        "--splits 'lists': those lists are FaceForensics++'s, not UADFV's; leave it out",
    ):
        assert message in str(caught.value)


def with_node(node, path, value):
    """A copy of a JSON value with another node at ``path``."""
    if not path:
        return value
    copy = dict(node) if isinstance(node, dict) else list(node)
    copy[path[0]] = with_node(node[path[0]], path[1:], value)
    return copy


@pytest.mark.parametrize(
    "odd", [None, 3, "x", [], {}, ["x"], {"x": {}}, {"label": "FF-real", "frames": []}], ids=str
)
def test_whatever_stands_anywhere_in_the_index_no_label_is_wrong_and_nothing_breaks(bench, odd):
    reals = {stem: bench.record("FF-real", stem, indices=(0, 4)) for stem in ("000", "001")}
    fakes = {"000_001": {**bench.record("FF-DF", "000_001", indices=(0, 4)), "masks": []}}
    index = {"FF-DF": {**shape_a("FF-real", reals), **shape_a("FF-DF", fakes)}}
    labels = {"000": 0, "001": 0, "000_001": 1}
    n_read = 0
    for path in places(index):
        file = bench.write("index", with_node(index, path, odd))
        problems = Problems()
        try:
            layout = deepfakebench.read(bench.rgb, [file], "c23", None, problems)
        except RogaError:
            continue
        n_read += 1
        for video in layout.videos.values():
            assert video.label == labels[video.name]
            assert all(file.parent.name == video.name and file.is_file() for _, file in video.frames)
    assert n_read > 10
