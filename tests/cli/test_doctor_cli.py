"""What ``doctor`` finds on the engine; tests/foundation/test_plugins.py has plugins, tests/upstream a checkout."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from roga_domainbed.cli import full_checks, main
from roga_domainbed.metrics import METRICS
from roga_domainbed.upstream import bridge


def test_it_names_backend_and_datasets_and_takes_a_step(tmp_path, capsys):
    for name in ("MNIST", "CelebDF2", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "CelebDF2" / "manifest.parquet").touch()
    assert main(["doctor", "--data_dir", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    lines = [line.split(None, 2) for line in out.splitlines() if line]
    found = [(state, what) for state, what, _ in (line for line in lines if len(line) == 3)]
    assert ("ok", "backend") in found
    assert "of ERM and RoGA, on engine" in out
    assert f"{tmp_path / 'MNIST'}: for ColoredMNIST, RotatedMNIST" in out
    assert f"{tmp_path / 'CelebDF2'}: a part of combined datasets, with a manifest" in out
    assert "other" not in out
    assert out.endswith("Training works.\n")


def test_a_fork_that_cannot_be_used_makes_it_fail(tmp_path):
    package = tmp_path / "domainbed"
    package.mkdir()
    (package / "algorithms.py").write_text("class Algorithm:\n    def update(self, x, y):\n        pass\n")
    command = [sys.executable, "-m", "roga_domainbed", "doctor"]
    env = {**os.environ, "DOMAINBED_HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 1
    assert "FAIL  backend" in done.stdout
    assert "update(self, x, y)" in done.stdout
    assert done.stdout.endswith("Something does not work: see FAIL above.\n")


def test_a_folder_of_data_that_is_none_makes_it_fail(tmp_path, capsys):
    assert main(["doctor", "--data_dir", str(tmp_path / "none")]) == 1
    assert "is not a folder" in capsys.readouterr().out


@pytest.fixture
def without_training(monkeypatch):
    """The checks without the training, and few cases of each metric."""
    monkeypatch.delitem(full_checks.CHECKS, "SynthFake")
    monkeypatch.setattr(full_checks, "_N_CASES", 6)


def test_full_checks_seeds_metrics_and_update_rules(without_training, capsys):
    assert main(["doctor", "--full"]) == 0
    out = capsys.readouterr().out
    for line in (
        "ok    seeds         4 seeds and 2 splits equal DomainBed's",
        "ok    metrics       6 metrics equal scikit-learn's on 6 cases each",
        "ok    update rules  4 identities of RoGA, SAM and the base optimizer hold",
    ):
        assert line in out


def test_wrong_seeds_and_a_wrong_metric_fail_and_the_next_check_is_made(
    without_training, monkeypatch, capsys
):
    monkeypatch.setattr(bridge.register().misc, "seed_hash", lambda *args: 7)
    wrong = replace(METRICS.get("auc"), function=lambda scores, labels: 0.25)
    monkeypatch.setitem(METRICS._own, "auc", wrong)
    assert main(["doctor", "--full"]) == 1
    out = capsys.readouterr().out
    assert "FAIL  seeds         seed_hash(0,) is 7, DomainBed's is 1003224347" in out
    assert "FAIL  metrics       auc is 0.25, scikit-learn says" in out
    assert "ok    update rules" in out


def test_a_check_that_breaks_is_a_failure_and_does_not_stop_the_next(monkeypatch, capsys):
    def broken(scratch):
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(full_checks, "CHECKS", {"broken": broken, "seeds": full_checks.seeds})
    assert main(["doctor", "--full"]) == 1
    out = capsys.readouterr().out
    assert "FAIL  broken        ZeroDivisionError: by zero" in out
    assert "ok    seeds" in out


@pytest.mark.parametrize(("value", "inside"), [(0.5, True), (0.399, False), (0.601, False)])
def test_a_number_outside_its_band_fails_with_both(monkeypatch, value, inside):
    monkeypatch.setattr(full_checks, "_SYNTHFAKE_BANDS", {"env0_in_auc": (40, 60)})
    if inside:
        assert "env0_in_auc 50.0" in full_checks._inside_bands({"env0_in_auc": value})
    else:
        with pytest.raises(
            full_checks.CheckFailed, match=rf"env0_in_auc {100 * value:.1f} \(expected 40 to 60\)"
        ):
            full_checks._inside_bands({"env0_in_auc": value})


@pytest.mark.slow
def test_the_training_ends_inside_its_bands(tmp_path):
    assert full_checks.synthfake(tmp_path).endswith("inside their bands")
