"""Loading a model again: what was trained comes back, and every other file is refused in one sentence."""

import json
import os
import pickle

import numpy as np
import pytest
import torch

from roga_domainbed import catalog
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


def test_whole_numbers_among_the_hyper_parameters_are_numbers(tmp_path):
    own = {"meso4_dropout": 0, "optimizer": "sgd", "momentum": 0, "lr_schedule": "step", "lr_decay": 1}
    own |= {"averaging": "swad", "swad_ratio": 2}
    torch.save(
        model_content(shape=(3, 32, 32), backbone="meso4", **own, lr_decay_every=5), tmp_path / "model.pkl"
    )
    assert load_run(tmp_path).hparams["momentum"] == 0


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
        (lambda c: c["model_hparams"].update(optimizer="rprop"), r"optimizer must be one of 'adam', 'adamw'"),
        (lambda c: c["model_hparams"].update(momentum=True), r"momentum must be a finite number, at least 0"),
        (lambda c: c["args"].update(algorithm="ERN"), r"unknown algorithm 'ERN' \(did you mean 'ERM'\?\)"),
        (lambda c: c["args"].update(algorithm="Theirs"), r"algorithm 'Theirs' is DomainBed's own: set DOMAINBED_HOME"),
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
    only_a_checkout_has_it = catalog.ALGORITHMS.temporarily(catalog.AlgorithmInfo("Theirs"))
    with only_a_checkout_has_it, pytest.raises(RogaError, match=message) as caught:
        load_run(tmp_path)
    assert "\n" not in str(caught.value)


def repeated(value, depth):
    """Lists in lists, 10 ** depth values when they are walked through."""
    for _ in range(depth):
        value = [value] * 10
    return value


KINDS = {
    "args": ([1], r"args must be a mapping; got \[1\]"),
    "args.test_envs": ("x", r"among args, test_envs must be a list, each a whole number; got 'x'"),
    "args.seed": ([1], r"among args, seed must be a whole number, at least 0"),
    "args.algorithm": (["ERM"], r"among args, algorithm must be a string; got \['ERM'\]"),
    "args.dataset": (7, r"among args, dataset must be a string; got 7"),
    "args.reals": (7, r"among args, reals must be a string; got 7"),
    "args.holdout_fraction": ("0.2", r"among args, holdout_fraction must be a finite number"),
    "args.row": ("x" * 10**6, r"args may hold numbers of 64 bits and short text, by name"),
    "args.trial_seed": (repeated(1, 20), r"args may hold numbers of 64 bits and short text, by name"),
    "model_class_names": (["real"], r"model_class_names must be 2 names; got a list"),
    "model_image_kind": (7, r"model_image_kind must be faces or folders; got 7"),
    "model_num_domains ": (repeated(1, 20), r"model_num_domains must be a whole number"),
    "model_num_classes": (-1, r"model_num_classes must be a whole number, at least 1 and at most 100,000; got -1"),
    "model_num_domains": (10**15, r"model_num_domains must be a whole number, at least 1 and at most 1,000"),
    "model_input_shape": ((3, 10**6, 10**6), r"model_input_shape must be \(channels, height, width\), at most 64 and"),
    "model_hparams": ({3: 4}, r"model_hparams may hold numbers of 64 bits and short text, by name"),
    "model_hparams.lr": (10**400, r"model_hparams may hold numbers of 64 bits and short text, by name"),
    "model_hparams.mlp_width": (repeated(1, 20), r"model_hparams may hold numbers of 64 bits and short text, by name"),
    "model_hparams.mlp_depth": (10**9, r"its mlp_depth is 1000000000, and it has \d+ tensors in all"),
    "model_dict": ("x", r"model_dict must be a mapping; got 'x'"),
    "model_dict.featurizer.conv1.weight": ([1.0], r"model_dict has 1 values that are no tensors: 'featurizer.conv1.w"),
    "model_dict.7": (torch.zeros(1), r"model_dict has names that are no text: 7"),
}  # fmt: skip


def replaced(content, place, value):
    outer, _, inner = place.partition(".")
    if inner:
        content[outer][int(inner) if inner == "7" else inner] = value
    else:
        content[outer] = value


@pytest.mark.parametrize("place", KINDS)
def test_a_part_of_another_kind_is_one_sentence(tmp_path, place):
    content, (value, message) = model_content(), KINDS[place]
    replaced(content, place.strip(), value)
    torch.save(content, tmp_path / "model.pkl")
    with pytest.raises(RogaError, match=message) as caught:
        load_run(tmp_path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_all_parts_of_another_kind_come_at_once(tmp_path):
    content = model_content()
    del content["model_num_classes"]
    for place in ("args.seed", "model_num_domains", "model_hparams", "model_dict.7"):
        replaced(content, place, KINDS[place][0])
    torch.save(content, tmp_path / "model.pkl")
    with pytest.raises(RogaError, match="lacks model_num_classes") as caught:
        load_run(tmp_path)
    assert all(
        word in str(caught.value) for word in ("seed", "model_num_domains", "model_hparams", "no text: 7")
    )


def detector_content():
    """A model with thresholds and a familiarity: 64 fields, and 64 channels of the first of its convolutions."""
    values = {"eer": 0.4, "fpr=0.01": 0.9, "fpr=0.05": 1}
    level = {"n_real": 3, "n_fake": 4, **values}
    known = {"layers": ["featurizer.conv1"], "mean": torch.zeros(192), "whitening": torch.eye(192)}
    return model_content() | {
        "model_calibration": {
            "temperature": 1.5,
            "environments": ["DF"],
            "frames": level,
            "videos": dict(level),
        },
        "model_familiarity": {**known, "limit": 2.5, "n_images": 100},
    }


def test_thresholds_and_what_is_familiar_come_back(tmp_path):
    content = detector_content()
    torch.save(content, tmp_path / "model.pkl")
    run = load_run(tmp_path)
    assert run.calibration.as_plain() == content["model_calibration"]
    assert (run.familiarity.layers, run.familiarity.limit) == (("featurizer.conv1",), 2.5)
    assert run.familiarity.distances(torch.eye(192)[:2] * 3).tolist() == [3.0, 3.0]
    del content["model_calibration"]["videos"]
    torch.save(content, tmp_path / "model.pkl")
    assert load_run(tmp_path).calibration.videos is None
    torch.save(model_content(), tmp_path / "model.pkl")
    assert (load_run(tmp_path).calibration, load_run(tmp_path).familiarity) == (None, None)


FAULTS = {
    "model_calibration": ([1], r"model_calibration must be a mapping; got \[1\]"),
    "model_calibration.temperature": (0, r"in model_calibration, temperature must be a finite number, above 0; got 0"),
    "model_calibration.environments": ([], r"environments in model_calibration must be names; got \[\]"),
    "model_calibration.frames": (3, r"in model_calibration, frames must be a mapping; got 3"),
    "model_calibration.videos": (None, r"in model_calibration, videos must be a mapping; got None"),
    "model_calibration.videos.eer": (1.5, r"in videos in model_calibration, eer must be a finite number, at least 0"),
    "model_calibration.frames.n_real": (0, r"in frames in model_calibration, n_real must be a whole number"),
    "model_calibration.frames.eer": (float("nan"), r"in frames in model_calibration, eer must be a finite number"),
    "model_familiarity": ("x", r"model_familiarity must be a mapping; got 'x'"),
    "model_familiarity.limit": (float("inf"), r"in model_familiarity, limit must be a finite number, at least 0"),
    "model_familiarity.layers": ("conv1", r"layers in model_familiarity must be names; got 'conv1'"),
    "model_familiarity.mean": (torch.full((192,), torch.nan), r"mean in model_familiarity must be finite float32"),
    "model_familiarity.whitening": (torch.eye(5), r"whitening in model_familiarity must be finite float32 numbers"),
}  # fmt: skip


@pytest.mark.parametrize("place", FAULTS)
def test_thresholds_of_another_kind_are_one_sentence(tmp_path, place):
    content, (value, message) = detector_content(), FAULTS[place]
    *outer, last = place.split(".")
    inner = content
    for name in outer:
        inner = inner[name]
    inner[last] = value
    torch.save(content, tmp_path / "model.pkl")
    with pytest.raises(RogaError, match=message) as caught:
        load_run(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["featurizer.conv2", "featurizer.bn0", "none"])
def test_a_familiarity_of_another_network_is_refused(tmp_path, name):
    content = detector_content()
    content["model_familiarity"]["layers"] = [name]
    torch.save(content, tmp_path / "model.pkl")
    with pytest.raises(RogaError, match="its model_familiarity is not of its network"):
        load_run(tmp_path)


@pytest.mark.parametrize(("key", "value"), [("model_num_classes", 99_999), ("mlp_width", 10**6)])
def test_a_network_larger_than_its_file_is_not_built(tmp_path, key, value):
    shape = (3, 64, 64) if key == "model_num_classes" else (3, 28, 28)
    hparams = {"backbone": "resnet10t", "pretrained": False} if shape[1] == 64 else {}
    content = model_content(shape=shape, **hparams)
    if key == "mlp_width":
        content["args"]["algorithm"] = "DANN"
        content["model_hparams"] = bridge.register().hparams_registry.default_hparams("DANN", "Debug28")
        content["model_hparams"] |= {"mlp_width": 10**6, "mlp_depth": 4}
    else:
        content[key] = value
    torch.save(content, tmp_path / "model.pkl")
    with pytest.raises(
        RogaError, match=r"the network that it describes has [\d,]+ bytes of weights, and the file has"
    ):
        load_run(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused_with_their_names(tmp_path, value):
    content = model_content()
    content["model_dict"]["featurizer.conv1.weight"][3] = value
    torch.save(content, tmp_path / "model.pkl")
    with pytest.raises(
        RogaError, match=r"\d of its \d+ tensors hold NaN or infinity: featurizer\.conv1\.weight"
    ):
        load_run(tmp_path)


@pytest.mark.parametrize("dtype", [torch.int64, torch.complex64])
def test_weights_of_another_kind_of_number_are_not_converted(tmp_path, dtype):
    content = model_content()
    state = content["model_dict"]
    state["featurizer.conv1.weight"] = state["featurizer.conv1.weight"].to(dtype)
    torch.save(content, tmp_path / "model.pkl")
    with pytest.raises(
        RogaError, match=rf"featurizer\.conv1\.weight is torch\.float32 here and {dtype} there"
    ):
        load_run(tmp_path)


def test_200_flipped_bits_are_found(tmp_path):
    path = tmp_path / "model.pkl"
    torch.save(model_content(), path)
    content, rng = bytearray(path.read_bytes()), np.random.RandomState(0)
    for position in rng.randint(len(content) // 4, len(content) * 3 // 4, 200):
        content[position] ^= 1 << rng.randint(8)
    path.write_bytes(content)
    with pytest.raises(RogaError, match="does not have its checksum"):
        load_run(tmp_path)


def test_a_named_pipe_is_no_model(tmp_path):
    os.mkfifo(tmp_path / "pipe.pkl")
    with pytest.raises(RogaError, match="is no model: it is neither a regular file nor a folder"):
        load_run(tmp_path / "pipe.pkl")
    torch.save(model_content(), tmp_path / "model.pkl")
    os.mkfifo(tmp_path / "results.jsonl")
    assert load_run(tmp_path).provenance == {}


def test_a_list_is_no_model(tmp_path):
    torch.save([1, 2], tmp_path / "model.pkl")
    with pytest.raises(RogaError, match="is no model of 'train': it holds a list"):
        load_run(tmp_path)


def test_records_that_are_damaged_cost_the_provenance_alone(tmp_path):
    torch.save(model_content(), tmp_path / "model.pkl")
    for line in ("", "no json", json.dumps({"provenance": 3}), "[1]"):
        (tmp_path / "results.jsonl").write_text(line + "\n")
        assert load_run(tmp_path).provenance == {}
