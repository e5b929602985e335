"""``verify``: a line a check, a status that says whether one failed, and checks that can fail."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from roga_domainbed.cli import main
from roga_domainbed.metrics import METRICS
from roga_domainbed.upstream import bridge
from roga_domainbed.verify import trainings
from roga_domainbed.verify.checks import Check, Failed, Options, Skip, make

ORACLES = Path(__file__).parents[1] / "data" / "engine"


def test_the_quick_checks_pass_here(capsys):
    assert main("verify --only seeds splits hparams metrics update-rules".split()) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[:5]] == [
        ["ok", name] for name in ("seeds", "splits", "hparams", "metrics", "update-rules")
    ]
    assert lines[-1] == "5 ok, 0 failed, 0 skipped."


def test_the_oracles_that_are_shipped_are_those_of_the_tests():
    shipped = json.loads((Path(trainings.__file__).parent / "oracles.json").read_text(encoding="utf-8"))
    assert shipped["seed_hash"] == json.loads((ORACLES / "seed_hash.json").read_text())
    assert shipped["split_dataset"] == json.loads((ORACLES / "splits.json").read_text())["split_dataset"]
    recorded = json.loads((ORACLES / "hparams_erm.json").read_text())["by_seed"]
    assert all(case in recorded for case in shipped["hparams"])


def test_a_backend_with_other_seeds_fails_and_the_status_says_so(monkeypatch, capsys):
    monkeypatch.setattr(bridge.register().misc, "seed_hash", lambda *args: 7)
    assert main("verify --only seeds splits".split()) == 1
    out = capsys.readouterr().out
    assert "failed   seeds          seed_hash(0,) is 7, DomainBed's is 1003224347" in out
    assert "1 ok, 1 failed, 0 skipped." in out


def test_a_metric_that_is_off_fails(monkeypatch, capsys):
    off = replace(METRICS.get("auc"), function=lambda scores, labels: 0.25)
    monkeypatch.setitem(METRICS._own, "auc", off)
    assert main("verify --only metrics".split()) == 1
    assert "auc is 0.25, scikit-learn says" in capsys.readouterr().out


def test_every_end_of_a_check_is_told_and_none_stops_the_next(tmp_path):
    def skipped(options):
        raise Skip("no such data")

    def failed(options):
        raise Failed("3 instead\nof 4")

    def broken(options):
        raise ZeroDivisionError("by zero")

    checks = [Check(run.__name__, run) for run in (skipped, failed, broken)]
    found = [(result.name, result.state, result.detail) for result in make(checks, Options(tmp_path))]
    assert found == [
        ("skipped", "skipped", "no such data"),
        ("failed", "failed", "3 instead of 4"),
        ("broken", "failed", "ZeroDivisionError: by zero"),
    ]


@pytest.mark.parametrize(("value", "inside"), [(0.5, True), (0.399, False), (0.601, False)])
def test_a_number_outside_its_band_fails_with_both(tmp_path, monkeypatch, value, inside):
    monkeypatch.setattr(trainings, "_records", lambda *args, **kwargs: [{}, {"env0_in_acc": value}])
    bands = (trainings.Band("env0_in_acc", 40, 60),)
    if inside:
        assert "env0_in_acc 50.0" in trainings._inside(Options(tmp_path), "x", bands)
    else:
        with pytest.raises(Failed, match=rf"env0_in_acc {100 * value:.1f} \(expected 40 to 60\)"):
            trainings._inside(Options(tmp_path), "x", bands)


def test_data_that_is_not_there_is_skipped_with_its_reason(tmp_path, capsys):
    argv = ["verify", "--only", "colored-mnist", "pacs", "vlcs", "--mnist", tmp_path, "--data_dir", tmp_path]
    assert main(list(map(str, argv))) == 0
    out = capsys.readouterr().out
    assert f"skipped  colored-mnist  no train-images-idx3-ubyte in {tmp_path}" in out
    assert f"skipped  pacs           no PACS in {tmp_path}" in out
    assert "0 ok, 0 failed, 3 skipped." in out


def test_the_first_digits_are_put_where_torchvision_reads_them(tmp_path):
    from torchvision.datasets import MNIST

    source = tmp_path / "MNIST_dir"
    source.mkdir()
    draw = np.random.default_rng(0)
    parts = {}
    for part, n in (("train", 20), ("t10k", 10)):
        images, labels = draw.integers(0, 256, (n, 28, 28), np.uint8), draw.integers(0, 10, n, np.uint8)
        for name, magic, array in (("images.idx3", 2051, images), ("labels.idx1", 2049, labels)):
            header = np.array([magic, *array.shape], ">i4").tobytes()
            (source / f"{part}-{name}-ubyte").write_bytes(header + array.tobytes())
        parts[part] = images, labels
    trainings._place_mnist(Options(tmp_path, mnist=str(source)), 14)
    for train, part, n in ((True, "train", 12), (False, "t10k", 2)):
        read = MNIST(str(tmp_path), train=train)
        np.testing.assert_array_equal(read.data.numpy(), parts[part][0][:n])
        np.testing.assert_array_equal(read.targets.numpy(), parts[part][1][:n])


@pytest.mark.slow
def test_the_trainings_end_inside_their_bands(capsys):
    assert main("verify --only repeatable synthfake".split()) == 0, capsys.readouterr().out


def test_an_unknown_check_is_one_line(capsys):
    assert main("verify --only seed".split()) == 2
    assert "unknown check 'seed' (did you mean 'seeds'?)" in capsys.readouterr().err
