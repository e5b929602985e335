"""What ``doctor`` finds on the engine; tests/foundation/test_plugins.py has plugins, tests/upstream a checkout."""

import os
import subprocess
import sys


def doctor(*arguments, **environment):
    command = [sys.executable, "-m", "roga_domainbed", "doctor", *map(str, arguments)]
    env = {**os.environ, "DOMAINBED_HOME": "", **environment}
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False)


def test_it_names_backend_and_datasets_and_takes_a_step(tmp_path):
    for name in ("MNIST", "CelebDF2", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "CelebDF2" / "manifest.parquet").touch()
    done = doctor("--data_dir", tmp_path)
    assert done.returncode == 0
    lines = [line.split(None, 2) for line in done.stdout.splitlines() if line]
    found = [(state, what) for state, what, _ in (line for line in lines if len(line) == 3)]
    assert ("ok", "backend") in found
    assert "of ERM and RoGA, on engine" in done.stdout
    assert f"{tmp_path / 'MNIST'}: for ColoredMNIST, RotatedMNIST" in done.stdout
    assert f"{tmp_path / 'CelebDF2'}: a part of combined datasets, with a manifest" in done.stdout
    assert "other" not in done.stdout
    assert done.stdout.endswith("Training works.\n")


def test_a_fork_that_cannot_be_used_makes_it_fail(tmp_path):
    package = tmp_path / "domainbed"
    package.mkdir()
    (package / "algorithms.py").write_text("class Algorithm:\n    def update(self, x, y):\n        pass\n")
    done = doctor(DOMAINBED_HOME=str(tmp_path))
    assert done.returncode == 1
    assert "FAIL  backend" in done.stdout
    assert "update(self, x, y)" in done.stdout
    assert done.stdout.endswith("Training cannot work as things are: see FAIL above.\n")


def test_a_folder_of_data_that_is_none_makes_it_fail(tmp_path):
    done = doctor("--data_dir", tmp_path / "none")
    assert done.returncode == 1
    assert "is not a folder" in done.stdout
