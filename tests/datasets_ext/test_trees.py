"""A prepared tree is a dataset by the name of its folder, in every command that takes --dataset."""

import json

import numpy as np
import pytest
from PIL import Image
from prepared_trees import write_tree

from datasets_ext import trees
from roga_domainbed.catalog import DATASETS
from roga_domainbed.cli import main
from roga_domainbed.errors import RogaError
from roga_domainbed.host.backend import host
from roga_domainbed.inference.saved_run import load_run
from roga_domainbed.results.records import RECORDS
from roga_domainbed.results.runs import load_sweeps
from roga_domainbed.trainer.config import TrainConfig
from roga_domainbed.trainer.run import train

SMALL = '{"backbone": "meso4", "image_size": 32, "batch_size": 4}'


@pytest.fixture(autouse=True)
def names():
    """Rows of trees last as long as the process; here, as long as a test, on a checkout too."""
    before = set(DATASETS.names())
    yield
    for name in set(DATASETS.names()) - before:
        del DATASETS._own[name]
        if name in host().datasets.DATASETS:
            host().datasets.DATASETS.remove(name)


def picture(label, video, frame):
    draw = np.random.default_rng(int(video[-2:]))
    return Image.fromarray(draw.integers(0, 120, (32, 32, 3), dtype=np.uint8) + np.uint8(100 * label))


def own_tree(root, name="Own", envs=("lab", "tv", "web"), n=10):
    videos = [
        (env, label, f"v{i:02d}", f"{env}{i}", f"{env}{i}", "", "real" if label == 0 else "swap")
        for env in envs
        for label in (0, 1)
        for i in range(n)
    ]
    write_tree(root, name, videos, picture)
    return root


def arguments(root, **other):
    config = {
        "data_dir": str(root),
        "dataset": "Own",
        "test_envs": [2],
        "hparams": SMALL,
        "steps": 2,
        "split": "group",
        "output_dir": str(root / "run"),
    }
    return TrainConfig(**config | other)


def test_it_is_trained_on_with_the_environments_of_its_manifest(tmp_path):
    output = train(arguments(own_tree(tmp_path)))
    first = json.loads((output / RECORDS).read_text().splitlines()[0])
    assert first["provenance"]["environments"] == ["lab", "tv", "web"]
    assert first["provenance"]["prepared_tree"] is True
    assert DATASETS.get("Own").environments == ("lab", "tv", "web")
    run = load_run(output)
    assert run.image_kind == "faces"
    assert run.class_names == ("real", "fake")
    # train, evaluate and predict need no row for a model that says how it reads images
    del DATASETS._own["Own"]
    assert main(["predict", str(output), str(next((tmp_path / "Own").rglob("*.png"))), "--no_detect"]) == 0
    assert main(["evaluate", str(output)]) == 0
    assert main(["audit", str(tmp_path), "--dataset", "Own", "--test_envs", "2", "--split", "group"]) == 0


def test_tables_have_the_names_of_its_environments_wherever_they_are_read(tmp_path, capsys):
    train(arguments(own_tree(tmp_path), output_dir=str(tmp_path / "sweep/run")))
    del DATASETS._own["Own"]
    capsys.readouterr()
    assert main(["collect-results", "--input_dir", str(tmp_path / "sweep"), "--metric", "auc"]) == 0
    header = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("Algorithm"))
    assert header.split() == ["Algorithm", "lab", "tv", "web", "Avg"]


def test_runs_on_other_environments_of_one_name_are_not_mixed(tmp_path):
    for i, envs in enumerate((("lab", "tv", "web"), ("lab", "tv", "radio"))):
        root = own_tree(tmp_path / f"data{i}", envs=envs)
        train(arguments(root, output_dir=str(tmp_path / f"sweep/run{i}")))
    with pytest.raises(
        RogaError, match=r"Own was prepared anew between these runs: lab, tv, web in .*run0; lab, radio"
    ):
        load_sweeps([tmp_path / "sweep"], "auc")


def test_an_unknown_name_is_refused_with_the_trees_that_are_there(tmp_path):
    own_tree(tmp_path)
    assert trees.problem("Own", tmp_path) is None
    assert "unknown dataset 'Owm' (did you mean 'Own'?)" in trees.problem("Owm", tmp_path)
    (tmp_path / "raw").mkdir()
    assert "raw' has no manifest.parquet: 'roga-domainbed prepare folder' makes one" in trees.problem(
        "raw", tmp_path
    )
    for name in ("../Own", "Own/lab", ".", ""):
        assert "unknown dataset" in trees.problem(name, tmp_path)
    assert "unknown dataset" in trees.problem("Other", None)
    (tmp_path / "Own/manifest.parquet").write_bytes(b"PAR1")
    assert "cannot be read as a manifest" in trees.problem("Own", tmp_path)


def test_a_registered_name_stays_with_its_dataset(tmp_path):
    own_tree(tmp_path, name="FFPP")
    assert trees.problem("FFPP", tmp_path) is None
    assert DATASETS.get("FFPP").environments == ("DF", "F2F", "FS", "NT")


def test_a_sweep_knows_it(tmp_path, capsys):
    own_tree(tmp_path)
    argv = [
        "sweep",
        "launch",
        "--datasets",
        "Own",
        "--algorithms",
        "ERM",
        "--n_hparams",
        "1",
        "--n_trials",
        "1",
    ]
    argv += ["--single_test_envs", "--split", "group", "--data_dir", str(tmp_path)]
    assert main([*argv, "--output_dir", str(tmp_path / "out"), "--hparams", SMALL, "--dry-run"]) == 0
    assert "3 jobs" in capsys.readouterr().out


@pytest.mark.upstream
def test_a_checkout_trains_on_it(tmp_path):
    output = train(arguments(own_tree(tmp_path), algorithm="VREx"))
    first = json.loads((output / RECORDS).read_text().splitlines()[0])
    assert first["provenance"]["backend"] == "upstream"
    assert first["provenance"]["environments"] == ["lab", "tv", "web"]
