"""Which class is fake, videos and stray files in ``predict`` and ``evaluate``. The model takes what is bright for 1."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from prepare_videos import SQUARES, encode, write_video

from datasets_ext.prepare.detectors import DETECTORS
from roga_domainbed.cli import main
from roga_domainbed.inference import predict as predict_module
from roga_domainbed.inference import saved_run
from roga_domainbed.inference.saved_run import SavedRun, load_run
from roga_domainbed.input.classes import class_indices
from roga_domainbed.trainer.config import TrainConfig
from roga_domainbed.trainer.run import train

DARK, BRIGHT = 40, 200


class Brightness(torch.nn.Module):
    def predict(self, x):
        level = 10 * x.mean((1, 2, 3))
        return torch.stack([-level, level], 1)


@pytest.fixture
def model_of(monkeypatch):
    """Make RUN a model of these classes, which was trained on that dataset."""

    def make(classes, dataset="PACS", data_dir="nowhere", n_classes=2):
        args = TrainConfig(data_dir=str(data_dir), dataset=dataset, test_envs=[3]).record_args()

        def load(where):
            return SavedRun(
                Path("model.pkl"), args, {}, (3, 32, 32), n_classes, Brightness(), torch.device("cpu"), {},
                None if classes is None else tuple(classes),
            )  # fmt: skip

        monkeypatch.setattr(predict_module, "load_run", load)
        monkeypatch.setattr(saved_run, "load_run", load)

    return make


def image(path, level):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (32, 32), (level,) * 3).save(path)
    return path


def folder_of(place, levels, n=2):
    for name, level in levels.items():
        for i in range(n):
            image(place / name / f"{i}.png", level + i)
    return place


def command(capsys, *argv, code=0):
    assert main([*map(str, argv)]) == code
    return capsys.readouterr()


def evaluated(capsys, *argv):
    # what the model was trained on is nowhere, so whether it has seen this cannot be told
    return json.loads(command(capsys, "evaluate", "RUN", *argv, "--allow_leakage", "--format", "json").out)


UNDERSTOOD = [
    ("nature", "ai"), ("not_fake", "fake"), ("real", "not_real"), ("Original", "1_manipulated"), ("bona fide", "spoof"),
    ("real", "unreal"), ("0_REAL", "1_FAKE"),
]  # fmt: skip
TO_BE_SAID = [("real", "Real-ESRGAN"), ("0", "1"), ("1", "0"), ("camera", "gan"), ("youtube", "deepfakes")]


@pytest.mark.parametrize(("real", "fake"), UNDERSTOOD + TO_BE_SAID)
def test_each_name_gets_its_own_verdict_or_has_to_be_said(model_of, tmp_path, capsys, real, fake):
    indices, classes = class_indices([real, fake])
    model_of(classes)
    levels = {name: (DARK, BRIGHT)[index] for name, index in indices.items()}  # a perfect model
    folder = folder_of(tmp_path / "set", levels)
    said = []
    if (real, fake) in TO_BE_SAID:
        for argv in (["predict", "RUN", folder, "--no_detect"], ["evaluate", "RUN", "--folder", folder]):
            error = command(capsys, *argv, code=2).err
            assert "--real NAME --fake NAME" in error
            assert repr(fake) in error
        said = ["--real", real, "--fake", fake]
    out = command(capsys, "predict", "RUN", folder, "--no_detect", *said).out
    for name, verdict in ((real, "real"), (fake, "fake")):
        lines = [line for line in out.splitlines() if f"/{name}/" in line]
        assert [line.split()[1] for line in lines] == [verdict] * 2
    (row,) = evaluated(capsys, "--folder", folder, *said)["results"]
    assert (row["n"], row["acc"], row["auc"], row["ap"], row["tpr_at_fpr_1pct"]) == (4, 1, 1, 1, 1)


def test_a_model_of_other_classes_is_refused_with_what_its_classes_are(model_of, tmp_path, capsys):
    folder = folder_of(tmp_path / "set", {"real": DARK, "fake": BRIGHT})
    argvs = (["predict", "RUN", folder], ["evaluate", "RUN", "--folder", folder])
    for classes, n, words in (
        (["cat", "dog"], 2, "tells 'cat' from 'dog' (it was trained on PACS)"),
        ([str(i) for i in range(10)], 10, "knows 10 classes: '0', '1', '2', … (it was trained on PACS)"),
        (None, 7, "knows 7 classes (it was trained on PACS)"),
        (None, 2, "does not say which is which (it was trained on PACS)"),  # of version 0.1.0
    ):
        model_of(classes, n_classes=n)
        for argv in argvs:
            assert words in command(capsys, *argv, code=2).err


def test_a_model_of_no_images_is_refused_with_its_classes_too(model_of, tmp_path, capsys):
    model_of([str(i) for i in range(10)], dataset="RotatedMNIST", n_classes=10)
    folder = folder_of(tmp_path / "set", {"real": DARK, "fake": BRIGHT})
    error = command(capsys, "evaluate", "RUN", "--folder", folder, code=2).err
    assert "knows 10 classes: '0', '1', '2', … (it was trained on RotatedMNIST)" in error
    assert "whose samples are no image files" in error


def test_the_numbers_of_a_model_that_has_no_names_can_be_said(model_of, tmp_path, capsys):
    model_of(None)
    folder = folder_of(tmp_path / "set", {"real": BRIGHT, "fake": DARK})
    (row,) = evaluated(capsys, "--folder", folder, "--real", 1, "--fake", 0)["results"]
    assert row["auc"] == 1
    (row,) = evaluated(capsys, "--folder", folder, "--real", 0, "--fake", 1)["results"]
    assert row["auc"] == 0


def test_a_face_dataset_of_version_0_1_0_is_about_real_and_fake(model_of, tmp_path, capsys):
    model_of(None, dataset="SynthFake")
    folder = folder_of(tmp_path / "set", {"real": DARK, "fake": BRIGHT})
    assert evaluated(capsys, "--folder", folder)["results"][0]["auc"] == 1


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            "--real reel --fake fake",
            "--real 'reel' names nothing here: the classes of the model are 'real', 'fake'",
        ),
        ("--real real --fake real", "'real' cannot be both --real and --fake"),
    ],
)
def test_names_that_are_said_must_be_there(model_of, tmp_path, capsys, said, words):
    model_of(["real", "fake"])
    folder = folder_of(tmp_path / "set", {"real": DARK, "fake": BRIGHT})
    assert words in command(capsys, "predict", "RUN", folder, *said.split(), code=2).err
    assert words in command(capsys, "evaluate", "RUN", "--folder", folder, *said.split(), code=2).err


def test_folders_named_like_fakes_that_hold_real_and_fake_are_environments(model_of, tmp_path, capsys):
    model_of(["real", "fake"])
    for name in ("Deepfakes", "FaceSwap"):
        folder_of(tmp_path / "set" / name, {"real": DARK, "fake": BRIGHT})
    rows = evaluated(capsys, "--folder", tmp_path / "set")["results"]
    assert [(row["env_name"], row["auc"]) for row in rows] == [("Deepfakes", 1), ("FaceSwap", 1)]


def test_the_folder_that_keeps_environments_from_being_ones_is_named(model_of, tmp_path, capsys):
    model_of(["real", "fake"])
    folder_of(tmp_path / "set" / "A", {"real": DARK, "fake": BRIGHT})
    folder_of(tmp_path / "set" / "B", {"real": DARK, "masks": BRIGHT})
    (tmp_path / "set" / "notes").mkdir()
    error = command(capsys, "evaluate", "RUN", "--folder", tmp_path / "set", code=2).err
    assert "found 'A', 'B', 'notes'; not understood: 'B/masks', 'notes'. Say which" in error


def test_folders_of_two_meanings_have_to_be_said(model_of, tmp_path, capsys):
    model_of(["real", "fake"])
    for name in ("fake", "real"):  # the folders inside are videos, named after what was forged
        folder_of(tmp_path / "set" / name, {"real_1": BRIGHT if name == "fake" else DARK})
    error = command(capsys, "evaluate", "RUN", "--folder", tmp_path / "set", code=2).err
    assert "may be the classes, and so may the folders in them" in error
    frame, video = evaluated(capsys, "--folder", tmp_path / "set", "--real", "real", "--fake", "fake")[
        "results"
    ]
    assert (frame["auc"], video["n"], video["auc"]) == (1, 2, 1)


def test_a_folder_that_is_not_said_is_left_out_with_a_note(model_of, tmp_path, capsys):
    model_of(["real", "fake"])
    folder = folder_of(tmp_path / "set", {"real": DARK, "fake": BRIGHT, "masks": DARK})
    assert "not understood: 'masks'" in command(capsys, "evaluate", "RUN", "--folder", folder, code=2).err
    found = evaluated(capsys, "--folder", folder, "--real", "real", "--fake", "fake")
    assert found["results"][0]["n"] == 4
    (note,) = [note for note in found["notes"] if "in no class folder" in note]
    assert note.startswith(
        f"images and videos in no class folder are left out, 2: {str(folder / 'masks/0.png')!r}"
    )


def test_a_trained_model_says_what_its_classes_are(tmp_path, capsys):
    for env in "ACPS":
        folder_of(tmp_path / "PACS" / env, {"fake": BRIGHT, "not_fake": DARK}, n=5)
    image(tmp_path / "PACS" / "A" / "loose.png", DARK)
    hparams = json.dumps({"backbone": "meso4", "pretrained": False, "batch_size": 2})
    train(
        TrainConfig(
            str(tmp_path), "PACS", output_dir=str(tmp_path / "run"), hparams=hparams, steps=1, n_workers=0
        )
    )
    out = capsys.readouterr().out
    assert f"in no class folder are left out, 1: {str(tmp_path / 'PACS/A/loose.png')!r}" in out
    assert load_run(tmp_path / "run").class_names == ("real", "fake")
    (tmp_path / "PACS" / "C" / "not_fake").rename(tmp_path / "PACS" / "C" / "Real-ESRGAN")
    error = command(capsys, "evaluate", tmp_path / "run", code=2).err
    assert "lacks the class" in error


# --- trees ----------------------------------------------------------------------------------------------------------


def test_linked_folders_are_predicted_once_and_loops_end(model_of, tmp_path, capsys):
    model_of(["real", "fake"])
    image(tmp_path / "pool" / "b.png", BRIGHT)
    image(tmp_path / "in" / "sub" / "a.png", DARK)
    (tmp_path / "in" / "linked").symlink_to("../pool")
    (tmp_path / "in" / "sub" / "loop").symlink_to("..")
    os.mkfifo(tmp_path / "in" / "pipe.png")
    out = command(capsys, "predict", "RUN", tmp_path / "in", "--no_detect", "--format", "json").out
    names = [os.path.relpath(found["path"], tmp_path / "in") for found in json.loads(out)["results"]]
    assert names == ["linked/b.png", "sub/a.png"]
    error = command(capsys, "predict", "RUN", tmp_path / "in" / "pipe.png", "nothing", code=2).err
    assert "pipe.png' cannot be read: not a regular file but a named pipe" in error
    assert "no such file or folder: 'nothing'" in error


def test_pictures_taken_whole_that_cannot_be_read_are_named_and_the_rest_is_done(model_of, tmp_path, capsys):
    model_of(["real", "fake"])
    image(tmp_path / "a.png", DARK)
    (tmp_path / "b.png").write_bytes(b"")
    image(tmp_path / "c.png", BRIGHT)
    out = command(capsys, "predict", "RUN", tmp_path, "--no_detect", code=1).out
    lines = out.split("p(fake)\n")[1].splitlines()
    assert [line.split()[1] for line in (lines[0], lines[2])] == ["real", "fake"]
    assert "b.png' (it is empty)" in lines[1]


def test_links_in_class_folders_are_followed_and_do_not_lead_into_the_other_class(model_of, tmp_path, capsys):
    model_of(["real", "fake"])
    folder = folder_of(tmp_path / "set", {"real": DARK, "fake": BRIGHT})
    folder_of(tmp_path / "pool", {"v1": DARK})
    (folder / "real" / "v1").symlink_to("../../pool/v1")
    (folder / "real" / "other").symlink_to("../fake")
    (folder / "fake" / "up").symlink_to("../..")
    found = evaluated(capsys, "--folder", folder)
    assert [row["n"] for row in found["results"]] == [6, 1]
    assert found["results"][0]["acc"] == 1


def test_loose_images_beside_folders_of_videos_do_not_take_the_videos_away(model_of, tmp_path, capsys):
    model_of(["real", "fake"])
    folder_of(tmp_path / "set" / "real", {"v1": DARK, "v2": DARK})
    folder_of(tmp_path / "set" / "fake", {"v1": BRIGHT})
    image(tmp_path / "set" / "real" / "loose.png", DARK)
    argv = ["--folder", tmp_path / "set", "--save_scores", tmp_path / "scores.parquet"]
    found = evaluated(capsys, *argv)
    frame, video = found["results"]
    assert (frame["n"], video["n"], video["auc"]) == (7, 3, 1)
    assert [note for note in found["notes"] if "count as frames, in no video, 1: 'real/loose.png'" in note]
    scores = pd.read_parquet(tmp_path / "scores.parquet").set_index("path")
    assert pd.isna(scores.loc["real/loose.png", "video"])
    assert scores.loc["fake/v1/0.png", "video"] == "set/1/v1"


def test_all_images_that_cannot_be_read_are_counted_and_the_first_named(model_of, tmp_path, capsys):
    model_of(["real", "fake"])
    folder = folder_of(tmp_path / "set", {"real": DARK, "fake": BRIGHT}, n=4)
    for i in range(4):
        (folder / "real" / f"{i}.png").write_bytes(b"")
    for i in range(3):
        (folder / "fake" / f"{i}.png").write_bytes(b"no image")
    error = command(capsys, "evaluate", "RUN", "--folder", folder, "--allow_leakage", code=2).err
    assert "7 images cannot be read:\n" in error
    assert error.count("cannot read the image") == 5
    assert f"{str(folder / 'real/0.png')!r} (it is empty)" in error
    assert f"{str(folder / 'fake/0.png')!r} (it is in no image format)" in error
    assert "and 2 more" in error


# --- videos ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def squares(tmp_path):
    """The training data say that faces were found by the detector of squares, in 4 frames."""
    (tmp_path / "SynthFake").mkdir()
    options = {"options": {"n_frames": 4, "size": 32, "margin": 1.0, "detector": "squares"}}
    (tmp_path / "SynthFake" / "prepare-report.json").write_text(json.dumps(options))
    with DETECTORS.temporarily(SQUARES):
        yield


def test_a_video_file_is_evaluated_as_predict_scores_it(squares, model_of, tmp_path, capsys):
    model_of(["real", "fake"], "SynthFake", tmp_path)
    (tmp_path / "set" / "real").mkdir(parents=True)
    folder_of(tmp_path / "set" / "fake", {"v1": BRIGHT})
    write_video(tmp_path / "set" / "real" / "a.mp4", n_frames=6, no_face=(2,))
    encode(tmp_path / "set" / "real" / "none.mp4", [np.zeros((64, 96, 3), np.uint8)] * 3)
    out = command(capsys, "predict", "RUN", tmp_path / "set" / "real" / "a.mp4", "--format", "json").out
    (predicted,) = json.loads(out)["results"]
    found = evaluated(capsys, "--folder", tmp_path / "set", "--save_scores", tmp_path / "scores.parquet")
    frame, video = found["results"]
    assert (frame["n"], video["n"]) == (2 + 4, 2), "frames 0 1 3 5 of the video have a face"
    scores = pd.read_parquet(tmp_path / "scores.parquet").query("path == 'real/a.mp4'")
    assert set(scores["label"]) == {0}
    np.testing.assert_allclose(
        scores["score"], [face["probability"] for face in predicted["faces"]], atol=1e-12
    )
    assert scores["score"].mean() == pytest.approx(predicted["probability"])
    assert [
        note
        for note in found["notes"]
        if note.startswith("video files: faces by squares, margin 1, 32 pixels")
    ]
    assert [
        note for note in found["notes"] if "1 of 2 video files show no face" in note and "none.mp4" in note
    ]


def test_frames_can_be_taken_whole_and_videos_alone_are_enough(squares, model_of, tmp_path, capsys):
    model_of(["real", "fake"], "SynthFake", tmp_path)
    for name, level in (("real", DARK), ("fake", BRIGHT)):
        (tmp_path / "set" / name).mkdir(parents=True)
        encode(tmp_path / "set" / name / "a.mp4", [np.full((64, 96, 3), level, np.uint8)] * 6)
    frame, video = evaluated(capsys, "--folder", tmp_path / "set", "--no_detect")["results"]
    assert (frame["n"], frame["auc"], video["n"], video["auc"]) == (8, 1, 2, 1)


def test_videos_and_images_that_cannot_be_read_are_named_together(squares, model_of, tmp_path, capsys):
    model_of(["real", "fake"], "SynthFake", tmp_path)
    folder = folder_of(tmp_path / "set", {"real": DARK, "fake": BRIGHT})
    (folder / "real" / "0.png").write_bytes(b"")
    (folder / "fake" / "a.mp4").write_bytes(b"nothing of the kind")
    error = command(capsys, "evaluate", "RUN", "--folder", folder, "--allow_leakage", code=2).err
    assert "2 problems:" in error
    assert "1 images cannot be read:" in error
    assert "cannot read the video" in error
