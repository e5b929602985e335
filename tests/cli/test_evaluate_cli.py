"""``evaluate``: a short run on a small SynthFake, looked at again in every way."""

import csv
import io
import json
import os
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from datasets_ext import manifest
from datasets_ext.synthfake.generate import generate
from roga_domainbed.cli import main
from roga_domainbed.trainer.config import TrainConfig
from roga_domainbed.trainer.run import train


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The data, and a run that held out NT."""
    data, folder = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("runs") / "run"
    generate(data, n_identities=6, n_frames=2)
    train_shortly(data, folder)
    return data, folder


def train_shortly(data, folder, **hparams):
    hparams = json.dumps({"batch_size": 4, **hparams})
    options = {"hparams": hparams, "steps": 2, "n_workers": 0, "test_envs": [3]}
    train(TrainConfig(str(data), "SynthFake", output_dir=str(folder), **options))


def evaluate(capsys, *argv, code=0):
    assert main(["evaluate", *map(str, argv)]) == code
    return capsys.readouterr()


def results(capsys, *argv):
    return json.loads(evaluate(capsys, *argv, "--format", "json").out)


@pytest.fixture(scope="module")
def trained_resnet(trained, tmp_path_factory):
    """A run on the same data, of a network that computes other last digits in another memory layout."""
    data, folder = trained[0], tmp_path_factory.mktemp("resnets") / "run"
    train_shortly(data, folder, backbone="resnet10t", pretrained=False)
    return data, folder


@pytest.mark.parametrize("run", ["trained", "trained_resnet"])
def test_the_runs_own_splits_give_the_numbers_of_its_last_record_bit_for_bit(run, request, capsys):
    _, folder = request.getfixturevalue(run)
    capsys.readouterr()  # what the training printed
    last = json.loads((folder / "results.jsonl").read_text().splitlines()[-1])
    rows = results(capsys, folder)["results"]
    assert len(rows) == 4 * 2 * 2, "environments, splits, levels"
    n_compared = 0
    for row in rows:
        prefix = f"env{row['env']}_{row['part']}_" + ("video_" if row["level"] == "video" else "")
        for name, value in row.items():
            if name not in ("env", "env_name", "part", "role", "level", "why_null"):
                assert last[prefix + name] == value, prefix + name
                n_compared += 1
    assert n_compared == sum(key.startswith("env") for key in last)
    roles = {(row["env_name"], row["part"]): row["role"] for row in rows}
    assert (roles["DF", "in"], roles["DF", "out"]) == ("training", "selection")
    assert (roles["NT", "in"], roles["NT", "out"]) == ("test", "oracle selection")


def test_the_table_says_what_was_trained_on_what_and_shows_percent(trained, capsys):
    _, folder = trained
    lines = evaluate(capsys, folder, "--envs", "NT", "0").out.splitlines()
    assert lines[0] == (
        "ERM, trained on SynthFake DF, F2F, FS (not NT), split official, trial_seed 0, hparams_seed 0, seed 0"
    )
    assert lines[1] == "evaluated on SynthFake; in %, log_loss in nats"
    rows = results(capsys, folder, "--envs", "NT", "DF")["results"]
    assert [line.split()[0] for line in lines[4:]] == ["DF", "video"] * 2 + ["NT", "video"] * 2
    acc = lines[3].split().index("acc") - 2  # after level and n
    assert lines[4].split()[5 + acc] == f"{100 * rows[0]['acc']:.1f}"


def test_another_dataset_is_taken_by_its_published_test_part_and_nobody_is_known(trained, tmp_path, capsys):
    data, folder = trained
    found = results(capsys, folder, "--dataset", "SynthFake", "--data_dir", data)
    test = manifest.read(data / "SynthFake").query("split == 'test'")
    assert {row["env_name"]: row["n"] for row in found["results"] if row["level"] == "frame"} == dict(
        test["env"].value_counts()
    )
    assert found["notes"] == []
    assert {row["role"] for row in found["results"]} == {None}


def test_what_the_model_was_trained_on_is_refused_and_with_the_flag_it_is_said(trained, capsys):
    data, folder = trained
    argv = [folder, "--dataset", "SynthFake", "--data_dir", data, "--part", "all"]
    refused = evaluate(capsys, *argv, code=2).err
    assert "the model knows some of SynthFake" in refused
    assert "training and test share" in refused
    assert "selection and test share" in refused
    notes = results(capsys, *argv, "--allow_leakage")["notes"]
    assert [note for note in notes if note.startswith("LEAK: training and test share")]
    assert results(capsys, *argv, "--envs", "NT", "--allow_leakage")["notes"], "people are on both sides"


def test_a_copy_of_the_training_data_is_known_by_its_manifest_and_not_by_its_place(trained, tmp_path, capsys):
    data, folder = trained
    shutil.copytree(data / "SynthFake", tmp_path / "copy")
    assert "training and test share" in evaluate(capsys, folder, "--folder", tmp_path / "copy", code=2).err


def test_class_folders_of_the_training_data_are_known_by_their_files(trained, tmp_path, capsys):
    data, folder = trained
    refused = evaluate(capsys, folder, "--folder", data / "SynthFake" / "DF", code=2).err
    n_seen = len(manifest.read(data / "SynthFake").query("env == 'DF' and split != 'test'"))
    assert f"trained on or selected by {n_seen} of these files" in refused
    linked = tmp_path / "linked" / "fake"
    linked.mkdir(parents=True)
    os.link(next((data / "SynthFake" / "DF" / "1_fake").glob("*/000.png")), linked / "other name.png")
    assert "1 of these files" in evaluate(capsys, folder, "--folder", tmp_path / "linked", code=2).err


def class_folders(place, counts, videos=True):
    """Grey images, brighter where they are called fake."""
    for name, n in counts.items():
        for i in range(n):
            path = place / name / (f"v{i // 2}" if videos else "") / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (80, 70), (30 * i + 40,) * 3).save(path)


def test_a_folder_of_class_folders_has_videos_where_it_has_folders_in_them(trained, tmp_path, capsys):
    _, folder = trained
    class_folders(tmp_path / "with", {"Fake": 4, "0_real": 3})
    frame, video = results(capsys, folder, "--folder", tmp_path / "with")["results"]
    assert (frame["n"], video["n"], frame["env_name"]) == (7, 4, "with")
    class_folders(tmp_path / "flat", {"fake": 2, "real": 2}, videos=False)
    (only,) = results(capsys, folder, "--folder", tmp_path / "flat")["results"]
    assert (only["n"], only["level"]) == (4, "frame")


def test_folders_with_class_folders_are_environments_and_one_class_alone_is_explained(
    trained, tmp_path, capsys
):
    _, folder = trained
    class_folders(tmp_path / "set" / "A", {"real": 2, "fake": 2})
    class_folders(tmp_path / "set" / "B", {"1_fake": 4})
    out = evaluate(capsys, folder, "--folder", tmp_path / "set").out
    assert "B all, frame level: no balanced_acc, auc" in out
    assert "only fakes among 4 samples: both classes are needed" in out
    assert "only files were compared with the training data" in out
    rows = results(capsys, folder, "--folder", tmp_path / "set")["results"]
    assert [row["env_name"] for row in rows] == ["A", "A", "B", "B"]
    assert rows[2]["auc"] is None


def test_a_folder_with_a_manifest_is_what_the_dataset_itself_is(trained, tmp_path, capsys):
    data, folder = trained
    shutil.copytree(data / "SynthFake", tmp_path / "Mine")
    rows = manifest.read(tmp_path / "Mine").query("split == 'test'")
    manifest.write(tmp_path / "Mine", rows)
    by_folder = results(capsys, folder, "--folder", tmp_path / "Mine")["results"]
    by_name = results(capsys, folder, "--dataset", "SynthFake", "--data_dir", data)["results"]
    assert len(by_folder) == 8
    for one, other in zip(by_folder, by_name, strict=True):
        assert {**one, "part": "test"} == other


def test_csv_has_a_row_a_level_and_the_notes_go_to_stderr(trained, tmp_path, capsys):
    _, folder = trained
    class_folders(tmp_path / "flat", {"fake": 2, "real": 2}, videos=False)
    captured = evaluate(capsys, folder, "--folder", tmp_path / "flat", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(captured.out)))
    assert [row["n"] for row in rows] == ["4"]
    assert "only files were compared" in captured.err


def test_the_scores_that_are_written_are_those_of_the_run(trained, tmp_path, capsys):
    _, folder = trained
    evaluate(capsys, folder, "--save_scores", tmp_path / "scores.parquet")
    ours, theirs = (pd.read_parquet(place / "scores.parquet") for place in (tmp_path, folder))
    theirs = theirs[theirs["step"] == theirs["step"].max()].reset_index(drop=True)
    assert ours["step"].isna().all(), "they are of no step of a run"
    pd.testing.assert_frame_equal(ours.drop(columns="step"), theirs.drop(columns="step"))
    # and they give the same metrics without the model
    wanted = {
        (f"{row['env_name']} {row['part']}", row["level"]): row for row in results(capsys, folder)["results"]
    }
    for row in results(capsys, "--scores", tmp_path / "scores.parquet")["results"]:
        of_run = wanted.pop((row["env_name"], row["level"]))
        assert {name: row[name] for name in ("n", "auc", "eer", "log_loss")} == pytest.approx(
            {name: of_run[name] for name in ("n", "auc", "eer", "log_loss")}, abs=1e-12
        )
    assert wanted == {}


def model_with(run, path, change):
    saved = torch.load(run / "model.pkl", weights_only=True)
    change(saved)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(saved, path)
    return path


UNKNOWN = "whether the model was trained on any of this cannot be told"


def assert_cannot_be_told(capsys, run, folder, why):
    refused = evaluate(capsys, run, "--folder", folder, code=2).err
    assert f"{UNKNOWN}: " in refused
    assert why in refused
    assert "To evaluate all the same, pass --allow_leakage; the table will say so" in refused
    allowed = evaluate(capsys, run, "--folder", folder, "--allow_leakage").out
    assert f"UNKNOWN: {UNKNOWN}: " in allowed


def test_training_data_that_is_gone_is_no_proof(trained, tmp_path, capsys):
    _, folder = trained
    moved = model_with(
        folder, tmp_path / "moved.pkl", lambda saved: saved["args"].update(data_dir=str(tmp_path / "gone"))
    )
    class_folders(tmp_path / "flat", {"fake": 2, "real": 2}, videos=False)
    assert_cannot_be_told(capsys, moved, tmp_path / "flat", "gone' is not a folder")
    assert "gone' is not a folder" in evaluate(capsys, moved, code=2).err


@pytest.fixture
def relative(trained, tmp_path, monkeypatch):
    """The run in a folder of its own, trained on ``data`` in the folder where it was started."""
    data, folder = trained
    shutil.copytree(data / "SynthFake", tmp_path / "here" / "data" / "SynthFake")
    shutil.copytree(folder, tmp_path / "here" / "run")
    model_with(
        folder, tmp_path / "here" / "run" / "model.pkl", lambda saved: saved["args"].update(data_dir="data")
    )
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def test_from_another_folder_a_relative_place_proves_nothing(relative, monkeypatch, capsys):
    here, frames = relative / "here", relative / "here" / "data" / "SynthFake" / "DF"
    argv = ["--dataset", "SynthFake", "--data_dir", here / "data", "--part", "all"]
    assert "the model knows some of SynthFake" in evaluate(capsys, here / "run", *argv, code=2).err
    monkeypatch.chdir(relative / "elsewhere")
    # The run's scores show that the data that is named is what it was trained on.
    assert "the model knows some of SynthFake" in evaluate(capsys, here / "run", *argv, code=2).err
    assert results(capsys, here / "run", *argv[:4])["notes"] == []
    assert_cannot_be_told(capsys, here / "run", frames, "'data' is not a folder")
    # Other data is there under the same name.
    generate(relative / "elsewhere" / "data", seed=7, n_identities=5, n_frames=2)
    why = "the data in 'data' is not what the model was trained on"
    assert_cannot_be_told(capsys, here / "run", frames, why)
    assert why in evaluate(capsys, here / "run", code=2).err
    assert f"UNKNOWN: {UNKNOWN}: {why}" in evaluate(capsys, here / "run", "--allow_leakage").out
    (here / "run" / "scores.parquet").unlink()  # the records tell it too
    assert_cannot_be_told(capsys, here / "run", frames, "samples for training, and 48 when it was trained")
    (here / "run" / "results.jsonl").unlink()
    assert_cannot_be_told(capsys, here / "run", frames, "relative to a folder that is not known")
    assert UNKNOWN in evaluate(capsys, here / "run", *argv, code=2).err


def test_a_model_without_its_records_is_compared_with_what_is_there_now_and_that_is_said(
    trained, tmp_path, capsys
):
    data, folder = trained
    shutil.copy(folder / "model.pkl", tmp_path / "alone.pkl")
    argv = [tmp_path / "alone.pkl", "--dataset", "SynthFake"]
    assert "the model knows some of SynthFake" in evaluate(capsys, *argv, "--part", "all", code=2).err
    (note,) = results(capsys, *argv)["notes"]
    assert note == (
        f"no records beside the model tell whether the data in {str(data)!r} is still what it was trained on"
    )


def test_a_training_manifest_that_is_gone_is_no_proof(relative, capsys):
    (relative / "here" / "data" / "SynthFake" / "manifest.parquet").unlink()
    class_folders(relative / "flat", {"fake": 2}, videos=False)
    assert_cannot_be_told(
        capsys, relative / "here" / "run", relative / "flat", "SynthFake' was made with other parameters"
    )


def test_samples_that_are_no_files_are_no_proof(tmp_path, capsys):
    argv = {"dataset": "Debug28", "hparams": '{"batch_size": 8}', "steps": 1, "n_workers": 0}
    train(TrainConfig(output_dir=str(tmp_path / "run"), **argv))
    capsys.readouterr()
    refused = evaluate(capsys, tmp_path / "run", "--dataset", "Debug28", code=2).err
    assert f"{UNKNOWN}: the samples of Debug28 are no files" in refused


def test_copies_of_training_images_are_known_by_their_content(trained, tmp_path, capsys):
    data, folder = trained
    rows = manifest.read(data / "SynthFake").query("split == 'train' and env != 'NT'")
    for number, row in enumerate(rows.head(3).itertuples()):
        path = tmp_path / "mixed" / ("fake" if row.label else "real") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(data / "SynthFake" / row.path, path)
    class_folders(tmp_path / "mixed", {"fake": 2}, videos=False)
    refused = evaluate(capsys, folder, "--folder", tmp_path / "mixed", code=2).err
    assert "the model was trained on or selected by 3 of these files" in refused


def test_a_copy_of_the_tree_under_another_name_is_known_by_its_files(trained, tmp_path, capsys):
    data, folder = trained
    shutil.copytree(data / "SynthFake", tmp_path / "Mine")
    rows = manifest.read(tmp_path / "Mine")
    rows["dataset"] = "Mine"
    manifest.write(tmp_path / "Mine", rows)
    n_seen = len(rows.query("split != 'test' and env != 'NT'"))
    refused = evaluate(capsys, folder, "--folder", tmp_path / "Mine", code=2).err
    assert f"trained on or selected by {n_seen} of these files" in refused


def test_video_files_with_the_names_of_training_videos_may_be_these(trained, tmp_path, capsys):
    _, folder = trained
    (tmp_path / "clips" / "fake").mkdir(parents=True)
    (tmp_path / "clips" / "fake" / "id000.mp4").write_bytes(b"no video")
    refused = evaluate(capsys, folder, "--folder", tmp_path / "clips", code=2).err
    assert f"{UNKNOWN}: 1 video files have names of videos that it was trained on: fake/id000.mp4" in refused


def test_a_model_decides_nothing_about_where_anything_is_written(trained, tmp_path, capsys):
    _, folder = trained
    (tmp_path / "victim").mkdir()
    path = tmp_path / "model.pkl"
    model_with(folder, path, lambda saved: saved["args"].update(data_dir=str(tmp_path / "victim")))
    class_folders(tmp_path / "flat", {"fake": 2, "real": 2}, videos=False)
    for argv in ([], ["--folder", tmp_path / "flat"], ["--dataset", "SynthFake"]):
        assert "there is no SynthFake in " in evaluate(capsys, path, *argv, code=2).err
    assert os.listdir(tmp_path / "victim") == []


def test_an_output_that_is_no_number_is_no_score(trained, tmp_path, capsys):
    _, folder = trained

    def spoil(saved):
        for weight in saved["model_dict"].values():
            weight.mul_(3e38) if weight.is_floating_point() and weight.dim() > 1 else None
            weight.clamp_(-3e38, 3e38) if weight.is_floating_point() else None

    path = model_with(folder, tmp_path / "run" / "model.pkl", spoil)
    class_folders(tmp_path / "flat", {"fake": 2, "real": 2}, videos=False)
    captured = evaluate(capsys, path, "--folder", tmp_path / "flat", "--allow_leakage", code=1)
    assert "the network's output is NaN for 4 samples, which have no score: fake/0.png" in captured.err
    assert captured.out == ""


def test_numpys_numbers_among_the_hyper_parameters_are_plain_json(trained, tmp_path, capsys):
    _, folder = trained
    path = model_with(
        folder, tmp_path / "m.pkl", lambda saved: saved["model_hparams"].update(batch_size=np.int64(4))
    )
    assert results(capsys, path)["hparams"]["batch_size"] == 4


def test_cells_of_the_csv_are_no_formulas(trained, tmp_path, capsys):
    _, folder = trained
    class_folders(tmp_path / "set" / "=1+1", {"fake": 2, "real": 2}, videos=False)
    out = evaluate(capsys, folder, "--folder", tmp_path / "set", "--format", "csv").out
    assert [row["env_name"] for row in csv.DictReader(io.StringIO(out))] == ["'=1+1"]


def test_a_manifest_that_contradicts_itself_or_leaves_its_folder_is_refused(trained, tmp_path, capsys):
    data, folder = trained
    shutil.copytree(data / "SynthFake", tmp_path / "Mine")
    rows = manifest.read(tmp_path / "Mine").query("split == 'test'")
    for change, message in (
        ({"label": 1 - rows["label"]}, "in the folder of another class than its label: 16, "),
        (
            {"path": "../" + rows["path"]},
            "16 paths of the manifest are not files within the dataset's folder",
        ),
    ):
        manifest.write(tmp_path / "Mine", rows.assign(**change))
        assert message in evaluate(capsys, folder, "--folder", tmp_path / "Mine", code=2).err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("no/such", "no such run: 'no/such'"),
        ("RUN --dataset SynthFakes", "did you mean 'SynthFake'?"),
        ("RUN --dataset PACS --data_dir no/such", "--data_dir 'no/such' is not a folder"),
        ("RUN --dataset Debug28", "images of Debug28 are 3×28×28 and the model takes 3×64×64"),
        ("RUN --folder no/such", "--folder 'no/such' is not a folder"),
        ("RUN --folder . --dataset SynthFake", "--folder goes without --dataset"),
        ("RUN --folder .", "has neither manifest.parquet nor folders real and fake in it"),
        ("RUN --part all", "--part goes with --dataset"),
        ("RUN --envs NTT", "unknown environment 'NTT' (did you mean 'NT'?)"),
        ("RUN --format xml", "unknown format 'xml'"),
        ("RUN --n_workers -1", "--n_workers must be at least 0; got -1"),
    ],
)
def test_a_fault_is_one_line_and_status_2(trained, argv, message, tmp_path, monkeypatch, capsys):
    _, folder = trained
    monkeypatch.chdir(tmp_path)
    error = evaluate(capsys, *[folder if word == "RUN" else word for word in argv.split()], code=2).err
    assert message in error
    assert error.startswith("roga-domainbed evaluate: error: ")
    assert error.count("\n") == 1


def test_folders_that_are_no_classes_and_a_model_of_other_inputs_are_refused(trained, tmp_path, capsys):
    _, folder = trained
    class_folders(tmp_path / "animals", {"cat": 1, "dog": 1})
    error = evaluate(capsys, folder, "--folder", tmp_path / "animals", code=2).err
    assert "expected folders real and fake" in error
    run = tmp_path / "debug"
    train(
        TrainConfig(dataset="Debug28", hparams='{"batch_size": 8}', steps=1, n_workers=0, output_dir=str(run))
    )
    capsys.readouterr()
    class_folders(tmp_path / "flat", {"fake": 2, "real": 2}, videos=False)
    error = evaluate(capsys, run, "--folder", tmp_path / "flat", code=2).err
    assert "trained on Debug28, whose samples are no image files" in error
    error = evaluate(capsys, run, "--threshold", "eer", code=2).err
    assert (
        "--threshold is for models with the classes 0, real, and 1, fake; this one has classes without names"
        in error
    )
    found = results(capsys, run)
    assert [row["role"] for row in found["results"]] == ["test", "oracle selection"] + [
        "training",
        "selection",
    ] * 2


def test_errors_at_a_threshold_of_the_model_are_counted(trained, capsys):
    _, folder = trained
    rows = results(capsys, folder, "--threshold", "eer")["results"]
    scores = pd.read_parquet(folder / "scores.parquet").query("step == 1")
    kept = torch.load(folder / "model.pkl", weights_only=True)["model_calibration"]
    assert {row["level"] for row in rows} == {"frame", "video"}
    for row in rows:
        own = scores[(scores["env"] == row["env"]) & (scores["split"] == row["part"])]
        if row["level"] == "video":
            own = own.groupby("video").agg(label=("label", "first"), score=("score", "mean"))
        threshold = kept[f"{row['level']}s"]["eer"]
        called = own["score"] > threshold
        assert row["threshold"] == threshold
        assert row["acc_at_threshold"] == pytest.approx((called == own["label"]).mean())
        assert row["false_alarms"] == pytest.approx(called[own["label"] == 0].mean())
        assert row["misses"] == pytest.approx((~called[own["label"] == 1]).mean())


def test_the_table_says_which_threshold_it_has_columns_of(trained, capsys):
    _, folder = trained
    lines = evaluate(capsys, folder, "--envs", "NT", "--threshold", "0.3").out.splitlines()
    assert lines[2:4] == ["t, the threshold 0.3, as asked for", ""]
    assert lines[4].split()[-3:] == ["acc@t", "alarm@t", "miss@t"]
    named = evaluate(capsys, folder, "--envs", "NT", "--threshold", "fpr=0.01").out
    assert " 1 % false alarms on " in named
    assert "validation videos of DF, F2F, FS" in named
    error = evaluate(capsys, folder, "--threshold", "fpr=0.1", code=2).err
    assert (
        "--threshold must be one of eer, fpr=0.01, fpr=0.05, or a probability from 0 to 1; got 'fpr=0.1'"
        in error
    )
