"""``optimizer`` and ``momentum`` of a run: in its records where they are given, refused where they would do nothing."""

from pathlib import Path

import pytest
import torch
from small_runs import records_of, run, use_small_images

from roga_domainbed.catalog import (
    ALGORITHMS,
    AVERAGING_HPARAMS,
    OPTIMIZER_HPARAMS,
    SCHEDULE_HPARAMS,
    AlgorithmInfo,
)
from roga_domainbed.engine.algorithms import ERM
from roga_domainbed.errors import Problems, RogaError
from roga_domainbed.host.backend import Host, host
from roga_domainbed.trainer.config import TrainConfig
from roga_domainbed.trainer.hyperparameters import resolve_hparams
from roga_domainbed.upstream.own_optimizer import optimizer_refusal

GIVEN = {spec.name for spec in (*OPTIMIZER_HPARAMS, *SCHEDULE_HPARAMS, *AVERAGING_HPARAMS)}
ENGINE = Host("engine", "roga_domainbed.engine", None)
CHECKOUT = Host("upstream", "domainbed", Path("/there"))
SGD = {"optimizer": "sgd"}


@pytest.fixture
def small(monkeypatch):
    use_small_images(monkeypatch)


def resolved(hparams, algorithm="ERM", seed=0):
    problems = Problems()
    config = TrainConfig(algorithm=algorithm, dataset="Debug28", hparams=hparams, hparams_seed=seed)
    found = resolve_hparams(config, host(), problems)
    problems.check()
    return {name: value for name, value in found.items() if name in GIVEN}


@pytest.mark.parametrize("seed", [0, 3])
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("{}", {}),
        ('{"optimizer": "adamw"}', {"optimizer": "adamw"}),
        ('{"optimizer": "sgd"}', {"optimizer": "sgd", "momentum": 0.9}),
        ('{"optimizer": "sgd", "momentum": 0}', {"optimizer": "sgd", "momentum": 0}),
        (
            '{"lr_schedule": "step", "lr_decay_every": 100}',
            {"lr_schedule": "step", "lr_decay_every": 100, "lr_decay": 0.1},
        ),
        ('{"lr_schedule": "cosine"}', {"lr_schedule": "cosine"}),
        ('{"averaging": "none"}', {"averaging": "none"}),
        ('{"averaging": "ema"}', {"averaging": "ema", "ema_decay": 0.999}),
        (
            '{"averaging": "swad", "swad_ratio": 1.2}',
            {"averaging": "swad", "swad_ratio": 1.2, "swad_converge": 3, "swad_tolerate": 6},
        ),
    ],
)
def test_a_run_has_what_is_given_and_what_goes_with_it(given, expected, seed):
    assert resolved(given, "MLDG", seed) == expected


@pytest.mark.parametrize("given", ['{"momentum": -0.1}', '{"momentum": "much"}'])
def test_a_momentum_that_is_none_is_refused(given):
    with pytest.raises(RogaError, match="hparam 'momentum' must be a finite number, at least 0; got"):
        resolved(given)


def test_an_optimizer_that_is_none_is_refused_with_those_there_are():
    with pytest.raises(RogaError, match="'optimizer' must be one of 'adam', 'adamw', 'sgd'; got 'SGD'"):
        resolved('{"optimizer": "SGD"}')


def test_records_of_a_run_say_which_optimizer_stepped(small, tmp_path):
    hparams = '{"batch_size": 4, "backbone": "meso4", "optimizer": "sgd"}'
    run(tmp_path / "run", algorithm="ERM", hparams=hparams, steps=2)
    (first, *_) = records_of(tmp_path / "run")
    assert (first["hparams"]["optimizer"], first["hparams"]["momentum"]) == ("sgd", 0.9)


class OwnAdam(ERM):
    """As a class of another package may be."""

    def __init__(self, input_shape, num_classes, num_domains, hparams):
        super().__init__(input_shape, num_classes, num_domains, hparams)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=hparams["lr"])


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_class_that_makes_its_own_optimizer_is_not_trained_as_if_it_took_the_hparam(
    optimizer, small, tmp_path
):
    hparams = '{"batch_size": 4, "backbone": "meso4", "optimizer": "%s"}'
    with ALGORITHMS.temporarily(AlgorithmInfo("OwnAdam", f"{__name__}:OwnAdam")):
        with pytest.raises(
            RogaError, match=f"'optimizer' '{optimizer}': OwnAdam makes Adam itself, .* leave"
        ):
            run(tmp_path / "run", algorithm="OwnAdam", hparams=hparams % optimizer, steps=1)
        assert not (tmp_path / "run" / "results.jsonl").exists()
        run(tmp_path / "adam", algorithm="OwnAdam", hparams=hparams % "adam", steps=1)


def test_an_algorithm_of_a_checkout_takes_no_other_optimizer_and_is_told_what_to_do():
    both = "on the DomainBed checkout /there this algorithm makes its optimizer itself; leave it out"
    assert optimizer_refusal("ERM", SGD, {}, CHECKOUT) == (
        f"hparam 'optimizer' 'sgd' would change nothing: {both}, or train without the checkout"
    )
    with ALGORITHMS.temporarily(AlgorithmInfo("UpstreamsOwn")):
        assert optimizer_refusal("UpstreamsOwn", SGD, {}, CHECKOUT).endswith(both), "the engine has it not"


@pytest.mark.parametrize(
    ("given", "own", "where"),
    [
        ({}, {}, CHECKOUT),
        ({"optimizer": "adam"}, {}, CHECKOUT),
        (SGD, {"optimizer": "adam"}, CHECKOUT),  # SAM's, RoGA's, or a fork's own
        (SGD, {}, ENGINE),
    ],
)
def test_what_is_used_is_not_refused(given, own, where):
    assert optimizer_refusal("ERM", given, own, where) is None
