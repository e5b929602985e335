"""What holds for each of DomainBed's algorithms in the engine; the rule of each is in test_zoo_rules.py."""

import copy

import numpy as np
import pytest
import torch

from roga_domainbed import catalog
from roga_domainbed.engine import algorithms
from roga_domainbed.engine.hparams_registry import default_hparams, random_hparams
from roga_domainbed.errors import RogaError
from roga_domainbed.seeds import seed_hash

KEYS = {
    "IRM": {"loss", "nll", "penalty"},
    "GroupDRO": {"loss"},
    "Mixup": {"loss"},
    "MLDG": {"loss"},
    "CORAL": {"loss", "penalty"},
    "MMD": {"loss", "penalty"},
    "VREx": {"loss", "nll", "penalty"},
    "RSC": {"loss"},
    "SD": {"loss", "penalty"},
    "DANN": {"gen_loss"},
    "CDANN": {"gen_loss"},
    "Fish": {"loss"},
    "ANDMask": {"loss"},
    "SelfReg": {"loss"},
    "Fishr": {"loss", "nll", "penalty"},
    "TRM": {"nll", "trm_loss"},
    "CAD": {"clf_loss", "bn_loss", "total_loss"},
    "CondCAD": {"clf_loss", "bn_loss", "total_loss"},
    "Transfer": {"loss", "gap"},
    "CausIRL_CORAL": {"loss", "penalty"},
    "CausIRL_MMD": {"loss", "penalty"},
    "EQRM": {"loss"},
    "RDM": {
        *("update_count", "total_loss", "erm_loss"),
        *("matching_penalty", "variance_penalty", "rdm_lambda"),
    },
    "ADRMX": {"loss_disc"},
    "ERMPlusPlus": {"loss"},
    "MTL": {"loss"},
    "SagNet": {"loss_c", "loss_s", "loss_adv"},
    "ARM": {"loss"},
    "SANDMask": {"loss"},
    "IGA": {"loss", "penalty"},
    "IB_ERM": {"loss", "nll", "IB_penalty"},
    "IB_IRM": {"loss", "nll", "IRM_penalty", "IB_penalty"},
    "URM": {"loss"},
}
#: So that what begins after some steps has begun. ADRMX: two layers of two units learn nothing in a moment.
SOON = {
    "Fishr": {"penalty_anneal_iters": 3},
    "TRM": {"iters": 3},
    "EQRM": {"eqrm_burnin_iters": 3, "eqrm_lr": 0.01},
    "RDM": {"rdm_penalty_anneal_iters": 3, "rdm_lambda": 0.5, "rdm_lr": 0.01},
    "ADRMX": {"mlp_width": 64, "d_steps_per_g_step": 1},
}
FEATURES = 6
IMAGES = {"ARM"}  # take images only
MLP = {"mlp_width": 8, "mlp_depth": 2, "mlp_dropout": 0.0}


def make(name, n_domains=3, **overrides):
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - DomainBed's generator, which some draw from
    # ERM++ warms up for 500 steps, and IGA's penalty of 1000 moves this small a network alone.
    small = {"lr": 0.01, "linear_steps": 5, "penalty": 1.0}
    hparams = {**default_hparams(name, "Debug28"), **MLP, **small, **overrides}
    for rate in {"lr_g", "lr_d"} & set(hparams):
        hparams[rate] = 0.01
    if name in IMAGES:
        hparams["backbone"] = "mlp"
    return algorithms.get_algorithm_class(name)(shape(name), 2, n_domains, hparams)


def shape(name):
    return (FEATURES, 1, 1) if name in IMAGES else (FEATURES,)


def separable(n_domains=3, rows=8, name=""):
    generator = torch.Generator().manual_seed(1)
    y = torch.arange(rows) % 2
    x = [torch.randn(rows, FEATURES, generator=generator) + 2 * y[:, None] for _ in range(n_domains)]
    return [(each.reshape(rows, *shape(name)), y) for each in x]


def risk(algorithm, minibatches):
    with torch.no_grad():
        losses = [torch.nn.functional.cross_entropy(algorithm.predict(x), y) for x, y in minibatches]
    return torch.stack(losses).mean().item()


@pytest.mark.parametrize("name", KEYS)
def test_it_learns_a_separable_problem(name):
    algorithm, minibatches = make(name, **SOON.get(name, {})), separable(name=name)
    before = risk(algorithm, minibatches)
    for _ in range(60):
        algorithm.update(minibatches)
    assert risk(algorithm, minibatches) < before / 2


@pytest.mark.parametrize("name", KEYS)
def test_it_reports_upstreams_keys_as_python_floats(name):
    result = make(name).update(separable(name=name))
    assert set(result) == KEYS[name]
    assert {type(value) for value in result.values()} == {float}


@pytest.mark.parametrize("name", KEYS)
def test_a_trained_model_is_restored_from_its_state_dict(name):
    trained, minibatches = make(name), separable(name=name)
    for _ in range(2):
        trained.update(minibatches)
    restored = make(name)
    restored.load_state_dict(copy.deepcopy(trained.state_dict()))
    x = minibatches[0][0]
    assert torch.equal(restored.eval().predict(x), trained.eval().predict(x))
    torch.testing.assert_close(restored.state_dict(), trained.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("name", KEYS)
def test_default_hparams_are_upstreams_in_value_and_order_for_all_datasets(oracle, name):
    cases = [
        (datasets, own) for algorithm, datasets, own in oracle("hparams_zoo")["default"] if algorithm == name
    ]
    assert sum(len(datasets) for datasets, _ in cases) == 18
    for datasets, own in cases:
        for dataset in datasets:
            assert _after_the_generic(default_hparams(name, dataset)) == list(own.items()), dataset


def test_random_hparams_of_a_trial_are_upstreams_in_value_and_order(oracle):
    cases = oracle("hparams_zoo")["by_trial"]
    assert {case[0] for case in cases} == set(KEYS)
    for name, dataset, hparams_seed, trial_seed, own in cases:
        drawn = random_hparams(name, dataset, seed_hash(hparams_seed, trial_seed))
        assert _after_the_generic(drawn) == list(own.items()), (name, dataset)
        assert {type(value) for value in drawn.values()} <= {bool, int, float, str}


def _after_the_generic(hparams):
    names = list(hparams)
    n_generic = len(catalog.GENERIC_HPARAMS)
    assert names[:n_generic] == [spec.name for spec in catalog.GENERIC_HPARAMS]
    return list(hparams.items())[n_generic:]


@pytest.mark.parametrize("name", KEYS)
def test_the_catalog_says_what_it_is_and_where_it_is_from(name):
    info = catalog.ALGORITHMS.get(name)
    assert info.target.endswith(f":{name}")
    assert info.summary != "from a DomainBed checkout"
    assert info.reference
    assert not info.plugin


def test_the_catalog_keeps_upstreams_order():
    upstreams = (
        "ERM ERMPlusPlus Fish IRM GroupDRO Mixup MLDG CORAL MMD DANN CDANN MTL SagNet ARM VREx RSC SD ANDMask "
        "SANDMask IGA SelfReg Fishr TRM IB_ERM IB_IRM CAD CondCAD Transfer CausIRL_CORAL CausIRL_MMD EQRM RDM "
        "ADRMX URM"
    )
    assert catalog.ALGORITHMS.names()[:34] == upstreams.split()


@pytest.mark.parametrize("name", ["IRM", "CORAL", "RDM", "IB_ERM", "IB_IRM"])
def test_a_minibatch_of_one_is_refused_where_it_would_give_nan(name):
    with pytest.raises(RogaError, match=f"{name} needs at least 2 samples of each environment"):
        make(name).update([(x[:1], y[:1]) for x, y in separable()])


@pytest.mark.parametrize("name", sorted(set(KEYS) - {"MLDG"}))
def test_one_environment_is_enough(name):
    algorithm = make(name, n_domains=1, **SOON.get(name, {}))
    results = [algorithm.update(separable(1, name=name)) for _ in range(6)]
    assert all(value == value for result in results for value in result.values())
