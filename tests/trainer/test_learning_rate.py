"""Schedules of the learning rate: the factor, its way into every algorithm, and what a run makes of it."""

import math
import os
import signal

import pytest
import torch
from small_runs import N_STEPS, at_step, comparable, records_of, run, use_small_images
from torch.nn import functional as F
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, StepLR
from torch.optim.optimizer import register_optimizer_step_post_hook

from roga_domainbed import optim
from roga_domainbed.catalog import SCHEDULE_HPARAMS
from roga_domainbed.engine import algorithms
from roga_domainbed.engine.hparams_registry import default_hparams
from roga_domainbed.errors import RogaError
from roga_domainbed.input.minibatches import seed_everything
from roga_domainbed.trainer.learning_rate import LearningRate, factor
from roga_domainbed.trainer.stop import Stopped

SHAPE = (6,)
IMAGES = dict.fromkeys(("ARM", "CORE", "ForensicTransfer"), (1, 28, 28))  # what does not work on vectors
MLP = {"mlp_width": 8, "mlp_depth": 2, "mlp_dropout": 0.0}
SMALL = '{"batch_size": 4, "backbone": "meso4", %s}'


def batches(step=0, n_domains=3, rows=8, shape=SHAPE):
    generator = torch.Generator().manual_seed(step)
    y = torch.arange(rows) % 2
    by_class = 2 * y.view(-1, *[1] * len(shape))
    return [(torch.randn(rows, *shape, generator=generator) + by_class, y) for _ in range(n_domains)]


def make(name, lr=0.01, **overrides):
    torch.manual_seed(0)
    hparams = {**default_hparams(name, "Debug28"), **MLP, "linear_steps": 1, **overrides}
    rates = ("lr", "lr_g", "lr_d", "linear_lr", "urm_discriminator_lr")
    hparams |= {rate: lr for rate in rates if rate in hparams}
    return algorithms.get_algorithm_class(name)(IMAGES.get(name, SHAPE), 2, 3, hparams)


def weights(algorithm):
    return torch.cat([p.detach().flatten() for p in algorithm.parameters()])


def test_the_factors_are_those_worked_out_by_hand():
    assert [factor(step, 6, {}) for step in range(6)] == [1] * 6
    warm_up = [factor(step, 6, {"warmup_steps": 3}) for step in range(6)]
    assert warm_up == [1 / 4, 2 / 4, 3 / 4, 1, 1, 1]
    half = math.sqrt(0.5)
    expected = [1, (1 + half) / 2, 1 / 2, (1 - half) / 2]
    cosine = {"lr_schedule": "cosine"}
    assert [factor(step, 4, cosine) for step in range(4)] == pytest.approx(expected, abs=1e-15)
    both = [factor(step, 6, {**cosine, "warmup_steps": 2}) for step in range(6)]
    assert both == pytest.approx([1 / 3, 2 / 3, *expected], abs=1e-15)
    steps = {"lr_schedule": "step", "lr_decay_every": 2, "lr_decay": 0.5}
    assert [factor(step, 6, steps) for step in range(6)] == [1, 1, 1 / 2, 1 / 2, 1 / 4, 1 / 4]
    both = [factor(step, 6, {**steps, "warmup_steps": 1}) for step in range(6)]
    assert both == [1 / 2, 1, 1, 1 / 2, 1 / 2, 1 / 4]
    tenths = [factor(step, 3, {"lr_schedule": "step", "lr_decay_every": 1}) for step in range(3)]
    assert tenths == pytest.approx([1, 0.1, 0.01], abs=1e-15)


@pytest.mark.parametrize(
    ("hparams", "scheduler"),
    [
        ({"lr_schedule": "cosine"}, lambda optimizer: CosineAnnealingLR(optimizer, T_max=10)),
        ({"lr_schedule": "step", "lr_decay_every": 3}, lambda optimizer: StepLR(optimizer, step_size=3)),
        (
            {"lr_schedule": "step", "lr_decay_every": 4, "lr_decay": 0.3},
            lambda optimizer: StepLR(optimizer, step_size=4, gamma=0.3),
        ),
    ],
)
def test_the_factors_are_torchs(hparams, scheduler):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = scheduler(optimizer)
    for step in range(10):
        assert factor(step, 10, hparams) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize(
    ("name", "base"), [(name, base) for name in algorithms.ALGORITHMS for base in ("adam", "sgd")]
)
def test_every_algorithm_steps_as_with_the_smaller_rate(name, base):
    # With one step of warm-up the factor of step 0 is ½, and half of a number is exact. The penalties of IRM, VREx
    # and the information bottleneck take their full weight, and Adam restarts, within these steps.
    own = {"optimizer": base, "irm_penalty_anneal_iters": 2}
    own |= {"vrex_penalty_anneal_iters": 2, "ib_penalty_anneal_iters": 3}
    scheduled, slower, full = make(name, **own), make(name, lr=0.005, **own), make(name, **own)
    rate = LearningRate({"warmup_steps": 1}, 9)
    start = weights(full)
    for step in range(4):
        for algorithm in (scheduled, slower, full):
            seed_everything(step)
            minibatches = batches(step, shape=IMAGES.get(name, SHAPE))
            if algorithm is scheduled:
                with rate.at(0):
                    algorithm.update(minibatches)
            else:
                algorithm.update(minibatches)
    assert torch.equal(weights(scheduled), weights(slower))
    assert not torch.equal(weights(full), weights(slower))
    assert not torch.equal(weights(slower), start)


@pytest.mark.parametrize("name", ["ERM", "RoGA"])
def test_the_weights_are_those_of_a_plain_loop_with_a_scheduler_of_torch(name):
    n_steps, warmup = 7, 2
    rate = LearningRate({"lr_schedule": "cosine", "warmup_steps": warmup}, n_steps)
    ours, plain = make(name, lr=0.1, optimizer="sgd", momentum=0.9), make("ERM", lr=0.1)
    if name == "ERM":
        optimizer = torch.optim.SGD(plain.network.parameters(), lr=0.1, momentum=0.9)
    else:
        optimizer = optim.RoGA(plain.network.parameters(), lr=0.1, momentum=0.9, rho=ours.hparams["rho"])
    scheduler = LambdaLR(
        optimizer,
        lambda step: (
            (step + 1) / 3 if step < 2 else 0.5 * (1 + math.cos(math.pi * (step - 2) / (n_steps - 2)))
        ),
    )
    for step in range(n_steps):
        with rate.at(step):
            ours.update(batches(step))
        if name == "ERM":
            optimizer.zero_grad()
            x, y = (torch.cat(parts) for parts in zip(*batches(step), strict=True))
            F.cross_entropy(plain.predict(x), y).backward()
            optimizer.step()
        else:
            optimizer.step([lambda x=x, y=y: F.cross_entropy(plain.predict(x), y) for x, y in batches(step)])
        scheduler.step()
    torch.testing.assert_close(weights(ours), weights(plain), rtol=0, atol=1e-6)
    assert [group["lr"] for group in ours.optimizer.param_groups] == [0.1]


def test_a_step_that_fails_leaves_the_full_rate_and_no_hook():
    algorithm = make("RoGA")

    def fail(*_):
        raise ValueError("in the step")

    handle = algorithm.optimizer.base_optimizer.register_step_pre_hook(fail)
    with pytest.raises(ValueError, match="in the step"), LearningRate({"warmup_steps": 1}, 9).at(0):
        algorithm.update(batches())
    handle.remove()
    assert algorithm.optimizer.param_groups[0]["lr"] == 0.01
    other = make("RoGA")
    algorithm.load_state_dict(other.state_dict())
    for each in (algorithm, other):
        each.update(batches())
    assert torch.equal(weights(algorithm), weights(other))


@pytest.fixture
def small(monkeypatch):
    use_small_images(monkeypatch)


@pytest.mark.parametrize("name", ["ERM", "RoGA"])
def test_a_run_steps_with_the_schedule_and_its_records_say_so(name, small, tmp_path):
    rates = []

    def note(optimizer, *_):
        if not isinstance(optimizer, optim.RoGA):
            rates.append(optimizer.param_groups[0]["lr"])

    run(tmp_path / "plain", algorithm=name, hparams=SMALL % '"lr": 0.01')
    # Hooks are called in the order of their registration: this one before that of the step, which puts the rate back.
    handle = register_optimizer_step_post_hook(note)
    try:
        run(
            tmp_path / "run",
            algorithm=name,
            hparams=SMALL % '"lr": 0.01, "lr_schedule": "cosine", "warmup_steps": 2',
        )
    finally:
        handle.remove()
    schedule = {"lr_schedule": "cosine", "warmup_steps": 2}
    expected = [0.01 * factor(step, N_STEPS, schedule) for step in range(N_STEPS)]
    assert rates == pytest.approx(expected, rel=1e-12)
    hparams = [record["hparams"] for record in records_of(tmp_path / "run")]
    assert all((h["lr"], h["lr_schedule"], h["warmup_steps"]) == (0.01, "cosine", 2) for h in hparams)
    without = [record["hparams"] for record in records_of(tmp_path / "plain")]
    assert not {spec.name for spec in SCHEDULE_HPARAMS} & set(without[0])


STEPS = '"lr_schedule": "step", "lr_decay_every": 3, "warmup_steps": 2, '


def stop():
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="signals of POSIX")
@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("RoGA", '"lr_schedule": "cosine", "warmup_steps": 4'),
        ("ERM", STEPS + '"optimizer": "sgd", "lr": 0.05'),
        ("Fish", STEPS + '"optimizer": "sgd", "lr": 0.05'),
        ("MLDG", STEPS + '"optimizer": "adamw", "weight_decay": 0.1, "n_meta_test": 1'),
    ],
)
def test_a_stopped_run_with_a_schedule_resumes_bit_for_bit(name, own, small, tmp_path, monkeypatch):
    given = {"algorithm": name, "hparams": SMALL % own}
    run(tmp_path / "unbroken", **given)
    for steps_done in (3, 7):  # in the warm-up of four steps, and after it
        folder = tmp_path / str(steps_done)
        with monkeypatch.context() as context:
            at_step(context, steps_done - 1, stop, algorithms.get_algorithm_class(name))
            with pytest.raises(Stopped):
                run(folder, **given)
        run(folder, **given)
        assert f"Continued after {steps_done} of {N_STEPS} steps." in (folder / "out.txt").read_text()
        assert comparable(folder) == comparable(tmp_path / "unbroken")


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ('"warmup_steps": -1', "hparam 'warmup_steps' must be a whole number, at least 0 and .*; got -1"),
        ('"warmup_steps": 1.5', "hparam 'warmup_steps' must be a whole number, at least 0 and .*; got 1.5"),
        ('"warmup_steps": 9', "hparam 'warmup_steps' must be below the run's 9 steps, .*; got 9"),
        (
            '"lr_schedule": "cosin"',
            "hparam 'lr_schedule' must be one of 'none', 'cosine', 'step'; got 'cosin'",
        ),
        ('"lr_schedule": "step"', "hparam 'lr_schedule' step needs 'lr_decay_every', the training steps"),
        (
            '"lr_decay_every": 3',
            "hparam 'lr_decay_every' goes with 'lr_schedule' step, and no 'lr_schedule'",
        ),
        (
            '"lr_schedule": "step", "lr_decay_every": 0',
            "hparam 'lr_decay_every' must be a whole number, at least 1 and .*; got 0",
        ),
        (
            '"lr_schedule": "step", "lr_decay_every": 3, "lr_decay": 10',
            "hparam 'lr_decay' must be a finite number, above 0 and at most 1; got 10",
        ),
    ],
)
def test_a_schedule_that_cannot_be_is_refused_before_training(own, message, small, tmp_path):
    with pytest.raises(RogaError, match=message):
        run(tmp_path / "run", hparams=SMALL % own)
    assert not (tmp_path / "run").exists()


def test_a_warm_up_longer_than_the_datasets_own_steps_is_refused_too(small, tmp_path):
    with pytest.raises(RogaError, match=r"must be below the run's 5,001 steps, .*; got 6,000"):
        run(tmp_path / "run", hparams=SMALL % '"warmup_steps": 6000', steps=None)
    assert not (tmp_path / "run" / "results.jsonl").exists()
