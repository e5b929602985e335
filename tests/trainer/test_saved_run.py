"""Loading a model again: what was trained comes back, and every other file is refused in one sentence."""

import json
import os
import pickle

import numpy as np
import pytest
import torch

from roga_domainbed.errors import RogaError
from roga_domainbed.inference.saved_run import load_run
from roga_domainbed.trainer.config import TrainConfig
from roga_domainbed.trainer.run import train
from roga_domainbed.upstream import bridge

SMALL = {"dataset": "Debug28", "hparams": '{"batch_size": 8}', "steps": 2, "n_workers": 0}


def model_content(algorithm="ERM", dataset="Debug28", shape=(3, 28, 28), n_classes=2, **hparams):
    """What a model's file holds, of a network that was never trained."""
    host = bridge.register()
    hparams = {**host.hparams_registry.default_hparams(algorithm, dataset), **hparams}
    network = host.algorithms.get_algorithm_class(algorithm)(shape, n_classes, 2, hparams)
    return {
        "args": TrainConfig(dataset=dataset, algorithm=algorithm).record_args(),
        "model_input_shape": shape,
        "model_num_classes": n_classes,
        "model_num_domains": 2,
        "model_hparams": hparams,
        "model_dict": network.state_dict(),
    }


@pytest.mark.parametrize("algorithm", ["ERM", "RoGA", "GroupDRO", "Fish"])
def test_what_was_trained_comes_back(tmp_path, algorithm):
    folder = tmp_path / "run"
    train(TrainConfig(algorithm=algorithm, output_dir=str(folder), **SMALL))
    run = load_run(folder)
    saved = torch.load(folder / "model.pkl", weights_only=True)["model_dict"]
    assert all(torch.equal(value.cpu(), saved[name]) for name, value in run.algorithm.state_dict().items())
    assert not run.algorithm.training
    assert run.config.algorithm == algorithm
    assert run.describe() == f"{algorithm}, trained on Debug28 1, 2 (not 0), split frame, trial_seed 0, " + (
        "hparams_seed 0, seed 0"
    )


def test_a_model_file_can_be_named_itself_and_needs_no_records(tmp_path):
    torch.save(model_content(), tmp_path / "mine.pkl")
    run = load_run(tmp_path / "mine.pkl")
    assert run.provenance == {}
    assert run.describe().startswith("ERM, trained on Debug28 without test_envs 0")


def test_the_first_weights_of_a_backbone_are_not_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    content = model_content(shape=(3, 64, 64), backbone="resnet10t", pretrained=False)
    content["model_hparams"] |= {"pretrained": True, "weights": "/no/such/file.pth"}
    torch.save(content, tmp_path / "model.pkl")
    run = load_run(tmp_path)
    assert run.hparams["pretrained"], "the run's own hyper-parameters are told as they were"


def test_numpys_numbers_among_the_hyper_parameters_are_read_as_upstream_leaves_them(tmp_path):
    content = model_content()
    numbers = {"lr": np.float64(1e-3), "batch_size": np.int64(8), "flag": np.bool_(True), "f": np.float32(1)}
    content["model_hparams"] |= numbers
    torch.save(content, tmp_path / "model.pkl")
    assert load_run(tmp_path).hparams["lr"] == 1e-3


class Bomb:
    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return os.mkdir, (self.place,)


def test_a_file_that_would_run_code_runs_none(tmp_path):
    for number, save in enumerate((torch.save, lambda value, path: path.write_bytes(pickle.dumps(value)))):
        path = tmp_path / f"model{number}.pkl"
        save({**model_content(), "args": Bomb(str(tmp_path / "was here"))}, path)
        with pytest.raises(RogaError, match=r"is refused as a model: it holds more than weights|is damaged"):
            load_run(path)
    assert not (tmp_path / "was here").exists()


def test_no_run_and_runs_without_a_model_say_what_is_the_matter(tmp_path):
    with pytest.raises(RogaError, match=r"no such run: .*none' is neither the folder of a training nor a"):
        load_run(tmp_path / "none")
    with pytest.raises(RogaError, match=r"is not the folder of a run: there is no model\.pkl and no results"):
        load_run(tmp_path)
    (tmp_path / "results.jsonl").write_text("{}\n")
    with pytest.raises(RogaError, match=r"has no model\.pkl yet: its training has not ended"):
        load_run(tmp_path)
    (tmp_path / "done").write_text("done")
    with pytest.raises(RogaError, match=r"has no model\.pkl: train it again without --skip_model_save"):
        load_run(tmp_path)
    (tmp_path / "model_step2.pkl").write_text("")
    with pytest.raises(RogaError, match=r"it has model_step2\.pkl: name one of them"):
        load_run(tmp_path)


def damaged(kind, path):
    torch.save(model_content(), path)
    whole = path.read_bytes()
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "text":
        path.write_text("this is no model\n" * 50)
    elif kind == "flipped":
        middle = len(whole) // 2
        path.write_bytes(whole[:1000] + bytes(255 - b for b in whole[1000:middle]) + whole[middle:])
    else:
        path.write_bytes(b"\x00" * 4096)


@pytest.mark.parametrize("kind", ["empty", "cut", "text", "flipped", "zeros"])
def test_a_damaged_file_is_one_sentence(tmp_path, kind):
    path = tmp_path / "model.pkl"
    damaged(kind, path)
    with pytest.raises(RogaError) as caught:
        load_run(tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    assert "model.pkl' is" in message, message
    assert "damaged" in message, message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("model_dict"), r"is no model of 'train': it lacks model_dict"),
        (lambda c: c.update(model_hparams=3), r"model_hparams must be a mapping; got 3"),
        (lambda c: c["args"].update(algorithm="ERN"), r"unknown algorithm 'ERN' \(did you mean 'ERM'\?\)"),
        (lambda c: c["args"].update(algorithm="SagNet"), r"algorithm 'SagNet' is DomainBed's own: set DOMAINBED_HOME"),
        (lambda c: c["args"].update(algorithm="Fish"), r"weights are not those of Fish on the backend 'engine'"),
        (lambda c: c["model_dict"].popitem(), r"weights are not those of ERM .*Missing key"),
        (lambda c: c.update(model_num_classes=5), r"weights are not those of ERM .*size mismatch"),
        (lambda c: c["model_hparams"].pop("nonlinear_classifier"), r"ERM cannot be built .*nonlinear_classifier"),
    ],
)  # fmt: skip
def test_what_is_no_model_of_this_backend_is_one_sentence(tmp_path, change, message):
    if bridge.register().name != "engine":
        pytest.skip("a checkout has other algorithms")
    content = model_content()
    change(content)
    torch.save(content, tmp_path / "model.pkl")
    with pytest.raises(RogaError, match=message) as caught:
        load_run(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_list_is_no_model(tmp_path):
    torch.save([1, 2], tmp_path / "model.pkl")
    with pytest.raises(RogaError, match="is no model of 'train': it holds a list"):
        load_run(tmp_path)


def test_records_that_are_damaged_cost_the_provenance_alone(tmp_path):
    torch.save(model_content(), tmp_path / "model.pkl")
    for line in ("", "no json", json.dumps({"provenance": 3}), "[1]"):
        (tmp_path / "results.jsonl").write_text(line + "\n")
        assert load_run(tmp_path).provenance == {}
