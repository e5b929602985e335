"""What is wrong with the arguments of a run is said at once, before anything slow."""

from types import SimpleNamespace

import pytest

from roga_domainbed import catalog
from roga_domainbed.errors import Problems, RogaError
from roga_domainbed.host.backend import host
from roga_domainbed.trainer.config import TrainConfig
from roga_domainbed.trainer.hyperparameters import resolve_hparams


def faults(**kwargs):
    problems = Problems()
    config = TrainConfig(**{"dataset": "Debug28", **kwargs})
    config.check(problems)
    resolve_hparams(config, host(), problems)
    problems.check()


def test_the_defaults_are_upstreams_but_for_the_dataset_which_would_be_downloaded():
    config = TrainConfig()
    assert config.record_args() == {
        "algorithm": "ERM",
        "checkpoint_freq": None,
        "data_dir": None,
        "dataset": None,
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
        ({"dataset": None}, "--dataset is required; known: Debug28, .*SynthFake"),
        ({"dataset": "SynthFaek"}, r"unknown dataset 'SynthFaek' \(did you mean 'SynthFake'\?\)"),
        ({"dataset": "SynthFake"}, "dataset 'SynthFake' needs --data_dir"),
        ({"dataset": "PACS", "data_dir": "/no/such"}, "--data_dir '/no/such' is not a folder"),
        ({"test_envs": [9]}, "--test_envs 9: there is no such environment; they are 0 0, 1 1, 2 2"),
        ({"test_envs": [-1]}, "--test_envs -1: there is no such environment"),
        ({"test_envs": [1, 1]}, "--test_envs names 1 more than once"),
        ({"test_envs": [0, 1, 2]}, "names all 3 environments and leaves none to train on"),
        ({"hparams": '{"lr": 0.1'}, r"--hparams is not valid JSON: .*char 10.*got '{"),
        ({"hparams": "[1]"}, r"--hparams cannot be read: expected a mapping, got a list; .* got '\[1\]'"),
        ({"task": "adaptation"}, "--task must be one of 'domain_generalization', .*; got 'adaptation'"),
        ({"split": "video"}, "--split must be one of 'official', 'group', 'frame'; got 'video'"),
        (
            {"holdout_fraction": 1.0},
            "--holdout_fraction must be a finite number, above 0 and below 1; got 1.0",
        ),
        (
            {"holdout_fraction": 0.0},
            "--holdout_fraction must be a finite number, above 0 and below 1; got 0.0",
        ),
        (
            {"uda_holdout_fraction": -0.1},
            "--uda_holdout_fraction must be .*, at least 0 and below 1; got -0.1",
        ),
        ({"task": "domain_adaptation"}, "needs unlabelled data: give --uda_holdout_fraction"),
        ({"steps": 0}, "--steps must be a whole number, at least 1 and at most 1,000,000,000; got 0"),
        ({"checkpoint_freq": -3}, "--checkpoint_freq must be a whole number, at least 1 and .*; got -3"),
        ({"n_workers": -1}, "--n_workers must be a whole number, at least 0 and at most 256; got -1"),
        (
            {"seed": -1},
            "--seed must be a whole number, at least 0 and below 9,223,372,036,854,775,808; got -1",
        ),
        ({"steps": 10**18}, "--steps must be .*; got 1000000000000000000"),
        ({"checkpoint_freq": 10**5000}, "--checkpoint_freq must be .*; got a number of thousands of digits"),
        (
            {"hparams": '{"lr": 1' + "0" * 5000 + "}"},
            "--hparams cannot be read: a whole number of more than 64",
        ),
        (
            {"hparams": '{"weight_decay": 1' + "0" * 400 + "}"},
            "--hparams cannot be read: a whole number of more",
        ),
        (
            {"hparams": '{"batch_size": 1000000000}'},
            "hparam 'batch_size' must be .* at most 65,536; got 1000000000",
        ),
        (
            {"hparams": '{"lr": "' + "9" * 5000 + '"}'},
            "hparam 'lr' must be a finite number, above 0; got '9{199}…",
        ),
        ({"hparams": "[" * 10**5}, "--hparams cannot be read: nested more than"),
        (
            {"data_dir": "caf\udce9"},
            r"--data_dir must be Unicode, not bytes of another encoding; got 'caf.udce9'",
        ),
        ({"output_dir": ""}, "--output_dir must be a path, not empty; got ''"),
        ({"data_dir": ""}, "--data_dir must be a path, not empty; got ''"),
        ({"cache": ""}, "--cache must be a path, not empty; got ''"),
    ],
)
def test_each_fault_is_named(kwargs, message):
    with pytest.raises(RogaError, match=message):
        faults(**kwargs)


def test_a_hyper_parameter_that_only_the_checkout_knows_takes_the_kind_of_its_default_and_its_draws():
    defaults, draws = (
        {"penalty": 1000, "iters": 500, "flag": True},
        {"penalty": 12.5, "iters": 3, "flag": False},
    )
    registry = SimpleNamespace(default_hparams=lambda *_: defaults, random_hparams=lambda *_: draws)
    upstream = SimpleNamespace(name="upstream", home="DomainBed", hparams_registry=registry)

    def resolved(hparams):
        problems = Problems()
        config = TrainConfig(dataset="Debug28", algorithm="Theirs", hparams=hparams)
        with catalog.ALGORITHMS.temporarily(catalog.AlgorithmInfo("Theirs")):
            return resolve_hparams(config, upstream, problems), problems.messages

    given = '{"penalty": -0.5, "iters": 4.0, "flag": false}'
    assert resolved(given) == ({"penalty": -0.5, "iters": 4, "flag": False}, [])
    assert resolved('{"penalty": Infinity, "iters": 4.5, "flag": 1}')[1] == [
        "hparam 'penalty' must be a finite number; got inf",
        "hparam 'iters' must be a whole number; got 4.5",
        "hparam 'flag' must be true or false; got 1",
    ]


def test_all_faults_come_at_once():
    with pytest.raises(RogaError, match="3 problems") as caught:
        faults(algorithm="Roga", test_envs=[9], hparams="{")
    assert len(str(caught.value).splitlines()) == 4
