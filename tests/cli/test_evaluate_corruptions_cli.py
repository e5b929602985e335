"""``evaluate --corruptions``: a short run on a small SynthFake, on damaged images."""

import csv
import io
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score

from datasets_ext import manifest
from datasets_ext.folder import face_tensor
from datasets_ext.synthfake.generate import generate
from roga_domainbed.cli import main
from roga_domainbed.inference import robustness
from roga_domainbed.inference.corruptions import CORRUPTIONS
from roga_domainbed.inference.saved_run import load_run
from roga_domainbed.trainer.config import TrainConfig
from roga_domainbed.trainer.run import train


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The data, and a run that held out NT."""
    data, folder = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("runs") / "run"
    generate(data, n_identities=6, n_frames=2)
    options = {"hparams": '{"batch_size": 4}', "steps": 2, "n_workers": 0, "test_envs": [3]}
    train(TrainConfig(str(data), "SynthFake", output_dir=str(folder), **options))
    return data, folder


def evaluate(capsys, *argv, code=0):
    assert main(["evaluate", *map(str, argv)]) == code
    return capsys.readouterr()


def results(capsys, *argv):
    return json.loads(evaluate(capsys, *argv, "--format", "json").out)["results"]


def test_strength_0_is_plain_evaluation_bit_for_bit_and_the_held_out_environment_alone(trained, capsys):
    _, folder = trained
    plain = {row["level"]: row for row in results(capsys, folder, "--envs", "NT") if row["part"] == "in"}
    rows = results(capsys, folder, "--corruptions", "contrast", "resize")
    assert {(row["env_name"], row["role"]) for row in rows} == {("NT", "test")}
    assert len(rows) == 2 * 6 * 2, "corruptions, strengths, levels"
    for row in rows:
        if row["strength"] == 0:
            assert row["parameter"] is None
            assert {**row, **plain[row["level"]]} == row


@pytest.mark.parametrize(("name", "strength"), [("jpeg", 4), ("contrast", 5)])
def test_the_auc_is_that_of_the_damaged_files_one_by_one(name, strength, trained, capsys):
    data, folder = trained
    rows = results(capsys, folder, "--corruptions", name)
    (row,) = (row for row in rows if (row["strength"], row["level"]) == (strength, "frame"))
    assert row["parameter"] == CORRUPTIONS[name].values[strength - 1]
    test = manifest.read(data / "SynthFake").query("env == 'NT' and split == 'test'")
    network = load_run(folder).algorithm
    scores = []
    for path in test["path"]:
        image = np.array(Image.open(data / "SynthFake" / path).convert("RGB"))
        damaged = CORRUPTIONS[name](image, strength, np.random.default_rng(0))
        with torch.inference_mode():
            scores.append(float(torch.softmax(network.predict(face_tensor(damaged)[None]).double(), 1)[0, 1]))
    assert row["auc"] == pytest.approx(roc_auc_score(test["label"], scores), abs=1e-9)
    assert row["n"] == len(test)


def test_noise_is_that_of_the_file_whatever_the_order_and_the_readers(trained, tmp_path, capsys):
    data, folder = trained
    rows = results(capsys, folder, "--corruptions", "noise")
    assert results(capsys, folder, "--corruptions", "noise", "--n_workers", "2") == rows
    run = load_run(folder)
    table = manifest.read(data / "SynthFake").query("env == 'NT' and split == 'test'")
    manifest.write(tmp_path, table.iloc[::-1])
    for path in table["path"]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes((data / "SynthFake" / path).read_bytes())
    found = results(capsys, folder, "--folder", tmp_path, "--corruptions", "noise", "--allow_leakage")
    aucs = [[row["auc"] for row in own if row["level"] == "frame"] for own in (rows, found)]
    assert aucs[0] == pytest.approx(aucs[1], abs=1e-12)
    assert run.path.exists()


def test_images_are_read_once_for_all_corruptions(trained, capsys, monkeypatch):
    _, folder = trained
    read, inner = [], robustness.read_image
    monkeypatch.setattr(robustness, "read_image", lambda path: read.append(path) or inner(path))
    rows = results(capsys, folder, "--corruptions", "contrast", "resize", "blur")
    assert len(read) == len(set(read)) == rows[0]["n"]


def test_the_text_has_a_row_a_corruption_and_several_runs_stand_side_by_side(trained, tmp_path, capsys):
    _, folder = trained
    lines = evaluate(capsys, folder, "--corruptions", "contrast", "resize").out.splitlines()
    assert lines[0].startswith("ERM, trained on SynthFake DF, F2F, FS (not NT)")
    assert lines[1].startswith("AUC of frames in %, SynthFake; strength 0 is the image as it is")
    table = {
        line.split()[0]: line.split()[1:] for line in lines if re.match(r"(contrast|resize|mean) +\d", line)
    }
    numbers = {name: list(map(float, values)) for name, values in table.items()}
    assert set(numbers) == {"contrast", "resize", "mean"}
    for both in zip(numbers["contrast"], numbers["resize"], numbers["mean"], strict=True):
        assert np.mean(both[:2]) == pytest.approx(both[2], abs=0.11)
    assert "contrast  times 0.4, 0.3, 0.2, 0.1, 0.05" in lines
    pytest.importorskip("matplotlib")
    figure = tmp_path / "figure.png"
    argv = [
        folder,
        folder / "model.pkl",
        "--names",
        "A",
        "B",
        "--corruptions",
        "contrast",
        "--figure",
        figure,
    ]
    out = evaluate(capsys, *argv).out
    (a, b) = (line.split() for line in out.splitlines() if re.match(r"(contrast)? +[AB] ", line))
    assert (a[:2], b[0]) == (["contrast", "A"], "B")
    assert a[2:] == b[1:]
    out = evaluate(capsys, *argv[:2], "--corruptions", "contrast").out
    assert out.startswith("ERM: the mean of 2 runs\n")
    assert next(line for line in out.splitlines() if line.startswith("contrast")).split()[1:] == a[2:]
    with Image.open(figure) as image:
        assert image.format == "PNG"


def test_csv_has_every_metric_of_every_strength(trained, capsys):
    _, folder = trained
    rows = list(
        csv.DictReader(
            io.StringIO(evaluate(capsys, folder, "--corruptions", "contrast", "--format", "csv").out)
        )
    )
    assert [row["strength"] for row in rows if row["level"] == "video"] == list("012345")
    assert rows[0]["run"] == "ERM"
    assert {"auc", "eer", "log_loss", "parameter"} <= set(rows[0])


def test_what_it_cannot_do_is_said(trained, tmp_path, capsys):
    data, folder = trained

    def said(*argv):
        return evaluate(capsys, *argv, code=2).err

    assert "unknown corruption 'jpg' (did you mean 'jpeg'?)" in said(folder, "--corruptions", "jpg")
    assert "unknown environment 'DF'; known: NT" in said(folder, "--corruptions", "contrast", "--envs", "DF")
    err = said(folder, "--corruptions", "--save_scores", "x.parquet", "--figure", "x.jpg")
    assert "--corruptions does not go with --save_scores" in err
    assert "--figure 'x.jpg' must end in .png, .svg, .pdf" in err
    known = said(
        folder, "--corruptions", "contrast", "--dataset", "SynthFake", "--data_dir", data, "--part", "all"
    )
    assert "the model knows some of SynthFake" in known
    assert "a run is there twice" in said(folder, folder, "--corruptions", "contrast")
    for name in "ab":
        (tmp_path / "one" / "fake").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (70, 70)).save(tmp_path / "one" / "fake" / f"{name}.png")
    out = evaluate(capsys, folder, "--folder", tmp_path / "one", "--corruptions", "contrast").out
    assert re.search(r"contrast( +-){6}", out)
    assert "one: no auc: only fakes among 2 samples: both classes are needed" in out
    assert "--figure goes with --corruptions" in said(folder, "--figure", tmp_path / "x.png")


def test_samples_that_are_no_image_files_are_refused(tmp_path, capsys):
    train(TrainConfig(None, "Debug28", output_dir=str(tmp_path / "run"), steps=1, n_workers=0, test_envs=[0]))
    err = evaluate(capsys, tmp_path / "run", "--corruptions", "contrast", code=2).err
    assert "--corruptions is for image files, and 0 of Debug28 has other samples" in err
