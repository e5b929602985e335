"""The default of ρ fits the network: small where it starts from random weights, the papers' where it does not."""

import json

import numpy as np
import pytest
from small_runs import records_of, run, use_small_images

from roga_domainbed.catalog import ALGORITHMS, DATASETS
from roga_domainbed.catalog.registry import load
from roga_domainbed.engine.hparams_registry import default_hparams, random_hparams
from roga_domainbed.errors import Problems
from roga_domainbed.host.backend import host
from roga_domainbed.seeds import seed_hash
from roga_domainbed.trainer.config import TrainConfig
from roga_domainbed.trainer.hyperparameters import resolve_hparams

#: name → ρ on pretrained networks, mostly the papers', and from random weights
RADII = {
    "SAM": (0.05, 0.02),
    "ASAM": (0.5, 0.2),
    "GSAM": (0.05, 0.02),
    "SAGM": (0.05, 0.02),
    "LookSAM": (0.05, 0.02),
    "GAM": (0.2, 0.02),
    "FAD": (0.05, 0.02),
    "DISAM": (0.05, 0.02),
    "DGSAM": (0.05, 0.02),
    "GACFAS": (0.1, 0.05),
    "RoGA": (0.1, 0.02),
}
PAPERS, SMALL = ({name: pair[i] for name, pair in RADII.items()} for i in (0, 1))


def resolved(algorithm, dataset, hparams_seed=0, **overrides):
    problems = Problems()
    config = TrainConfig(
        algorithm=algorithm, dataset=dataset, hparams=json.dumps(overrides), hparams_seed=hparams_seed
    )
    hparams = resolve_hparams(config, host(), problems)
    problems.check()
    return hparams


@pytest.mark.parametrize("name", PAPERS)
def test_the_registry_goes_by_the_datasets_own_network(name):
    from_scratch = {"Debug28", "ColoredMNIST", "RotatedMNIST", "SynthFake"}
    for info in DATASETS:
        expected = SMALL if info.name in from_scratch else PAPERS
        assert default_hparams(name, info.name)["rho"] == expected[name], info.name


def test_every_algorithm_with_a_radius_has_both_defaults():
    specs = {info.name: load(info.target).HPARAMS for info in ALGORITHMS if info.plugin}
    found = {name: spec.scratch for name, own in specs.items() for spec in own if spec.name == "rho"}
    assert found == SMALL


@pytest.mark.parametrize(
    ("dataset", "overrides", "small"),
    [
        ("FFPP", {}, False),
        ("FFPP", {"backbone": "meso4"}, True),
        ("FFPP", {"backbone": "mesoinception4"}, True),
        ("FFPP", {"backbone": "xception"}, False),
        ("FFPP", {"backbone": "xception", "pretrained": False}, True),
        ("FFPP", {"pretrained": False}, True),
        ("FFPP", {"backbone": "meso4", "weights": __file__}, False),
        ("FFPP", {"pretrained": False, "weights": __file__}, False),
        ("FFPP", {"image_size": 64}, False),
        ("PACS", {"backbone": "mlp"}, True),
        ("PACS", {"backbone": "resnet34"}, False),
        ("PACS", {"backbone": "resnet34", "pretrained": False}, True),
        ("PACS", {"pretrained": False}, True),
        ("SynthFake", {"batch_size": 4}, True),
        ("SynthFake", {"backbone": "resnet34"}, True),  # its default is: not pretrained
        ("SynthFake", {"backbone": "resnet34", "pretrained": True}, False),
        ("SynthFake", {"pretrained": True}, True),  # of Meso-4 there are no weights
        ("RotatedMNIST", {"image_size": 14, "backbone": "mlp"}, True),
        ("RotatedMNIST", {"backbone": "resnet34"}, False),
        ("RotatedMNIST", {"image_size": 32}, True),
        ("RotatedMNIST", {"image_size": 224}, False),
    ],
)
@pytest.mark.parametrize("name", ["RoGA", "ASAM"])
def test_a_run_goes_by_the_network_that_it_is_given(name, dataset, overrides, small):
    hparams = resolved(name, dataset, **overrides)
    assert hparams["rho"] == (SMALL if small else PAPERS)[name]
    assert list(hparams) == list(default_hparams(name, dataset) | overrides)


@pytest.mark.parametrize("rho", [0.0, 0.1, 0.05, 0.7])
def test_a_given_radius_is_the_radius(rho):
    for overrides in ({}, {"backbone": "meso4"}, {"backbone": "resnet34", "pretrained": True}):
        for seed in (0, 3):
            assert resolved("RoGA", "SynthFake", seed, rho=rho, **overrides)["rho"] == rho


@pytest.mark.parametrize(
    "overrides", [{}, {"backbone": "meso4"}, {"backbone": "resnet34", "pretrained": True}]
)
def test_a_draw_is_the_draw_whatever_the_network(overrides):
    drawn = random_hparams("RoGA", "SynthFake", seed_hash(3, 0))["rho"]
    assert drawn == random_hparams("RoGA", "PACS", seed_hash(3, 0))["rho"]
    assert resolved("RoGA", "SynthFake", 3, **overrides)["rho"] == drawn


@pytest.mark.parametrize("name", PAPERS)
def test_a_search_reaches_both_defaults(name):
    draws = [random_hparams(name, "SynthFake", seed)["rho"] for seed in range(400)]
    below_small, below_papers = (np.mean(np.array(draws) < rho[name]) for rho in (SMALL, PAPERS))
    assert 0.1 < below_small < below_papers < 0.9


def test_an_algorithm_without_a_radius_gets_none():
    assert "rho" not in resolved("ERM", "SynthFake", backbone="meso4")


def test_a_value_of_another_kind_is_named_and_nothing_else_breaks():
    problems = Problems()
    given = json.dumps({"backbone": ["meso4"], "weights": 3, "image_size": "big"})
    config = TrainConfig(algorithm="RoGA", dataset="SynthFake", hparams=given)
    resolve_hparams(config, host(), problems)
    assert [message.split(" must")[0] for message in problems.messages] == [
        "hparam 'backbone'",
        "hparam 'weights'",
        "hparam 'image_size'",
    ]


def test_records_show_the_radius_that_was_used(monkeypatch, tmp_path):
    use_small_images(monkeypatch)
    run(tmp_path / "run", steps=1)
    assert records_of(tmp_path / "run")[0]["hparams"]["rho"] == 0.02
