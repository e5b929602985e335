"""Calibration: the temperature against scikit-learn, thresholds by hand, and what a run keeps of both."""

import json
import os
import signal

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_curve
from small_runs import at_call, comparable, run, use_small_images

from datasets_ext.synthfake.generate import generate
from roga_domainbed.input.environment import Environment
from roga_domainbed.metrics.split import SplitScores
from roga_domainbed.trainer import familiarity, loop
from roga_domainbed.trainer.calibration import Calibration, best_temperature, calibrate, calibrated
from roga_domainbed.trainer.evaluation import EvaluatedSplit
from roga_domainbed.trainer.stop import Stopped

N_STEPS = 3


def split(scores, labels, videos=None, env=0):
    scores = np.asarray(scores, np.float64)
    probabilities = np.column_stack([1 - scores, scores])
    found = SplitScores(
        np.asarray(labels), (scores > 0.5).astype(int), probabilities, range(len(scores)), videos
    )
    return EvaluatedSplit(env, f"env {env}", "out", Environment(), found)


# --- temperature ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sharpness", [0.2, 1.0, 7.0])
def test_the_temperature_is_that_of_a_logistic_regression_without_intercept(sharpness):
    rng = np.random.RandomState(0)
    logits = rng.randn(500) * 2
    labels = (rng.rand(500) < 1 / (1 + np.exp(-logits))).astype(int)
    fitted = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10)
    fitted.fit(sharpness * logits[:, None], labels)
    assert best_temperature(sharpness * logits, labels) == pytest.approx(1 / fitted.coef_[0, 0], rel=1e-3)


def test_classes_that_are_apart_tell_no_temperature():
    assert best_temperature(np.array([-3.0, -1.0, 0.5]), np.array([0, 0, 1])) == 1.0


def test_scores_that_know_nothing_become_one_half():
    temperature = best_temperature(np.array([9.0, -9.0]), np.array([0, 1]))
    assert calibrated(np.array([[1e-4, 1 - 1e-4]]), temperature) == pytest.approx(0.5, abs=0.03)


def test_a_calibrated_probability_has_the_divided_logit():
    # logits 0, log 4 and −log 4; half of them is log 2, which is 2 : 1
    probabilities = np.array([[0.5, 0.5], [0.2, 0.8], [0.8, 0.2], [0.0, 1.0]])
    np.testing.assert_allclose(calibrated(probabilities, 2.0), [1 / 2, 2 / 3, 1 / 3, 1.0])


# --- thresholds ----------------------------------------------------------------------------------------------


def test_frames_and_videos_have_their_own_thresholds():
    scores, labels = [0.1, 0.3, 0.2, 0.8, 0.6, 0.9, 0.7, 0.9], [0, 0, 0, 0, 1, 1, 1, 1]
    found = calibrate([split(scores, labels, list("aabbccdd"))], fake=1)
    # Frames: reals .1 .2 .3 .8, fakes .6 .7 .9 .9; at .75 one real is called fake and two fakes are missed, at .65 one
    # of each. Videos: reals .2 and .5, fakes .75 and .8.
    assert found.frames.values == pytest.approx({"eer": 0.65, "fpr=0.01": 0.85, "fpr=0.05": 0.85})
    assert found.videos.values == pytest.approx({"eer": 0.625, "fpr=0.01": 0.625, "fpr=0.05": 0.625})
    assert (found.frames.n_real, found.frames.n_fake, found.videos.n) == (4, 4, 4)


def test_environments_are_put_together_and_their_videos_kept_apart():
    parts = [split([0.2, 0.8], [0, 1], ["v", "w"], env) for env in (0, 2)]
    found = calibrate(parts, fake=1)
    assert found.environments == ("env 0", "env 2")
    assert (found.videos.n_real, found.videos.n_fake) == (2, 2)


def test_a_class_fake_with_the_number_0_is_turned_round():
    scores, labels = np.array([0.1, 0.2, 0.3, 0.6, 0.4, 0.7, 0.8, 0.9]), np.array([0] * 4 + [1] * 4)
    turned, plain = (
        calibrate([split(1 - scores, 1 - labels)], fake=0),
        calibrate([split(scores, labels)], fake=1),
    )
    assert turned.frames.values == pytest.approx(plain.frames.values)
    assert turned.temperature == pytest.approx(plain.temperature)


def test_without_videos_there_are_thresholds_of_frames_alone():
    assert calibrate([split([0.2, 0.8], [0, 1])], fake=1).videos is None
    mixed = calibrate([split([0.2, 0.8], [0, 1], ["v", "v"])], fake=1)
    assert mixed.videos is None, "a video that is both"
    assert calibrate([split([0.2, 0.8, 0.9], [0, 1, 1], ["v", "w", None])], fake=1).videos.n == 2


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [([0.5, 0.6], [1, 1], "only fakes"), ([0.5, np.nan], [0, 1], "not finite")],
)
def test_what_has_no_threshold_has_no_calibration(scores, labels, message):
    with pytest.raises(ValueError, match=message):
        calibrate([split(scores, labels)], fake=1)


# --- runs ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    generate(folder, n_identities=10, n_frames=4)
    return folder


def train(data, folder, **options):
    hparams = {"batch_size": 4, "image_size": 32, **options.pop("hparams", {})}
    given = {
        "dataset": "SynthFake",
        "algorithm": "ERM",
        "data_dir": str(data),
        "test_envs": [3],
        "steps": N_STEPS,
    }
    run(folder, **{**given, "hparams": json.dumps(hparams), "checkpoint_freq": 2, **options})
    return folder


@pytest.fixture(scope="module")
def unbroken(data, tmp_path_factory):
    return train(data, tmp_path_factory.mktemp("unbroken") / "run", save_model_every_checkpoint=True)


def saved(folder, name="model.pkl"):
    return torch.load(folder / name, weights_only=True)


def validation_scores(folder, step):
    table = pd.read_parquet(folder / "scores.parquet")
    return table[(table["step"] == step) & (table["split"] == "out") & (table["env"] != 3)]


def test_a_run_keeps_thresholds_of_its_validation_data_and_of_nothing_else(unbroken):
    plain = saved(unbroken)["model_calibration"]
    table = validation_scores(unbroken, N_STEPS - 1)
    assert plain["environments"] == ["DF", "F2F", "FS"]
    frames = plain["frames"]
    assert (frames["n_real"], frames["n_fake"]) == tuple(np.bincount(table["label"]))
    fpr, tpr, _ = roc_curve(table["label"], table["score"], drop_intermediate=False)
    for name, most in (("fpr=0.01", 0.01), ("fpr=0.05", 0.05)):
        called = table["score"] > frames[name]
        assert called[table["label"] == 0].mean() <= most
        assert called[table["label"] == 1].mean() == pytest.approx(tpr[fpr <= most].max())
    videos = table.groupby("video").agg(label=("label", "first"), score=("score", "mean"))
    assert plain["videos"]["n_real"] + plain["videos"]["n_fake"] == len(videos)
    fpr, tpr, _ = roc_curve(videos["label"], videos["score"], drop_intermediate=False)
    called = videos["score"] > plain["videos"]["eer"]
    gap = called[videos["label"] == 0].mean() - (~called[videos["label"] == 1]).mean()
    assert abs(gap) == pytest.approx(np.abs(fpr - (1 - tpr)).min())
    logits = np.log(table["score"] / (1 - table["score"])).to_numpy()
    fitted = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10).fit(logits[:, None], table["label"])
    best = 1 / fitted.coef_[0, 0] if fitted.coef_[0, 0] > 0.01 else 100
    assert plain["temperature"] == pytest.approx(best, rel=1e-2)
    assert Calibration.from_plain(plain).as_plain() == plain


def test_the_model_of_an_earlier_step_has_its_own_and_is_not_in_the_way_of_training(data, unbroken, tmp_path):
    first, last = saved(unbroken, "model_step0.pkl"), saved(unbroken, f"model_step{N_STEPS - 1}.pkl")
    assert first["model_calibration"] != last["model_calibration"]
    assert not torch.equal(first["model_familiarity"]["mean"], last["model_familiarity"]["mean"])
    for key in ("model_calibration", "model_familiarity"):
        assert str(last[key]) == str(saved(unbroken)[key])
    alone = train(data, tmp_path / "alone")
    records, weights, _ = comparable(alone)
    for record in (*records, *(others := comparable(unbroken)[0])):
        record["args"].pop("save_model_every_checkpoint")
    assert json.dumps(records) == json.dumps(others)
    assert weights == comparable(unbroken)[1]


@pytest.mark.parametrize("moment", ["within the pass", "before the model is written"])
def test_a_run_that_is_stopped_at_its_end_keeps_the_same(data, unbroken, tmp_path, monkeypatch, moment):
    owner, name = (familiarity, "gaussian") if moment == "within the pass" else (loop, "save_model")

    def stop():
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        at_call(patched, owner, name, 1, stop)
        with pytest.raises(Stopped):
            train(data, tmp_path / "run")
    train(data, tmp_path / "run")
    for key in ("model_calibration", "model_familiarity"):
        assert str(saved(tmp_path / "run")[key]) == str(saved(unbroken)[key])


def test_the_calibration_is_of_the_averaged_weights_where_these_are_saved(data, tmp_path):
    folder = train(data, tmp_path / "run", hparams={"averaging": "ema", "ema_decay": 0.9})
    table = validation_scores(folder, N_STEPS - 1)
    reals = np.sort(table["score"][table["label"] == 0])
    threshold = saved(folder)["model_calibration"]["frames"]["fpr=0.01"]
    above = table["score"][table["score"] > reals[-1]]
    assert threshold == pytest.approx((reals[-1] + above.min()) / 2 if len(above) else reals[-1])


def test_a_run_without_a_model_looks_at_nothing_more(data, tmp_path, monkeypatch):
    monkeypatch.setattr(familiarity, "familiarity", None)  # a call would fail
    train(data, tmp_path / "run", skip_model_save=True)


def test_a_model_of_other_classes_has_neither(tmp_path, monkeypatch):
    use_small_images(monkeypatch)
    run(tmp_path / "run", steps=2)
    assert not {"model_calibration", "model_familiarity"} & saved(tmp_path / "run").keys()
