"""Minibatches are functions of (seed, step, environment): nothing else changes them."""

import numpy as np
import pytest
import torch

from roga_domainbed.engine.lib.misc import balanced_weights
from roga_domainbed.errors import RogaError
from roga_domainbed.input import path as input_path
from roga_domainbed.input.environment import Environment
from roga_domainbed.input.minibatches import IndexSampler
from roga_domainbed.input.path import InputOptions, InputPath

CPU = torch.device("cpu")


class Noisy(Environment):
    """Samples that draw from the global generators, as augmentation does."""

    def __init__(self, n, offset=0):
        self.n, self.offset = n, offset

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        noise = torch.rand(3) + np.random.rand()  # noqa: NPY002 - what a third party's dataset may do
        return torch.full((3,), float(index + self.offset)) + noise, index % 2


def stream(steps, seed=0, n_workers=0, environments=None):
    environments = environments or (Noisy(10), Noisy(7, 100))
    path = InputPath(environments, InputOptions(), name="Noisy", seed=seed, n_workers=n_workers, device=CPU)
    draws = [IndexSampler(range(len(environment)), 4) for environment in environments]
    return list(path.minibatches(range(len(environments)), draws, "minibatch", steps))


def same(left, right):
    return all(
        torch.equal(x, other_x) and torch.equal(y, other_y)
        for step, other in zip(left, right, strict=True)
        for (x, y), (other_x, other_y) in zip(step, other, strict=True)
    )


def test_a_stream_that_starts_later_draws_what_the_unbroken_one_would_have():
    assert same(stream(range(6))[4:], stream(range(4, 6)))


def test_loader_processes_change_nothing():
    assert same(stream(range(5)), stream(range(5), n_workers=2))


def test_what_was_drawn_before_changes_nothing():
    torch.manual_seed(1)
    first = stream(range(3))
    torch.manual_seed(2)
    assert same(first, stream(range(3)))


def test_seeds_steps_and_environments_draw_differently():
    assert not same(stream(range(3)), stream(range(3), seed=1))
    a, b = stream(range(2))
    assert not same([a], [b])
    draw = IndexSampler(range(1000), 50)
    assert not np.array_equal(draw.at(0, "minibatch", 0, 0), draw.at(0, "minibatch", 0, 1))


def test_a_batch_larger_than_the_environment_repeats_samples():
    (((x, _),),) = stream(range(1), environments=(Noisy(2),))
    assert len(x) == 4


def test_draws_are_uniform_with_replacement():
    # χ² with 9 degrees of freedom exceeds 27.9 with probability 0.001.
    draw = IndexSampler(range(10), 100)
    counts = np.bincount(
        np.concatenate([draw.at(0, "minibatch", step, 0) for step in range(100)]), minlength=10
    )
    assert ((counts - 1000) ** 2 / 1000).sum() < 27.9


def test_balanced_draws_give_every_class_the_same_share():
    labels = np.array([0] * 90 + [2] * 10)
    weights = balanced_weights(labels)
    assert weights.sum() == pytest.approx(1)
    assert weights[0] == pytest.approx(1 / 180)
    assert weights[95] == pytest.approx(1 / 20)
    draw = IndexSampler(np.arange(100), 100, weights)
    drawn = np.concatenate([labels[draw.at(0, "minibatch", step, 0)] for step in range(50)])
    assert abs((drawn == 2).mean() - 0.5) < 0.03  # 3 standard deviations are 0.021


def test_evaluation_batches_keep_order_and_the_last_partial_one(monkeypatch):
    class Plain(Noisy):
        def __getitem__(self, index):
            return torch.full((1,), float(index)), 0

    monkeypatch.setitem(input_path._EVALUATION_BATCH, "cpu", 2)
    reader = InputPath([Plain(10)], InputOptions("exact"), name="Plain", seed=0, n_workers=0, device=CPU)
    batches = list(reader.evaluation([(0, [7, 3, 9, 0, 2])]))
    assert [x.flatten().tolist() for _, x, _ in batches] == [[7, 3], [9, 0], [2]]


@pytest.mark.parametrize("n_workers", [0, 2])
def test_an_unreadable_sample_is_one_error_from_any_process(n_workers):
    class Broken(Noisy):
        def __getitem__(self, index):
            raise RogaError("cannot read the image 'x.png'")

    with pytest.raises(RogaError, match=r"^cannot read the image 'x\.png'$"):
        stream(range(2), n_workers=n_workers, environments=(Noisy(5), Broken(5)))
