"""A fork of DomainBed: what it has of its own is there, and what it lacks is said to be missing."""

import json
import shutil

import pytest

pytestmark = pytest.mark.upstream

OWN_ALGORITHM = """

ALGORITHMS.append("MyReg")


class MyReg(ERM):
    def update(self, minibatches, unlabeled=None):
        values = super().update(minibatches, unlabeled)
        return {**values, "strength": float(self.hparams["my_strength"])}
"""
OWN_DATASET = """

DATASETS.append("MyDebug")


class MyDebug(Debug28):
    ENVIRONMENTS = ["left", "middle", "right"]
"""


@pytest.fixture(scope="module")
def fork(home, tmp_path_factory):
    root = tmp_path_factory.mktemp("fork")
    package = shutil.copytree(f"{home}/domainbed", root / "domainbed", ignore=shutil.ignore_patterns("misc"))
    algorithms, datasets = package / "algorithms.py", package / "datasets.py"
    algorithms.write_text(algorithms.read_text().replace("class ADRMX(", "class Gone(") + OWN_ALGORITHM)
    datasets.write_text(datasets.read_text() + OWN_DATASET)
    registry = package / "hparams_registry.py"
    line = "    # Algorithm-specific hparam definitions."
    assert line in registry.read_text()
    own = "    if algorithm == 'MyReg':\n        _hparam('my_strength', 0.5, lambda r: r.uniform(0, 1))\n"
    registry.write_text(registry.read_text().replace(line, own + line, 1))
    return root


@pytest.fixture
def on_fork(run_cli, fork, tmp_path):
    return lambda *arguments, **kwargs: run_cli(
        *arguments, env={"DOMAINBED_HOME": str(fork)}, cwd=tmp_path, **kwargs
    )


def test_its_own_names_are_listed_and_those_it_lacks_are_not(on_fork):
    out = on_fork("list").stdout
    assert "MyReg" in out
    assert "0 left  1 middle  2 right" in out
    assert "Not in the DomainBed checkout" in out
    assert "my_strength" in on_fork("list", "--algorithm", "MyReg", "--dataset", "MyDebug").stdout


def test_its_own_algorithm_is_swept_on_its_own_dataset(on_fork, tmp_path):
    jobs = [
        "--datasets",
        "MyDebug",
        "--algorithms",
        "MyReg",
        "--test_envs",
        "1",
        "--n_trials",
        "1",
        "--n_hparams",
        "1",
    ]
    jobs += ["--steps", "1", "--hparams", '{"my_strength": 0.25, "batch_size": 4}']
    on_fork("sweep", "launch", "--output_dir", "out", "--skip_confirmation", *jobs)
    (records,) = (tmp_path / "out").glob("*/results.jsonl")
    assert json.loads(records.read_text().splitlines()[0])["strength"] == 0.25
    assert on_fork("sweep", "status", "--output_dir", "out").stdout.split()[-6:] == [
        "1",
        "0",
        "0",
        "0",
        "0",
        "1",
    ]
    on_fork("evaluate", str(records.parent))


def test_what_it_lacks_is_refused_by_name(on_fork):
    done = on_fork("train", "--dataset", "Debug28", "--algorithm", "ADRMX", code=2)
    assert "has no algorithm 'ADRMX'" in done.stderr
