"""What the README claims: its links lead somewhere, its Python runs as written."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from datasets_ext import manifest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_files_lead_somewhere(page):
    targets = re.findall(r"\]\((?!http)([^)#]+)", page.read_text(encoding="utf-8"))
    for target in targets:
        assert (page.parent / target).exists(), target


def write_faces(root):
    """Six people, each with a real and a fake video of two frames in each of three environments."""
    rng, rows = np.random.RandomState(0), []
    for env in ("lab", "phone", "web"):
        for label, folder in enumerate(manifest.CLASS_FOLDERS):
            for person in range(6):
                for frame in range(2):
                    path = f"{env}/{folder}/p{person}/{frame}.png"
                    (root / path).parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(rng.randint(0, 256, (64, 64, 3)).astype(np.uint8)).save(root / path)
                    values = [path, root.name, env, "swap" if label else "real", "", label, f"p{person}"]
                    rows.append([*values, f"{env}-p{person}", f"p{person}", "", frame])
    manifest.write(root, pd.DataFrame(rows, columns=list(manifest.COLUMNS)))


def test_the_example_with_ones_own_faces_runs_as_written(tmp_path):
    write_faces(tmp_path / "data" / "MyFakes")
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "my_fakes.py").write_text(code)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}  # also where the package is not installed
    command = [sys.executable, "my_fakes.py"]
    result = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "runs" / "my-fakes" / "done").exists()
