"""What is wrong with the arguments of a run is said at once, before anything slow."""

import pytest

from roga_domainbed.errors import Problems, RogaError
from roga_domainbed.trainer.config import TrainConfig


def faults(**kwargs):
    problems = Problems()
    TrainConfig(**{"dataset": "Debug28", **kwargs}).check(problems)
    problems.check()


def test_the_defaults_are_upstreams():
    config = TrainConfig()
    assert config.record_args() == {
        "algorithm": "ERM",
        "checkpoint_freq": None,
        "data_dir": None,
        "dataset": "RotatedMNIST",
        "holdout_fraction": 0.2,
        "hparams": None,
        "hparams_seed": 0,
        "output_dir": "train_output",
        "save_model_every_checkpoint": False,
        "seed": 0,
        "skip_model_save": False,
        "steps": None,
        "task": "domain_generalization",
        "test_envs": [0],
        "trial_seed": 0,
        "uda_holdout_fraction": 0,
    }


def test_good_arguments_have_no_faults():
    faults()
    faults(algorithm="RoGA", test_envs=[0, 2], hparams='{"lr": 0.1}', split="frame", steps=5)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"algorithm": "Roga"}, r"unknown algorithm 'Roga' \(did you mean 'RoGA'\?\); known: ERM, "),
        ({"dataset": "SynthFaek"}, r"unknown dataset 'SynthFaek' \(did you mean 'SynthFake'\?\)"),
        ({"dataset": "SynthFake"}, "dataset 'SynthFake' needs --data_dir"),
        ({"dataset": "PACS", "data_dir": "/no/such"}, "--data_dir '/no/such' is not a folder"),
        ({"test_envs": [9]}, "--test_envs 9: there is no such environment; they are 0 0, 1 1, 2 2"),
        ({"test_envs": [-1]}, "--test_envs -1: there is no such environment"),
        ({"test_envs": [1, 1]}, "--test_envs names 1 more than once"),
        ({"test_envs": [0, 1, 2]}, "names all 3 environments and leaves none to train on"),
        ({"hparams": '{"lr": 0.1'}, r"--hparams is not valid JSON: .* at character 11 of"),
        ({"hparams": "[1]"}, r"--hparams must be a JSON object such as .*; got '\[1\]'"),
        ({"task": "adaptation"}, "unknown task 'adaptation'"),
        ({"split": "video"}, "unknown split 'video'.*; known: official, group, frame"),
        ({"holdout_fraction": 1.0}, "--holdout_fraction must lie between 0 and 1; got 1.0"),
        ({"holdout_fraction": 0.0}, "--holdout_fraction must lie between 0 and 1; got 0.0"),
        ({"uda_holdout_fraction": -0.1}, "--uda_holdout_fraction must be at least 0"),
        ({"task": "domain_adaptation"}, "needs unlabelled data: give --uda_holdout_fraction"),
        ({"steps": 0}, "--steps must be at least 1; got 0"),
        ({"checkpoint_freq": -3}, "--checkpoint_freq must be at least 1; got -3"),
        ({"n_workers": -1}, "--n_workers must be at least 0; got -1"),
        ({"seed": -1}, "--seed must lie in"),
    ],
)
def test_each_fault_is_named(kwargs, message):
    with pytest.raises(RogaError, match=message):
        faults(**kwargs)


def test_all_faults_come_at_once():
    with pytest.raises(RogaError, match="3 problems") as caught:
        faults(algorithm="Roga", test_envs=[9], hparams="{")
    assert len(str(caught.value).splitlines()) == 4
