import json
import subprocess
import sys

import pytest

from roga_domainbed import catalog
from roga_domainbed.catalog import BACKBONE_HPARAMS
from roga_domainbed.catalog.hparams import HParam, constant
from roga_domainbed.engine.algorithms import Algorithm
from roga_domainbed.engine.hparams_registry import default_hparams, random_hparams, specs
from roga_domainbed.seeds import seed_hash


def test_defaults_of_erm_are_upstreams_in_value_and_order_for_all_datasets(oracle):
    cases = oracle("hparams_erm")["default"]
    assert len(cases) == 18
    for dataset, expected in cases:
        assert list(default_hparams("ERM", dataset).items()) == list(expected.items()), dataset


def test_random_hparams_are_upstreams_in_value_and_order(oracle):
    for algorithm, dataset, seed, expected in oracle("hparams_erm")["by_seed"]:
        got = random_hparams(algorithm, dataset, seed)
        assert list(got.items()) == list(expected.items()), (algorithm, dataset, seed)


def test_random_hparams_of_a_trial_are_upstreams(oracle):
    for dataset, hparams_seed, trial_seed, expected in oracle("hparams_erm")["by_trial"]:
        got = random_hparams("ERM", dataset, seed_hash(hparams_seed, trial_seed))
        assert list(got.items()) == list(expected.items()), (dataset, hparams_seed, trial_seed)


@pytest.mark.parametrize("seed", range(5))
def test_random_hparams_can_be_written_as_json(seed):
    drawn = random_hparams("ERM", "PACS", seed)
    assert json.loads(json.dumps(drawn)) == drawn


def test_unknown_names_get_the_generic_entries():
    assert default_hparams("Nobody", "Nowhere") == default_hparams("ERM", "PACS")


class _WithOwn(Algorithm):
    HPARAMS = (HParam("own", 7, constant(7)),)


class _WithBatchSize(Algorithm):
    @classmethod
    def dataset_hparams(cls, dataset):
        return (HParam("batch_size", 8, constant(8)), HParam("where", dataset, constant(dataset)))


def test_hparams_that_depend_on_the_dataset_replace_in_place_or_come_last():
    info = catalog.AlgorithmInfo("WithBatchSize", target=f"{__name__}:_WithBatchSize")
    with catalog.ALGORITHMS.temporarily(info):
        hparams = default_hparams("WithBatchSize", "PACS")
    assert list(hparams)[-4:] == ["lr", "weight_decay", "batch_size", "where"]
    assert (hparams["batch_size"], hparams["where"]) == (8, "PACS")


@pytest.mark.parametrize(
    ("plugin", "tail"),
    [
        (False, ["own", "lr", "weight_decay", "batch_size"]),
        (True, ["lr", "weight_decay", "batch_size", "own"]),
    ],
)
def test_own_hparams_come_before_the_scale_for_the_hosts_algorithms_and_after_it_for_ours(plugin, tail):
    info = catalog.AlgorithmInfo("WithOwn", target=f"{__name__}:_WithOwn", plugin=plugin)
    with catalog.ALGORITHMS.temporarily(info):
        assert list(default_hparams("WithOwn", "PACS"))[-4:] == tail
        assert default_hparams("WithOwn", "PACS")["own"] == 7


def test_a_dataset_overrides_values_in_place_and_appends_its_own():
    extra = (HParam("lr", 0.5, constant(0.5)), HParam("backbone", "meso4", constant("meso4")))
    with catalog.DATASETS.temporarily(catalog.DatasetInfo("Small", ("a", "b"), hparams=extra)):
        hparams = default_hparams("ERM", "Small")
        assert [spec.name for spec in specs("ERM", "Small")].count("lr") == 2
    assert list(hparams)[-4:] == ["lr", "weight_decay", "batch_size", "backbone"]
    assert (hparams["lr"], hparams["backbone"]) == (0.5, "meso4")


def test_optional_hparams_are_in_no_dictionary_of_upstreams_datasets():
    names = {spec.name for spec in BACKBONE_HPARAMS}
    assert names == {
        "backbone",
        "pretrained",
        "weights",
        "image_size",
        "meso4_dropout",
        "frequency",
        "normalize",
    }
    assert not names & set(default_hparams("ERM", "PACS"))


def test_the_registry_and_the_packages_load_no_torch():
    code = (
        "import sys, roga_domainbed.engine, roga_domainbed.engine.lib, roga_domainbed.engine.lookup, "
        "roga_domainbed.engine.hparams_registry; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
