"""``predict``: faces of images and videos that are bright squares, found by a detector of squares."""

import csv
import html
import io
import json
import os
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from prepare_videos import SQUARES, SquareDetector, write_video

from datasets_ext.folder import face_tensor
from datasets_ext.prepare.detectors import DETECTORS
from roga_domainbed.cli import main
from roga_domainbed.inference.saved_run import load_run
from roga_domainbed.trainer.calibration import Calibration, Thresholds
from roga_domainbed.trainer.config import TrainConfig
from roga_domainbed.trainer.familiarity import Familiarity, described, gaussian
from roga_domainbed.upstream import bridge


@pytest.fixture
def squares():
    with DETECTORS.temporarily(SQUARES):
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A network for faces of 32 pixels that never learnt anything, and whose answers differ by brightness."""
    host = bridge.register()
    hparams = host.hparams_registry.default_hparams("ERM", "SynthFake") | {"image_size": 32}
    torch.manual_seed(0)
    network = host.algorithms.get_algorithm_class("ERM")((3, 32, 32), 2, 3, hparams)
    path = tmp_path_factory.mktemp("models") / "model.pkl"
    content = {
        "args": TrainConfig(data_dir="nowhere", dataset="SynthFake", test_envs=[3]).record_args(),
        "model_input_shape": (3, 32, 32),
        "model_num_classes": 2,
        "model_num_domains": 3,
        "model_hparams": hparams,
        "model_dict": network.state_dict(),
    }
    torch.save(content, path)
    return path


def predict(capsys, *argv, code=0):
    assert main(["predict", *map(str, argv)]) == code
    return capsys.readouterr()


def results(capsys, *argv, code=0):
    return json.loads(predict(capsys, *argv, "--detector", "squares", "--format", "json", code=code).out)


def picture(path, *squares, size=(96, 64)):
    """A dark picture with bright squares of (x, y, side, level)."""
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    for x, y, side, level in squares:
        pixels[y : y + side, x : x + side] = level
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def test_a_folder_of_frames_is_a_video_if_it_is_said(squares, model, tmp_path, capsys):
    for number in range(5):
        picture(tmp_path / "clips" / "a" / f"{number}.png", (20, 10, 30, 100 + 30 * number))
    picture(tmp_path / "clips" / "b" / "0.png")
    faces = results(capsys, model, tmp_path / "clips" / "a")["results"]
    one, none = results(capsys, model, tmp_path / "clips", "--frames", "--n_frames", 3)["results"]
    # Frames 0 2 4 of five; each has the probability that its picture has alone.
    assert [face["frame"] for face in one["faces"]] == [0, 2, 4]
    alone = [found["faces"][0]["probability"] for found in faces]
    assert len(set(alone)) == 5
    assert [face["probability"] for face in one["faces"]] == pytest.approx(alone[::2], rel=1e-6)
    assert one["probability"] == pytest.approx(np.mean(alone[::2]), rel=1e-6)
    assert (one["kind"], one["n_frames"], one["path"]) == ("video", 3, str(tmp_path / "clips" / "a"))
    assert (none["faces"], none["n_frames"]) == ([], 1)

    (tmp_path / "clips" / "b" / "1.png").write_bytes(b"")
    found = results(capsys, model, tmp_path / "clips", "--frames", code=1)["results"]
    assert [bool(entry["error"]) for entry in found] == [False, True]


def test_a_video_has_the_mean_of_the_faces_that_prepare_cuts_out(squares, model, tmp_path, capsys):
    write_video(tmp_path / "a.mp4", n_frames=6, no_face=(2,))
    (found,) = results(capsys, model, tmp_path / "a.mp4", "--n_frames", 4)["results"]
    # Frames 0 1 3 5 of six: floor(5 i / 3).
    assert [face["frame"] for face in found["faces"]] == [0, 1, 3, 5]
    assert found["n_frames"] == 4
    assert found["probability"] == pytest.approx(np.mean([face["probability"] for face in found["faces"]]))

    (tmp_path / "list.csv").write_text("path,env,label,video,split\na.mp4,Lab,fake,a,test\n")
    argv = ["prepare", "csv", "--list", tmp_path / "list.csv", "--name", "Mine", "--data_dir", tmp_path]
    assert main([*map(str, argv), "--detector", "squares", "--n_frames", "4", "--n_workers", "1"]) == 0
    argv = ["evaluate", model, "--folder", tmp_path / "Mine", "--save_scores", tmp_path / "scores.parquet"]
    argv.append("--allow_leakage")  # the model has no training data to compare with
    assert main(list(map(str, argv))) == 0
    scores = pd.read_parquet(tmp_path / "scores.parquet")
    # The same pixels in another file and another batch.
    np.testing.assert_allclose(
        [face["probability"] for face in found["faces"]], scores["score"], rtol=0, atol=1e-6
    )
    assert len(set(scores["score"])) > 1, "the network tells them apart"


def test_an_image_has_every_face_of_it_the_largest_first(squares, model, tmp_path, capsys):
    picture(tmp_path / "two.png", (5, 5, 8, 200), (50, 20, 24, 150))
    picture(tmp_path / "alone.png", (50, 20, 24, 150))
    alone, two = results(capsys, model, tmp_path)["results"]
    assert [face["box"] for face in two["faces"]] == [[50, 20, 24, 24], [5, 5, 8, 8]]
    assert two["probability"] is None, "an image has no mean"
    assert two["faces"][0]["probability"] == pytest.approx(alone["faces"][0]["probability"], abs=1e-6)


def test_margin_and_size_decide_the_pixels(squares, model, tmp_path, capsys):
    path = picture(tmp_path / "one.png", (40, 20, 20, 180))
    default = results(capsys, model, path)
    assert default["crops"]["margin"] == 1.3
    wide = results(capsys, model, path, "--margin", 2.5)
    small = results(capsys, model, path, "--size", 8)
    answers = {found["results"][0]["faces"][0]["probability"] for found in (default, wide, small)}
    assert len(answers) == 3
    assert "by option: margin" in wide["crops"]["in_words"]


def test_crops_are_cut_as_the_report_beside_the_training_data_says(squares, model, tmp_path, capsys):
    saved = torch.load(model, weights_only=True)
    saved["args"]["data_dir"] = str(tmp_path)
    torch.save(saved, tmp_path / "model.pkl")
    (tmp_path / "SynthFake").mkdir()
    options = {"n_frames": 5, "size": 96, "margin": 1.7, "detector": "squares"}
    (tmp_path / "SynthFake" / "prepare-report.json").write_text(json.dumps({"options": options}))
    path = picture(tmp_path / "one.png", (40, 20, 20, 180))
    out = predict(capsys, tmp_path / "model.pkl", path).out
    assert f"faces by squares, margin 1.7, 96 pixels, 5 frames a video (as in {tmp_path}" in out


def test_pictures_that_are_crops_already_are_taken_whole_and_need_no_detector(model, tmp_path, capsys):
    picture(tmp_path / "a.png", (0, 0, 40, 120), size=(40, 40))
    calls = SquareDetector.n_calls
    out = predict(capsys, model, tmp_path / "a.png", "--no_detect").out
    assert SquareDetector.n_calls == calls
    argv = ["evaluate", model, "--folder", tmp_path / "set", "--save_scores", tmp_path / "scores.parquet"]
    argv.append("--allow_leakage")  # the model has no training data to compare with
    picture(tmp_path / "set" / "real" / "a.png", (0, 0, 40, 120), size=(40, 40))
    assert main(list(map(str, argv))) == 0
    score = pd.read_parquet(tmp_path / "scores.parquet")["score"][0]
    assert out.splitlines()[2] == "threshold 0.5; the model has no calibrated threshold"
    assert "like what the model was trained on is not known" in out
    assert f"  {score:.3f}  {'fake' if score > 0.5 else 'real'}  " in out
    write_video(tmp_path / "a.mp4", n_frames=3)
    capsys.readouterr()
    argv = [model, tmp_path / "a.mp4", "--no_detect", "--format", "json"]
    assert len(json.loads(predict(capsys, *argv).out)["results"][0]["faces"]) == 3


def test_a_photograph_that_lies_on_its_side_is_turned_before_faces_are_looked_for(
    squares, model, tmp_path, capsys
):
    image = Image.open(picture(tmp_path / "flat.png", (60, 10, 20, 180)))
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise makes it upright
    image.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    (found,) = results(capsys, model, tmp_path / "turned.jpg")["results"]
    x, y, _, _ = found["faces"][0]["box"]
    assert (round(x / 10), round(y / 10)) == (64 // 10 - 2 - 1, 6), "x = 64 − 10 − 20, y = 60"


def test_what_cannot_be_read_is_named_the_rest_is_done_and_the_status_is_1(squares, model, tmp_path, capsys):
    folder = tmp_path / "in put"
    picture(folder / "good.png", (40, 20, 20, 180))
    picture(folder / "dark.png")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "cut.png").write_bytes((folder / "good.png").read_bytes()[:100])
    (folder / "no video.mp4").write_bytes(b"nothing of the kind")
    (folder / "notes.txt").write_text("passed over")
    whole = write_video(tmp_path / "whole.mp4", n_frames=10).read_bytes()
    (folder / "short.mp4").write_bytes(whole[: len(whole) // 3])
    captured = predict(capsys, model, folder, "--detector", "squares", code=1)
    lines = captured.out.splitlines()[5:-2]
    assert len(lines) == 6
    assert [line for line in lines if "good.png: face 1 of 1, 20x20 at 40,20" in line]
    assert [line for line in lines if line.endswith("dark.png: no face")]
    for name, reason in (
        ("empty.jpg", "it is empty"),
        ("cut.png", "truncated"),
        ("no video.mp4", "it is text"),
    ):
        (line,) = [line for line in lines if name in line]
        assert line.startswith("      -             cannot read the ")
        assert reason in line
    (short,) = [line for line in lines if "short.mp4" in line]
    assert "of its 10 frames can be decoded)" in short
    rows = list(csv.DictReader(io.StringIO(
        predict(capsys, model, folder, "--detector", "squares", "--format", "csv", code=1).out
    )))  # fmt: skip
    assert {row["error"] for row in rows if "dark.png" in row["path"]} == {"no face"}
    assert {row["level"] for row in rows if "short.mp4" in row["path"]} == {"face", "video"}


def test_a_file_without_a_known_suffix_is_looked_into(squares, model, tmp_path, capsys):
    picture(tmp_path / "a.png", (40, 20, 20, 180)).rename(tmp_path / "image")
    write_video(tmp_path / "a.mp4", n_frames=2).rename(tmp_path / "video")
    found = results(capsys, model, tmp_path / "image", tmp_path / "video")["results"]
    assert [entry["kind"] for entry in found] == ["image", "video"]


def test_names_that_are_no_text_are_printed_somehow(squares, model, tmp_path, capsys):
    picture(tmp_path / "a.png", (40, 20, 20, 180)).rename(tmp_path / "\udcff.png")
    assert r"\udcff.png: face 1 of 1" in predict(capsys, model, tmp_path, "--detector", "squares").out
    assert len(results(capsys, model, tmp_path)["results"]) == 1


def test_many_files_share_batches_and_keep_their_order(squares, model, tmp_path, capsys):
    levels = [100 + i for i in range(130)]  # more than two batches of 64
    for i, level in enumerate(levels):
        picture(tmp_path / f"{i:03d}.png", (40, 20, 20, level))
    found = results(capsys, model, tmp_path)["results"]
    assert [os.path.basename(entry["path"]) for entry in found] == [f"{i:03d}.png" for i in range(130)]
    alone = results(capsys, model, tmp_path / "129.png")["results"][0]["faces"][0]["probability"]
    assert found[129]["faces"][0]["probability"] == pytest.approx(alone, abs=1e-6)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("no/such x.png", "no such file or folder: 'x.png'"),
        ("no/such .", "no image and no video in the folder '.'"),
        ("MODEL here.png --detector yolo", "unknown detector 'yolo'"),
        ("MODEL here.png --margin 9", "--margin must be from 1"),
        ("MODEL here.png --no_detect --margin 2", "--no_detect cuts nothing out: leave out --margin"),
        ("MODEL here.png --format xml", "unknown format 'xml'"),
        ("no/such here.png", "no such run: 'no/such'"),
        (
            "MODEL here.png --threshold fpr=0.1",
            "--threshold must be one of eer, fpr=0.01, fpr=0.05, or a probability",
        ),
        (
            "MODEL here.png --threshold eer",
            "has no calibrated thresholds, which 'train' makes for models that tell",
        ),
    ],
)
def test_a_fault_is_one_line_and_status_2(model, argv, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if "here.png" in argv:
        picture(tmp_path / "here.png", (40, 20, 20, 180))
    error = predict(capsys, *[model if word == "MODEL" else word for word in argv.split()], code=2).err
    assert message in error
    assert error.count("\n") == 1


def test_a_model_of_other_classes_is_refused(model, tmp_path, squares, capsys):
    host = bridge.register()
    hparams = host.hparams_registry.default_hparams("ERM", "RotatedMNIST")
    network = host.algorithms.get_algorithm_class("ERM")((1, 28, 28), 10, 5, hparams)
    saved = torch.load(model, weights_only=True)
    saved |= {"model_input_shape": (1, 28, 28), "model_num_classes": 10, "model_num_domains": 5}
    saved["args"]["dataset"] = "RotatedMNIST"
    saved |= {"model_hparams": hparams, "model_dict": network.state_dict()}
    torch.save(saved, tmp_path / "digits.pkl")
    path = picture(tmp_path / "a.png", (40, 20, 20, 180))
    error = predict(capsys, tmp_path / "digits.pkl", path, "--detector", "squares", code=2).err
    assert "predict is for models that tell real from fake; this one knows 10 classes" in error


def test_an_output_that_is_no_number_is_no_verdict(model, tmp_path, capsys):
    saved = torch.load(model, weights_only=True)
    for weight in saved["model_dict"].values():
        if weight.is_floating_point():
            weight.mul_(3e38).clamp_(-3e38, 3e38)
    torch.save(saved, tmp_path / "model.pkl")
    picture(tmp_path / "a.png", (0, 0, 40, 120), size=(40, 40))
    for form in ("text", "json", "csv"):
        argv = [tmp_path / "model.pkl", tmp_path / "a.png", "--no_detect", "--format", form]
        captured = predict(capsys, *argv, code=1)
        assert "a.png: no verdict: the network's output is NaN for 1 of 1 face" in captured.out
        assert not {"real", "fake", "nan"} & set(captured.out.replace(",", " ").replace('"', " ").split())


def nearly_black(seed):
    return np.random.RandomState(seed).randint(0, 12, (32, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def calibrated(model, tmp_path_factory):
    """The same network with thresholds, and a familiarity with pictures that are nearly black."""
    saved = torch.load(model, weights_only=True)
    run = load_run(model)
    with described(run.algorithm) as (layers, found), torch.inference_mode():
        run.algorithm.predict(torch.stack([face_tensor(nearly_black(seed)) for seed in range(40)]))
    mean, whitening = gaussian(found[0])
    known = Familiarity(tuple(layers), mean, whitening, 0.0, 40)
    known = replace(known, limit=float(2 * known.distances(found[0]).max()))
    frames = Thresholds(30, 20, {"eer": 0.25, "fpr=0.01": 0.75, "fpr=0.05": 0.7})
    videos = Thresholds(3, 2, {"eer": 0.2, "fpr=0.01": 0.1, "fpr=0.05": 0.15})
    saved["model_calibration"] = Calibration(2.0, ("DF", "FS"), frames, videos).as_plain()
    saved["model_familiarity"] = known.as_plain()
    path = tmp_path_factory.mktemp("calibrated") / "model.pkl"
    torch.save(saved, path)
    return path


@pytest.fixture
def crops(tmp_path):
    """A nearly black picture, a bright one, and a bright video; the network gives all about ½."""
    (tmp_path / "crops").mkdir()
    Image.fromarray(nearly_black(seed=40)).save(tmp_path / "crops" / "dark.png")
    picture(tmp_path / "crops" / "bright.png", (0, 0, 30, 255), size=(32, 32))
    write_video(tmp_path / "crops" / "clip.mp4", n_frames=3)
    return tmp_path / "crops"


def test_a_calibrated_model_says_which_threshold_and_leaves_open_what_lies_between_two(
    calibrated, crops, capsys
):
    lines = predict(capsys, calibrated, crops, "--no_detect").out.splitlines()
    assert lines[2:4] == [
        "threshold 0.250, equal error on 50 validation frames of DF, FS; undecided up to 0.750, 1 % false alarms",
        "threshold 0.200, equal error on 5 validation videos of DF, FS; undecided down to 0.100, 1 % false alarms",
    ]
    bright, clip, dark = lines[6:9]
    assert "  undecided  " in bright, "a probability near ½"
    assert "  undecided  " in dark
    assert "  fake       " in clip, "above both thresholds of videos, and all frames are above that of frames"
    assert predict(capsys, calibrated, crops / "dark.png", "--no_detect").out.splitlines()[3] == "", (
        "no videos"
    )


@pytest.mark.parametrize(
    ("asked", "verdict", "words"),
    [
        ("fpr=0.01", "real", "threshold 0.750, 1 % false alarms on 50 validation frames of DF, FS"),
        ("eer", "fake", "threshold 0.250, equal error on 50 validation frames of DF, FS"),
        ("0.9", "real", "threshold 0.9, as asked for"),
    ],
)
def test_a_threshold_that_is_asked_for_decides_alone(calibrated, crops, capsys, asked, verdict, words):
    lines = predict(
        capsys, calibrated, crops / "dark.png", "--no_detect", "--threshold", asked
    ).out.splitlines()
    assert lines[2] == words
    assert f"  {verdict}       " in lines[5]


def test_what_is_unlike_the_training_data_is_marked_and_explained(calibrated, crops, capsys):
    lines = predict(capsys, calibrated, crops, "--no_detect").out.splitlines()
    marked = [line for line in lines[6:9] if line.endswith("; unlike anything this model was trained on")]
    assert [os.path.basename(line.split(":")[0].split()[2].split(";")[0]) for line in marked] == [
        "bright.png",
        "clip.mp4",
    ]
    assert lines[10].startswith(
        "2 of 3 files are unlike anything this model was trained on: further from its 40 "
    )
    alone = predict(capsys, calibrated, crops / "dark.png", "--no_detect").out
    assert "unlike anything" not in alone


def test_json_and_csv_have_calibrated_probabilities_verdicts_and_distances(calibrated, crops, capsys):
    found = json.loads(predict(capsys, calibrated, crops, "--no_detect", "--format", "json").out)
    assert found["threshold"]["name"] == "eer"
    assert (found["threshold"]["frames"]["threshold"], found["threshold"]["videos"]["other"]) == (0.25, 0.1)
    limit = found["familiarity"]["limit"]
    bright, clip, dark = found["results"]
    (face,) = dark["faces"]
    p = face["probability"]
    # temperature 2: the square roots of p and 1 − p
    assert face["calibrated"] == pytest.approx(p**0.5 / (p**0.5 + (1 - p) ** 0.5))
    assert (face["distance"] > limit, face["unlike"], dark["unlike"]) == (False, False, False)
    assert bright["faces"][0]["distance"] > limit
    assert (bright["unlike"], clip["unlike"]) == (True, True)
    assert (bright["verdict"], bright["faces"][0]["verdict"], clip["verdict"]) == (None, "undecided", "fake")
    assert clip["calibrated"] == pytest.approx(np.mean([face["calibrated"] for face in clip["faces"]]))
    text = predict(capsys, calibrated, crops, "--no_detect", "--format", "csv").out
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["verdict"] for row in rows if row["level"] == "video"] == ["fake"]
    assert {row["unlike"] for row in rows if "dark" in row["path"]} == {"False"}
    assert float(rows[0]["distance"]) == pytest.approx(bright["faces"][0]["distance"])


def test_classes_that_the_user_turns_round_have_no_thresholds(calibrated, crops, capsys):
    argv = [calibrated, crops / "dark.png", "--no_detect", "--real", "fake", "--fake", "real"]
    assert "the model has no calibrated threshold" in predict(capsys, *argv).out


def test_cells_of_the_csv_are_no_formulas(model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "=cmd.png", (0, 0, 40, 120), size=(40, 40))
    rows = csv.DictReader(
        io.StringIO(predict(capsys, model, "=cmd.png", "--no_detect", "--format", "csv").out)
    )
    assert [row["path"] for row in rows] == ["'=cmd.png"]


def test_escapes_in_names_do_not_reach_the_terminal(model, tmp_path, capsys):
    picture(tmp_path / "\x1b[2Jevil\udc80.png", (0, 0, 40, 120), size=(40, 40))
    out = predict(capsys, model, tmp_path, "--no_detect").out
    assert r"\x1b[2Jevil\udc80.png" in out
    assert "\x1b" not in out


def test_explain_draws_each_face_with_its_verdict_and_changes_nothing_that_is_printed(
    squares, model, tmp_path, monkeypatch, capsys
):
    pytest.importorskip("pytorch_grad_cam")
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "in/two.png", (5, 5, 40, 250), (60, 30, 20, 120))
    picture(tmp_path / "in/none.png")
    write_video(tmp_path / "in/clip.mp4", n_frames=6)
    argv = (model, "in", "--n_frames", 4, "--detector", "squares", "--format", "json")
    plain = predict(capsys, *argv)
    drawn = predict(capsys, *argv, "--explain", "v.svg")
    assert drawn.out == plain.out
    assert drawn.err == "Verdicts on 3 faces, with heat maps, written to v.svg\n"
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", (tmp_path / "v.svg").read_text())
    clip, _, two = json.loads(plain.out)["results"]
    faces = [face["probability"] for face in two["faces"]]
    worst = max(clip["faces"], key=lambda face: face["probability"])
    for title, shown in (
        ("clip.mp4", clip["probability"]),
        *zip(("two.png, face 1", "two.png, face 2"), faces, strict=True),
    ):
        assert title in texts
        assert f"{shown:.3f}  {'fake' if shown > 0.5 else 'real'}" in texts
    assert f"its frame {worst['frame']}: {worst['probability']:.3f}" in texts
    predict(capsys, *argv, "--explain", "v.html")
    page = (tmp_path / "v.html").read_text()
    (command,) = re.findall(r"<pre>(.*?)</pre>", page)
    assert html.unescape(command).split()[:4] == ["roga-domainbed", "predict", str(model), "in"]
    assert "two.png, face 2" in page


def test_explain_without_a_face_writes_nothing_and_a_wrong_name_is_refused(
    squares, model, tmp_path, monkeypatch, capsys
):
    pytest.importorskip("pytorch_grad_cam")
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "none.png")
    argv = (model, "none.png", "--detector", "squares", "--explain")
    assert "no face has a verdict: v.png is not written" in predict(capsys, *argv, "v.png").err
    assert not (tmp_path / "v.png").exists()
    assert (
        "--explain 'v.gif' must end in .png, .svg, .pdf, .html" in predict(capsys, *argv, "v.gif", code=2).err
    )
