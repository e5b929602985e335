"""On an unmodified DomainBed checkout (DOMAINBED_HOME): our names in it, its names as before, nothing written to it."""

import importlib
import json
import os
import subprocess

import pytest

from roga_domainbed.catalog import ALGORITHMS, DATASETS

pytestmark = pytest.mark.upstream


@pytest.fixture(scope="module")
def host():
    from roga_domainbed.upstream import bridge

    return bridge.register()


def test_the_checkout_is_in_use(host):
    assert host.name == "upstream"
    assert str(host.home) == os.path.realpath(os.environ["DOMAINBED_HOME"])


def test_our_names_are_appended_once_and_upstreams_stay_in_place(host):
    from roga_domainbed.upstream import bridge

    before = list(host.algorithms.ALGORITHMS), list(host.datasets.DATASETS)
    bridge.register()
    assert before == (host.algorithms.ALGORITHMS, host.datasets.DATASETS)
    assert host.algorithms.ALGORITHMS[0] == "ERM"
    assert host.algorithms.ALGORITHMS[34:] == [info.name for info in ALGORITHMS if info.plugin]
    assert host.datasets.DATASETS[18:] == [info.name for info in DATASETS if info.plugin]
    assert issubclass(host.algorithms.get_algorithm_class("RoGA"), host.algorithms.ERM)


@pytest.mark.parametrize("dataset", ["Debug28", "RotatedMNIST", "PACS", "DomainNet", "SynthFake"])
@pytest.mark.parametrize("algorithm", ["ERM", "RoGA"])
def test_the_engine_has_upstreams_hyper_parameters(host, algorithm, dataset):
    from roga_domainbed.engine import hparams_registry

    registry = host.hparams_registry
    assert registry.default_hparams(algorithm, dataset) == hparams_registry.default_hparams(
        algorithm, dataset
    )
    for seed in (1, 2, 785910682):
        theirs, ours = (r.random_hparams(algorithm, dataset, seed) for r in (registry, hparams_registry))
        assert theirs == ours
        assert list(theirs) == list(ours)


@pytest.mark.parametrize("algorithm", ["ERM", "CORAL", "SAM", "SAGM", "RoGA"])
def test_a_training_runs_and_leaves_the_checkout_clean(algorithm, host, run_cli, tmp_path):
    flags = ["--dataset", "Debug28", "--algorithm", algorithm, "--hparams", '{"batch_size": 8}', "--steps", 3]
    run_cli("train", *flags, "--n_workers", 0, "--output_dir", tmp_path / "run")
    record = json.loads((tmp_path / "run" / "results.jsonl").read_text().splitlines()[0])
    assert record["provenance"]["backend"] == "upstream"
    status = ["git", "-C", str(host.home), "status", "--porcelain"]
    assert subprocess.run(status, check=True, capture_output=True, text=True).stdout == ""


def test_upstreams_reporting_reads_our_records(host, tmp_path):
    from roga_domainbed.trainer.config import TrainConfig
    from roga_domainbed.trainer.run import train

    for env in range(3):
        where = {"dataset": "Debug28", "test_envs": [env], "output_dir": str(tmp_path / str(env))}
        train(TrainConfig(hparams='{"batch_size": 8}', steps=3, n_workers=0, **where))
    reporting = importlib.import_module("domainbed.lib.reporting")
    selection = importlib.import_module("domainbed.model_selection")
    groups = reporting.get_grouped_records(reporting.load_records(str(tmp_path)))
    assert len(groups) == 3
    for group in groups:
        value = selection.IIDAccuracySelectionMethod.sweep_acc(group["records"])
        assert 0 <= value <= 1
