"""'prepare folder': environments, classes, videos, recordings and people from folders alone."""

import numpy as np
import pytest
from PIL import Image
from prepare_videos import SIDE, level, write_video

from datasets_ext import manifest
from datasets_ext.prepare import driver, plain_folders
from datasets_ext.prepare.link import LinkOptions
from datasets_ext.prepare.options import CropOptions
from roga_domainbed.cli import main
from roga_domainbed.errors import Problems, RogaError

pytestmark = pytest.mark.usefixtures("few_thumbnails")


def picture(path, value=100):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (value,) * 3).save(path)


def pictures(folder, *names):
    for number, name in enumerate(names):
        picture(folder / name, 10 * number)


def prepared(source, out, *, name=None, real=(), fake=(), identity=None):
    def read(problems):
        return plain_folders.read(source, name, real, fake, identity, problems, only_images=True)

    return driver.prepare(read, out, LinkOptions(link="hardlink"))


def rows_of(out, name="own"):
    rows = manifest.read(out / name)
    return {
        (row.env, row.label, row.video, row.frame, row.recording, row.identities) for row in rows.itertuples()
    }


def faults(source, **given):
    problems = Problems()
    values = {"name": None, "real": (), "fake": (), "identity": None} | given
    plain_folders.read(
        source, values["name"], values["real"], values["fake"], values["identity"], problems, True
    )
    return " | ".join(problems.messages)


def test_images_are_videos_and_images_in_a_folder_are_the_frames_of_one(tmp_path):
    source = tmp_path / "own"
    pictures(source / "lab/real", "ann.png", "ben/3.png", "ben/12.png")
    pictures(source / "lab/fake", "ann.png", "ben/one.png", "ben/two.png", "ben/deep/1.png")
    pictures(source / "web/original", "cleo.jpg")
    pictures(source / "web/GAN fakes", "cleo.png")
    report = prepared(source, tmp_path / "out")
    assert rows_of(tmp_path / "out") == {
        ("lab", 0, "ann", 0, "ann", ""),
        ("lab", 0, "ben", 3, "ben", ""),
        ("lab", 0, "ben", 12, "ben", ""),
        ("lab", 1, "ann", 0, "ann", ""),
        ("lab", 1, "ben", 0, "ben", ""),
        ("lab", 1, "ben", 1, "ben", ""),
        ("lab", 1, "ben__deep", 1, "ben__deep", ""),
        ("web", 0, "cleo", 0, "cleo", ""),
        ("web", 1, "cleo", 0, "cleo", ""),
    }
    methods = manifest.read(tmp_path / "out/own").groupby("env")["method"].agg(set)
    assert methods.to_dict() == {"lab": {"real", "fake"}, "web": {"real", "GAN fakes"}}
    assert any("count as one recording (ann, ben, cleo: 3 in all)" in note for note in report.notes)


@pytest.mark.parametrize(
    ("identity", "expected"),
    [
        ("folder", {"a": "p1", "b": "p1", "c": "p2"}),
        (r"^(\w)", {"a": "a", "b": "b", "c": "c"}),
        (r"\d", {"a": "7", "b": "7", "c": ""}),
    ],
)
def test_a_rule_says_who_is_in_a_picture(tmp_path, identity, expected):
    for kind in ("real", "fake"):
        pictures(tmp_path / "own/lab" / kind, "p1/a/a7.png", "p1/b/b7.png", "p2/c/c.png")
    if identity == "folder":
        expected = {name: f"{person}-{name}" for name, person in expected.items()}
    prepared(tmp_path / "own", tmp_path / "out", identity=identity)
    found = {video.split("__")[1]: people for _, _, video, _, _, people in rows_of(tmp_path / "out")}
    assert found == expected


def test_two_class_folders_of_one_class_keep_their_files_apart_and_their_recordings_together(tmp_path):
    pictures(tmp_path / "own/lab/real", "a.png")
    pictures(tmp_path / "own/lab/deepfakes", "a.png")
    pictures(tmp_path / "own/lab/spoof", "a.png", "a.jpg")
    prepared(tmp_path / "own", tmp_path / "out")
    assert rows_of(tmp_path / "out") == {
        ("lab", 0, "a", 0, "a", ""),
        ("lab", 1, "deepfakes__a", 0, "a", ""),
        ("lab", 1, "spoof__a.jpg", 0, "a.jpg", ""),
        ("lab", 1, "spoof__a.png", 0, "a.png", ""),
    }


def test_a_source_with_the_classes_is_one_environment_and_the_name_can_be_chosen(tmp_path):
    pictures(tmp_path / "web/genuine", "a.png")
    pictures(tmp_path / "web/forged", "a.png")
    prepared(tmp_path / "web", tmp_path / "out", name="Mine")
    assert {row[:3] for row in rows_of(tmp_path / "out", "Mine")} == {("web", 0, "a"), ("web", 1, "a")}


@pytest.mark.usefixtures("squares")
def test_faces_are_cut_out_of_images_and_videos(tmp_path):
    image = np.zeros((64, 96, 3), np.uint8)
    image[20 : 20 + SIDE, 40 : 40 + SIDE] = level(2)
    (tmp_path / "own/lab/real").mkdir(parents=True)
    Image.fromarray(image).save(tmp_path / "own/lab/real/ann.png")
    (tmp_path / "own/lab/fake").mkdir()
    write_video(tmp_path / "own/lab/fake/ben.mp4", 4)
    options = CropOptions(n_frames=3, size=32, margin=1.5, detector="squares")
    driver.prepare(
        lambda problems: plain_folders.read(tmp_path / "own", None, (), (), None, problems),
        tmp_path / "out",
        options,
    )
    assert {row[:4] for row in rows_of(tmp_path / "out")} == {
        ("lab", 0, "ann", 0),
        *(("lab", 1, "ben", index) for index in (0, 1, 3)),
    }
    with Image.open(tmp_path / "out/own/lab/0_real/ann/0000.png") as crop:
        assert crop.size == (32, 32)


#: (a real folder, a fake folder): whether their names tell
PAIRS = [
    ("nature", "ai", True),
    ("not_fake", "fake", True),
    ("real", "not_real", True),
    ("0", "1", False),
    ("real", "Real-ESRGAN", False),
]


@pytest.mark.parametrize(("real", "fake", "tells"), PAIRS)
def test_class_folders_are_understood_or_must_be_said(tmp_path, real, fake, tells):
    for env in ("lab", "web"):
        pictures(tmp_path / "own" / env / real, "dark.png")
        pictures(tmp_path / "own" / env / fake, "bright.png")
    if not tells:
        with pytest.raises(RogaError, match="Say which are which with --real NAME --fake NAME"):
            prepared(tmp_path / "own", tmp_path / "out")
        prepared(tmp_path / "own", tmp_path / "out", real=[real], fake=[fake])
    else:
        prepared(tmp_path / "own", tmp_path / "out")
    found = {row[:3] for row in rows_of(tmp_path / "out")}
    assert found == {
        (env, label, video) for env in ("lab", "web") for label, video in enumerate(("dark", "bright"))
    }


def test_what_is_wrong_is_said_before_anything_is_written(tmp_path):
    pictures(tmp_path / "own/lab/real", "a.png")
    pictures(tmp_path / "own/lab/fake", "a.png")
    assert "--source 'nowhere' is not a folder" in faults("nowhere")
    assert "--name 'a/b' cannot be the name of a folder" in faults(tmp_path / "own", name="a/b")
    assert "'FFPP' is a dataset that 'roga-domainbed list' shows" in faults(tmp_path / "own", name="FFPP")
    assert "--real camera: no such folder; there are 'lab', 'fake', 'real'" in faults(
        tmp_path / "own", real=["camera"]
    )
    assert "--identity '(' is none of stem, folder" in faults(tmp_path / "own", identity="(")
    pictures(tmp_path / "parts/train/real", "a.png")
    pictures(tmp_path / "parts/train/fake", "a.png")
    assert "'train' are parts of a dataset, not environments" in faults(tmp_path / "parts")
    assert "has no folders real and fake in it" in faults(tmp_path / "own/lab/real")
    pictures(tmp_path / "odd/lab/camera", "a.png")
    assert "found 'lab'; not understood: 'lab', 'lab/camera'" in faults(tmp_path / "odd")
    (tmp_path / "empty/lab/real").mkdir(parents=True)
    (tmp_path / "empty/lab/fake").mkdir()
    assert "has no images" in faults(tmp_path / "empty")


def test_the_command_ends_with_the_next_one(tmp_path, capsys):
    for env in ("lab", "web", "tv"):
        pictures(tmp_path / "own" / env / "real", *(f"{name}.png" for name in "abcdef"))
        pictures(tmp_path / "own" / env / "fake", *(f"{name}.png" for name in "abcdef"))
    argv = [
        "prepare",
        "folder",
        "--source",
        tmp_path / "own",
        "--link",
        "copy",
        "--data_dir",
        tmp_path / "data",
    ]
    assert main([*map(str, argv), "--n_workers", "1"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("next: roga-domainbed sweep launch --datasets own --algorithms ERM RoGA")
    assert "--split group" in last
    words = last.removeprefix("next: roga-domainbed ").split()
    # The command is one that can be run; --dry-run makes its checks.
    assert main([*words, "--dry-run"]) == 0
    assert "18 jobs: 0 done" in capsys.readouterr().out
