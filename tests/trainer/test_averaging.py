"""Averaged weights of a run: what they are, what a record has of them, and that training goes on as without them."""

import io
import json
import os
import signal

import numpy as np
import pytest
import torch
from small_runs import CLOCKS, at_call, at_step, comparable, records_of, run, use_small_images
from torch import nn

from roga_domainbed.catalog import AVERAGING_HPARAMS
from roga_domainbed.engine import algorithms
from roga_domainbed.errors import RogaError
from roga_domainbed.inference.saved_run import load_run
from roga_domainbed.results.runs import as_runs
from roga_domainbed.trainer import batch_statistics
from roga_domainbed.trainer import loop as training
from roga_domainbed.trainer.averaging import Averaging, Ema
from roga_domainbed.trainer.object_state import CannotRestore
from roga_domainbed.trainer.stop import Stopped

NAMES = {spec.name for spec in AVERAGING_HPARAMS}
SMALL = {"batch_size": 4, "backbone": "meso4"}
EMA = {"averaging": "ema", "ema_decay": 0.5}
# With one evaluation to converge, the start is found at the first one after step 0.
SWAD = {"averaging": "swad", "swad_converge": 1}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    use_small_images(monkeypatch)


def averaged_run(folder, own, algorithm="ERM", **kwargs):
    given = {"steps": 5, "checkpoint_freq": 2, "checkpoint_every": 0, **kwargs}
    run(folder, algorithm=algorithm, hparams=json.dumps({**SMALL, **own}), **given)


def weights_after_each_step(monkeypatch, algorithm):
    """Fills with the state of the algorithm after each of its updates."""
    states = []
    cls = algorithms.get_algorithm_class(algorithm)
    update = cls.update

    def noted(self, *args, **kwargs):
        values = update(self, *args, **kwargs)
        states.append({name: value.clone() for name, value in self.state_dict().items()})
        return values

    monkeypatch.setattr(cls, "update", noted)
    return states


def saved(folder):
    return torch.load(folder / "model.pkl", weights_only=True)["model_dict"]


# --- the moving average --------------------------------------------------------------------------------


def test_a_moving_average_worked_by_hand():
    # Weights ¼, ½ and 1 for the steps, which sum to 7/4: (1/4 + 2/2 + 4)/(7/4) = 3.
    ema = Ema(0.5)
    assert ema.average is None
    for step, weight in enumerate((1.0, 2.0, 4.0)):
        ema.add(step, [torch.tensor(weight)])
    assert ema.average[0].item() == pytest.approx(3)


def test_a_long_moving_average_is_the_weighted_mean_of_all_steps():
    values = np.random.RandomState(0).randn(3000)
    ema = Ema(0.999)
    for step, value in enumerate(values):
        ema.add(step, [torch.tensor(value)])
    assert ema.average[0].item() == pytest.approx(
        np.average(values, weights=0.999 ** np.arange(2999, -1, -1))
    )


# --- the model of a run --------------------------------------------------------------------------------


CASES = [("ERM", EMA), ("RoGA", SWAD), ("Fish", SWAD), ("DANN", EMA), ("MLDG", {**EMA, "n_meta_test": 1})]
MORE = [("ERM", SWAD), ("RoGA", EMA), ("Fish", EMA), ("DANN", SWAD), ("GroupDRO", SWAD), ("LTW", EMA)]
MORE = [pytest.param(*case, marks=pytest.mark.slow) for case in MORE]


@pytest.mark.parametrize(("algorithm", "own"), CASES + MORE)
def test_training_is_that_without_averaging_and_the_model_is_the_mean(algorithm, own, tmp_path, monkeypatch):
    others = {name: value for name, value in own.items() if name not in NAMES}
    averaged_run(tmp_path / "plain", others, algorithm)
    states = weights_after_each_step(monkeypatch, algorithm)
    averaged_run(tmp_path / "averaged", own, algorithm)

    plain, averaged = records_of(tmp_path / "plain"), records_of(tmp_path / "averaged")
    assert len(averaged) == len(plain)
    for before, now in zip(plain, averaged, strict=True):
        for key, value in before.items():
            if key.startswith("env"):
                assert now[f"plain_{key}"] == value, key
            elif key not in ("args", "hparams", *CLOCKS):
                assert now[key] == value, key
    last, model = saved(tmp_path / "plain"), saved(tmp_path / "averaged")
    assert all(torch.equal(states[-1][name], value) for name, value in last.items())

    if own["averaging"] == "ema":
        shares = 0.5 ** np.arange(len(states) - 1, -1, -1)
    else:
        first, end = averaged[-1]["swad_start"], averaged[-1]["swad_end"]
        low = [record["step"] for record in averaged if record["swad_loss"] <= 1.3 * averaged[1]["swad_loss"]]
        assert (first, end) == (1, max(low))
        shares = np.array([first <= step <= end for step in range(len(states))], float)
    assert model.keys() == last.keys()
    estimated = [name for name in model if name.endswith(("running_mean", "running_var"))]
    for name, value in model.items():
        if not value.is_floating_point() or (
            name in estimated and algorithm == "MLDG"
        ):  # which trains copies
            assert torch.equal(value, last[name]), name
        elif name in estimated:
            assert not torch.equal(value, last[name]), name
        else:
            every = np.stack([state[name].double().numpy() for state in states])
            expected = np.average(every, axis=0, weights=shares)
            np.testing.assert_allclose(value.numpy(), expected, rtol=0, atol=1e-6, err_msg=name)
    assert estimated
    assert any(not torch.equal(value, last[name]) for name, value in model.items())


@pytest.mark.parametrize("own", [EMA, SWAD], ids=["ema", "swad"])
def test_a_record_and_the_scores_are_of_the_model_that_is_saved_with_it(own, tmp_path):
    averaged_run(tmp_path / "run", own, save_model_every_checkpoint=True)
    *_, record = records_of(tmp_path / "run")
    one, other = (load_run(tmp_path / "run" / name) for name in ("model.pkl", "model_step4.pkl"))
    for name, value in one.algorithm.state_dict().items():
        assert torch.equal(value, other.algorithm.state_dict()[name])
    # Debug28's images come from the seed of a run.
    from roga_domainbed.host.backend import host
    from roga_domainbed.trainer.evaluation import evaluate, record_values
    from roga_domainbed.trainer.experiment import Experiment

    experiment = Experiment(one.config, one.hparams, host())
    experiment.algorithm = one.algorithm
    metrics = record_values(evaluate(experiment))
    assert {key: record[key] for key in metrics} == metrics
    assert record["env0_in_log_loss"] != record["plain_env0_in_log_loss"]


def test_without_a_start_the_model_has_the_weights_of_the_last_step(tmp_path, monkeypatch):
    averaged_run(tmp_path / "plain", {})
    losses = iter([3.0, 2.0, 1.0])
    monkeypatch.setattr(training, "validation_loss", lambda *_: next(losses))
    averaged_run(tmp_path / "swad", {"averaging": "swad", "swad_converge": 2})
    for record in records_of(tmp_path / "swad"):
        assert (record["swad_start"], record["swad_end"]) == (None, None)
        envs = [key for key in record if key.startswith("env")]
        assert all(record[key] == record[f"plain_{key}"] for key in envs)
    plain, model = saved(tmp_path / "plain"), saved(tmp_path / "swad")
    assert all(torch.equal(value, plain[name]) for name, value in model.items())
    assert "Notice: SWAD found no start" in (tmp_path / "swad" / "out.txt").read_text()


def test_start_and_end_are_told_once_and_the_end_holds(tmp_path, monkeypatch):
    losses = iter([2.0, 1.0, 1.2, 1.3, 1.5, 1.6, 1.0])
    monkeypatch.setattr(training, "validation_loss", lambda *_: next(losses))
    own = {"averaging": "swad", "swad_converge": 2, "swad_tolerate": 2, "swad_ratio": 1.2}
    averaged_run(tmp_path / "run", own, steps=13)
    records = records_of(tmp_path / "run")
    kept = [(record["swad_start"], record["swad_end"]) for record in records]
    assert kept == [(None, None)] * 2 + [(1, 4), (1, 6), (1, 6), (1, 6), (1, 6)]
    assert [r["env1_out_log_loss"] for r in records[4:]] == [records[3]["env1_out_log_loss"]] * 3
    out = (tmp_path / "run" / "out.txt").read_text()
    assert (
        out.count("Notice: SWAD: the average starts with step 1; validation losses above 1.32 are too high.")
        == 1
    )
    assert (
        out.count("Notice: SWAD: the average has ended with step 6, after 2 validation losses that are") == 1
    )


def test_skip_model_save_writes_no_model(tmp_path):
    averaged_run(tmp_path / "run", EMA, steps=2, skip_model_save=True)
    assert not (tmp_path / "run" / "model.pkl").exists()


# --- records -------------------------------------------------------------------------------------------


def test_records_have_the_weights_as_trained_under_keys_that_are_no_environments(tmp_path):
    for name, own in (("plain", {}), ("ema", EMA), ("swad", SWAD)):
        averaged_run(tmp_path / name, own, steps=3)
    plain, ema, swad = (records_of(tmp_path / name) for name in ("plain", "ema", "swad"))
    metrics = {key for key in plain[0] if key.startswith("env")}
    assert not {key for key in plain[0] if key.startswith(("plain_", "swad_"))}
    assert not NAMES & plain[0]["hparams"].keys()
    added = {f"plain_{key}" for key in metrics}
    assert [r.keys() - p.keys() for r, p in zip(ema, plain, strict=True)] == [added] * 2
    added |= {"swad_loss", "swad_start", "swad_end"}
    assert [r.keys() - p.keys() for r, p in zip(swad, plain, strict=True)] == [added] * 2
    assert NAMES & ema[0]["hparams"].keys() == {"averaging", "ema_decay"}
    chosen = {"averaging": "swad", "swad_converge": 1, "swad_tolerate": 6, "swad_ratio": 1.3}
    assert {name: swad[0]["hparams"][name] for name in NAMES & swad[0]["hparams"].keys()} == chosen
    columns = {column for found in as_runs(swad) for column in found.columns}
    assert columns == metrics


def test_swad_looks_at_the_mean_loss_of_the_training_environments_out_splits(tmp_path):
    averaged_run(tmp_path / "run", SWAD, steps=5, test_envs=[1])
    for record in records_of(tmp_path / "run"):
        # the log loss of scikit-learn's definition, from metrics/binary.py
        losses = [record[f"plain_env{env}_out_log_loss"] for env in (0, 2)]
        assert record["swad_loss"] == pytest.approx(np.mean(losses), rel=1e-12)


# --- batch norm ----------------------------------------------------------------------------------------


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.frozen = nn.BatchNorm1d(3), nn.BatchNorm1d(3, momentum=None)
        self.drop, self.unused = nn.Dropout(0.5), nn.BatchNorm1d(2)
        self.counted = nn.BatchNorm1d(3, momentum=None)
        self.register_buffer("shift", torch.zeros(3))
        self.register_buffer("count", torch.tensor(0))
        self.frozen.eval()

    def predict(self, x):
        return self.counted(self.drop(self.frozen(self.first(x))))


def test_statistics_are_the_mean_over_the_minibatches_of_what_an_evaluation_meets():
    network = Small()
    generator = torch.Generator().manual_seed(0)
    minibatches = [2 * torch.randn(8, 3, generator=generator) + i for i in range(5)]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    random_state = torch.get_rng_state()
    layers = [network.first, network.counted, network.unused]
    batch_statistics.estimate(network, layers, iter(minibatches))
    assert torch.equal(torch.get_rng_state(), random_state)
    after = network.state_dict()
    # layers that are frozen or not passed, counts and weights stay
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    names = [f"{layer}.{name}" for layer in ("first", "counted") for name in ("running_mean", "running_var")]
    assert moved == set(names)
    batches = np.stack([x.numpy() for x in minibatches]).astype(float)
    means, variances = batches.mean(1), batches.var(1, ddof=1)
    np.testing.assert_allclose(after["first.running_mean"].numpy(), means.mean(0), atol=1e-5)
    np.testing.assert_allclose(after["first.running_var"].numpy(), variances.mean(0), atol=1e-5)
    # each minibatch arrives normalized, and nothing is dropped
    np.testing.assert_allclose(after["counted.running_mean"].numpy(), 0, atol=1e-5)
    np.testing.assert_allclose(after["counted.running_var"].numpy(), 8 / 7, atol=1e-4)
    assert (network.first.momentum, network.counted.momentum) == (0.1, None)
    modes = [network.first.training, network.frozen.training, network.drop.training]
    assert modes == [True, False, True]


def test_weights_and_statistics_change_places_and_come_back_bit_for_bit():
    network = Small()
    network.level = nn.Parameter(torch.rand(4))
    averaged = Averaging(network, {"averaging": "ema", "ema_decay": 0.5})
    assert not averaged.take_place()
    for step in range(2):
        network.predict(torch.rand(4, 3))
        averaged.add(step)
        with torch.no_grad():
            network.level.add_(1)
            network.shift.add_(1)
            network.count.add_(1)
    own = {name: value.clone() for name, value in network.state_dict().items()}
    for _ in range(2):
        assert averaged.take_place()
        averaged.estimate([torch.rand(4, 3)])
        # the steps had shifts 0 and 1, with weights ½ and 1
        assert torch.allclose(network.shift, torch.full((3,), 2 / 3))
        assert torch.equal(network.count, own["count"])
        assert not torch.equal(network.first.running_mean, own["first.running_mean"])
        averaged.put_back()
        averaged.put_back()
        assert all(torch.equal(value, own[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_batch_norms_keep_their_statistics(frozen):
    network = nn.Sequential(nn.BatchNorm1d(3))
    before = batch_statistics.counts(network)
    network(torch.rand(4, 3))
    network.train(not frozen)
    assert batch_statistics.live_layers(network, before) == ([] if frozen else [network[0]])
    assert batch_statistics.live_layers(network, batch_statistics.counts(network)) == []


# --- resumed runs --------------------------------------------------------------------------------------


def stop():
    os.kill(os.getpid(), signal.SIGTERM)


def in_the_second_update(monkeypatch):
    at_step(monkeypatch, 1, stop, algorithms.get_algorithm_class("ERM"))


def before_the_first_step(monkeypatch):
    at_call(monkeypatch, training.TrainingLoop, "_minibatches", 1, stop)


def in_the_plain_evaluation(monkeypatch):  # all of these in the second record, that of step 2
    at_call(monkeypatch, training, "evaluate", 3, stop)


def in_the_averaged_evaluation(monkeypatch):
    at_call(monkeypatch, training, "evaluate", 4, stop)


def in_the_first_averaged_evaluation(monkeypatch):
    at_call(monkeypatch, training, "evaluate", 3, stop)


def as_the_weights_change_places(monkeypatch):
    at_call(monkeypatch, Averaging, "take_place", 2, stop, before=False)


def as_the_weights_are_put_back(monkeypatch):
    at_call(monkeypatch, Averaging, "put_back", 2, stop)


def as_statistics_are_estimated(monkeypatch):
    at_call(monkeypatch, batch_statistics, "evaluation_mode", 2, stop)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """``averaging`` → what a run that nothing stops ends with."""
    found = {}
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_small_images(monkeypatch)
        for own in (EMA, SWAD):
            folder = tmp_path_factory.mktemp("unbroken") / "run"
            averaged_run(folder, own)
            found[own["averaging"]] = comparable(folder)
    return found


@pytest.mark.skipif(not hasattr(os, "fork"), reason="signals of POSIX")
@pytest.mark.parametrize(
    ("own", "stop_there", "steps_done"),
    [
        (EMA, in_the_second_update, 2),
        (SWAD, in_the_second_update, 2),
        (SWAD, in_the_first_averaged_evaluation, 3),
        (EMA, as_statistics_are_estimated, 3),
        pytest.param(EMA, before_the_first_step, 0, marks=pytest.mark.slow),
        pytest.param(SWAD, before_the_first_step, 0, marks=pytest.mark.slow),
        pytest.param(EMA, in_the_plain_evaluation, 3, marks=pytest.mark.slow),
        pytest.param(EMA, in_the_averaged_evaluation, 3, marks=pytest.mark.slow),
        pytest.param(SWAD, as_the_weights_change_places, 3, marks=pytest.mark.slow),
        pytest.param(EMA, as_the_weights_are_put_back, 3, marks=pytest.mark.slow),
    ],
)
def test_a_stopped_run_resumes_bit_for_bit(own, stop_there, steps_done, tmp_path, monkeypatch, unbroken):
    folder = tmp_path / "run"
    with monkeypatch.context() as context:
        stop_there(context)
        with pytest.raises(Stopped):
            averaged_run(folder, own, checkpoint_every=100)
    averaged_run(folder, own, checkpoint_every=100)
    assert f"Continued after {steps_done} of 5 steps." in (folder / "out.txt").read_text()
    assert comparable(folder) == unbroken[own["averaging"]]


def test_swad_resumes_in_the_search_for_its_start_bit_for_bit():
    losses, captured = [3.0, 2.0, 2.5, 1.0, 1.1, 1.2, 1.5, 1.3], None
    hparams = {"averaging": "swad", "swad_ratio": 1.2}
    for n_before in range(len(losses)):
        ends = []
        for is_resumed in (False, True):
            network = nn.Linear(2, 2)
            averaged = Averaging(network, hparams)
            for step, loss in enumerate(losses):
                if step == n_before and is_resumed:
                    captured = load_back(averaged.capture())
                    averaged = Averaging(network, hparams)
                    averaged.restore(captured)
                with torch.no_grad():
                    for weight in network.parameters():
                        weight.fill_(step**0.5)
                averaged.add(step)
                said = averaged.look(step, loss)
            averaged.take_place()
            ends.append((said, averaged.sentences(), network.weight.tolist()))
        assert ends[0] == ends[1]
        assert ends[0][0]["swad_start"] == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="signals of POSIX")
def test_a_checkpoint_of_a_version_without_averaging_is_resumed(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    with monkeypatch.context() as context:
        in_the_second_update(context)
        with pytest.raises(Stopped):
            averaged_run(folder, {}, checkpoint_every=100)
    content = torch.load(folder / "checkpoint_2.pt", weights_only=True)
    assert content.pop("averaging") is None
    torch.save(content, folder / "checkpoint_2.pt")
    averaged_run(folder, {}, checkpoint_every=100)
    assert "Continued after 2 of 5 steps." in (folder / "out.txt").read_text()


def load_back(captured):
    """As a checkpoint's file does."""
    stream = io.BytesIO()
    torch.save(captured, stream)
    stream.seek(0)
    return torch.load(stream, weights_only=True)


@pytest.mark.parametrize(
    ("captured", "message"),
    [
        (lambda: None, "it has no averaged weights"),
        (lambda: filled(nn.Linear(3, 3)).capture(), "its averaged weights are of other shapes"),
        (lambda: spoilt(filled(nn.Linear(2, 2)).capture()), "it holds something else than averaged weights"),
    ],
)
def test_a_checkpoint_without_these_averages_is_not_restored(captured, message):
    with pytest.raises(CannotRestore, match=message):
        filled(nn.Linear(2, 2)).restore(captured())


def spoilt(captured):
    kind, number, name, attributes = captured
    return kind, number, name, {**attributes, "_mean": [1, 2]}


def filled(network):
    averaged = Averaging(network, EMA)
    averaged.add(0)
    return averaged


# --- refusals ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"averaging": "swa"}, "'averaging' must be one of 'none', 'swad', 'ema'; got 'swa'"),
        (
            {"averaging": "ema", "ema_decay": 1},
            "'ema_decay' must be a finite number, above 0 and below 1; got 1",
        ),
        (
            {"averaging": "swad", "swad_ratio": 0.3},
            "'swad_ratio' must be a finite number, at least 1; got 0.3",
        ),
        (
            {"averaging": "swad", "swad_converge": 0},
            "'swad_converge' must be a whole number, at least 1; got 0",
        ),
        (
            {"averaging": "swad", "swad_tolerate": 0},
            "'swad_tolerate' must be a whole number, at least 1; got 0",
        ),
        ({"ema_decay": 0.9}, "'ema_decay' goes with 'averaging' ema, and 'averaging' is none"),
        (
            {"averaging": "ema", "swad_ratio": 1.2},
            "'swad_ratio' goes with 'averaging' swad, and 'averaging' is ema",
        ),
        (
            {"averaging": "swad", "swad_converge": 6},
            r"finds its start from 6 evaluations after step 0, 'swad_converge', and the run has 5: give a smaller --ch",
        ),
    ],
)
def test_an_averaging_that_cannot_be_is_refused_before_training(own, message, tmp_path):
    with pytest.raises(RogaError, match=message):
        averaged_run(tmp_path / "run", own, steps=10)
    assert not (tmp_path / "run").exists()


def test_too_few_evaluations_of_the_datasets_own_number_are_refused_too(tmp_path):
    with pytest.raises(RogaError, match="'swad_converge', and the run has 2"):
        averaged_run(
            tmp_path / "run", {"averaging": "swad", "swad_converge": 3}, steps=None, checkpoint_freq=2500
        )
    assert not (tmp_path / "run" / "results.jsonl").exists()
