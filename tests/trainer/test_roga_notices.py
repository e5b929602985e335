"""What a run with RoGA says about its batch norms and its alignment term: once, on a line each."""

import json
import os
import signal

import pytest
import torch
from small_runs import at_step, records_of, run, use_small_images
from torch import nn

from roga_domainbed import optim
from roga_domainbed.trainer.roga_notices import at_first_record, before_training
from roga_domainbed.trainer.stop import Stopped


class Trained(nn.Module):
    def __init__(self, network, optimizer=optim.RoGA):
        super().__init__()
        self.network = network
        self.optimizer = optimizer(network.parameters(), torch.optim.SGD, lr=0.1, model=network)


def network(*, norm=nn.BatchNorm2d, frozen=False, **kwargs):
    layers = nn.Sequential(
        nn.Conv2d(3, 4, 1), norm(4, **kwargs), nn.ReLU(), nn.Conv2d(4, 4, 1), norm(4, **kwargs)
    )
    return layers.eval() if frozen else layers


@pytest.mark.parametrize(
    ("made", "hparams", "part"),
    [
        ({}, {"batch_size": 11}, "one domain at a time, here 11: below 12"),
        ({}, {"batch_size": 12}, None),
        ({}, {"batch_size": 16, "roga_ascent_fraction": 1.0}, None),
        (
            {},
            {"batch_size": 16, "roga_ascent_fraction": 0.5},
            "a roga_ascent_fraction of 0.5 gives 8: below 12",
        ),
        ({}, {"batch_size": 32, "roga_ascent_fraction": 0.5}, None),
        ({"frozen": True}, {"batch_size": 4}, None),
        ({"frozen": True, "track_running_stats": False}, {"batch_size": 4}, "here 4"),
        ({"norm": nn.InstanceNorm2d}, {"batch_size": 4}, None),
    ],
)
def test_batch_norms_that_see_too_few_images_are_counted(made, hparams, part):
    found = before_training(Trained(network(**made)), hparams)
    assert len(found) == (part is not None)
    if part is not None:
        assert found[0].startswith("2 batch-norm layers take their statistics")
        assert part in found[0]


def test_an_algorithm_that_pools_its_domains_is_not_meant():
    assert before_training(Trained(network(), optim.SAM), {"batch_size": 4}) == []
    assert before_training(nn.Linear(2, 2), {"batch_size": 4}) == []


@pytest.mark.parametrize(
    ("ratios", "starts", "ends"),
    [
        # α counts from α · 0.5 / mean on
        (
            [0.001, 0.003],
            "the alignment term is void: it moves the ascent points by 0.002 of rho",
            "about 0.05",
        ),
        ([0.01, 0.01], None, None),
        ([0.5, 1.5], None, None),
        (
            [1.5, 2.5],
            "the alignment outweighs the perturbation: it moves the ascent points by 2 times",
            "5e-05",
        ),
        ([0.0, 0.0], None, None),
        ([], None, None),
    ],
)
def test_the_alignment_is_judged_by_the_mean_ratio(ratios, starts, ends):
    record = {"loss": 0.7, **{f"alpha_ratio_{i}": ratio for i, ratio in enumerate(ratios)}}
    found = at_first_record(record, {"alpha": 2e-4, "rho": 0.1})
    assert len(found) == (starts is not None)
    if starts is not None:
        assert found[0].startswith(starts)
        assert ends in found[0]
        assert "docs/roga.md#how-much-the-alignment-weighs" in found[0]


@pytest.fixture
def small(monkeypatch):
    use_small_images(monkeypatch)


def hparams(**values):
    return json.dumps({"batch_size": 4, "backbone": "meso4", **values})


def notices(folder):
    lines = (folder / "out.txt").read_text().splitlines()
    kinds = ("batch-norm layers", "alignment term is void", "alignment outweighs")
    return [kind for line in lines if line.startswith("Notice: ") for kind in kinds if kind in line]


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        ({"hparams": hparams(alpha=1e-5)}, ["batch-norm layers", "alignment term is void"]),
        ({"hparams": hparams(batch_size=12, alpha=0.0)}, []),
        ({"hparams": hparams(alpha=1.0)}, ["batch-norm layers", "alignment outweighs"]),
        ({"hparams": hparams(), "algorithm": "SAM"}, []),
    ],
)
def test_a_run_says_it_once(kwargs, expected, small, tmp_path):
    run(tmp_path / "run", steps=5, checkpoint_freq=2, **kwargs)
    assert notices(tmp_path / "run") == expected
    ratios = [v for k, v in records_of(tmp_path / "run")[0].items() if k.startswith("alpha_ratio")]
    assert len(ratios) == (0 if "algorithm" in kwargs else 2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="signals of POSIX")
def test_a_resumed_run_does_not_say_it_again(small, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as context:
        at_step(context, 5, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Stopped):
            run(tmp_path / "run", hparams=hparams(alpha=1e-5))
    run(tmp_path / "run", hparams=hparams(alpha=1e-5))
    assert "Continued after 6" in capsys.readouterr().out
    assert notices(tmp_path / "run") == ["batch-norm layers", "alignment term is void"]
