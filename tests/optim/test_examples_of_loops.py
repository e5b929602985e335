"""The examples of docs/examples/loops, each from an empty folder as its docstring says."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

LOOPS = Path(__file__).parents[2] / "docs" / "examples" / "loops"
PYTHON, TORCHRUN = [sys.executable], [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
ACCELERATE = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]


def accuracy(folder, command, name, *args):
    done = subprocess.run(
        [*command, str(LOOPS / name), *args], cwd=folder, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return float(re.search(r"held-out accuracy (\d\.\d+)", done.stdout)[1]), done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "name", "package"),
    [
        (PYTHON, "mixed_loader.py", "torch"),
        (TORCHRUN, "ddp.py", "torch"),
        (PYTHON, "in_lightning.py", "lightning"),
        (PYTHON, "in_accelerate.py", "accelerate"),
        (ACCELERATE, "in_accelerate.py", "accelerate"),
    ],
    ids=["mixed_loader", "ddp", "lightning", "accelerate", "accelerate launch"],
)
def test_the_example_learns(command, name, package, tmp_path):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed: pip install 'roga-domainbed[integrations]'")
    found, out = accuracy(tmp_path, command, name)
    assert found > 0.2, out  # 0.1 is chance
    if package == "lightning":
        assert "global_step 20" in out


@pytest.mark.slow
def test_the_plain_example_goes_on_from_its_checkpoint(tmp_path):
    unbroken, parts = tmp_path / "unbroken", tmp_path / "parts"
    unbroken.mkdir()
    parts.mkdir()
    expected, _ = accuracy(unbroken, PYTHON, "plain.py", "--steps", "40")
    accuracy(parts, PYTHON, "plain.py", "--steps", "20")
    found, out = accuracy(parts, PYTHON, "plain.py", "--steps", "40")
    assert "step 20" not in out
    assert found == expected > 0.2


@pytest.mark.parametrize("path", sorted(LOOPS.glob("*.py")), ids=lambda path: path.name)
def test_an_example_fits_on_a_screen(path):
    assert len(path.read_text().splitlines()) <= 60
