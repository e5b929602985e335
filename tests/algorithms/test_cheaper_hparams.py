"""The hyper-parameters that make RoGA cheaper, on DomainBed's networks."""

import pytest
import torch
from test_algorithms import build, minibatches

from roga_domainbed.catalog import ALGORITHMS
from roga_domainbed.catalog.hparams import overridden
from roga_domainbed.catalog.registry import load
from roga_domainbed.errors import Problems, RogaError
from roga_domainbed.optim.cheaper import CheaperRoGA


def weights(algorithm):
    return torch.cat([p.detach().flatten() for p in algorithm.network.parameters()])


def test_every_arrives_and_its_records_have_the_loss_of_full_steps_alone():
    algorithm = build("RoGA", roga_every=3)
    reports = [algorithm.update(minibatches(seed=step)) for step in range(4)]
    assert ["loss" in report for report in reports] == [True, False, False, True]
    assert all("perturbed_loss" in report for report in reports)


@pytest.mark.parametrize(("fraction", "n"), [(0.5, 4), (0.3, 2), (0.01, 2)])
def test_the_fraction_is_the_first_samples_of_each_minibatch_and_two_at_least(fraction, n, monkeypatch):
    batches, seen = minibatches(), []
    algorithm = build("RoGA", roga_ascent_fraction=fraction)
    predict = algorithm.predict

    def watched(x):
        seen.append(x)
        return predict(x)

    monkeypatch.setattr(algorithm, "predict", watched)
    algorithm.update(batches)
    assert [len(x) for x in seen] == [n, 8] * 3
    assert torch.equal(seen[0], batches[0][0][:n])


def test_the_step_with_a_fraction_is_that_of_closures_on_those_samples():
    batches = [(x.double(), y) for x, y in minibatches()]
    hparams = {"optimizer": "sgd", "momentum": 0.0, "lr": 0.1, "rho": 0.1}
    ours, reference = build("RoGA", roga_ascent_fraction=0.5, **hparams), build("RoGA", **hparams)
    ours.double(), reference.double()
    optimizer = CheaperRoGA(reference.network.parameters(), torch.optim.SGD, lr=0.1, rho=0.1, alpha=2e-4)
    loss = torch.nn.functional.cross_entropy
    ours.update(batches)
    optimizer.step(
        [lambda x=x, y=y: loss(reference.predict(x), y) for x, y in batches],
        ascent_closures=[lambda x=x, y=y: loss(reference.predict(x[:4]), y[:4]) for x, y in batches],
    )
    assert torch.allclose(weights(ours), weights(reference), rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("hparams", "message"),
    [
        ({"roga_every": 0}, "every must be a whole number of at least 1; got 0"),
        ({"roga_every": 2, "roga_gradient": "exact"}, "every above 1 goes with gradient 'first_order'"),
        ({"roga_ascent_fraction": 0.5, "replay_rng": True}, "'replay_rng' needs the same samples"),
    ],
)
def test_values_that_make_no_sense_are_refused_in_a_sentence(hparams, message):
    with pytest.raises(RogaError, match=message):
        build("RoGA", **hparams)


def test_overrides_are_refused_before_anything_is_loaded():
    problems = Problems()
    for wrong in (
        {"roga_every": 2.5, "roga_ascent_fraction": 1.5},
        {"roga_every": 0, "roga_ascent_fraction": 0},
    ):
        overridden({}, wrong, load(ALGORITHMS.get("RoGA").target).HPARAMS, problems)
    assert problems.messages == [
        "hparam 'roga_every' must be a whole number, at least 1; got 2.5",
        "hparam 'roga_ascent_fraction' must be a finite number, above 0 and at most 1; got 1.5",
        "hparam 'roga_every' must be a whole number, at least 1; got 0",
        "hparam 'roga_ascent_fraction' must be a finite number, above 0 and at most 1; got 0",
    ]
