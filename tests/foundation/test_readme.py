"""The README and docs/: links and pictures exist, the index has every page, the README's Python runs as written."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from datasets_ext import manifest

ROOT = Path(__file__).resolve().parents[2]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "benchmarks" / "RESULTS.md", *DOCS]


def text_of(page):
    return page.read_text(encoding="utf-8")


def anchors(page):
    """The fragments by which a page's headings can be linked to, made as GitHub makes them."""
    headings = re.findall(
        r"^#+ (.*)$", re.sub(r"```.*?```", "", text_of(page), flags=re.DOTALL), re.MULTILINE
    )
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_lead_somewhere(page):
    links = re.findall(r"\]\((?!http)([^)#]*)#?([^)]*)\)", text_of(page))
    pictures = [(source, "") for source in re.findall(r'src(?:set)?="([^"]+)"', text_of(page))]
    for target, fragment in links + pictures:
        path = page.parent / target if target else page
        assert path.exists(), target
        assert not fragment or fragment in anchors(path), f"{target}#{fragment}"


def test_the_index_of_docs_links_every_page():
    linked = set(re.findall(r"\]\(([\w-]+\.md)\)", text_of(ROOT / "docs" / "README.md")))
    assert linked == {page.name for page in DOCS} - {"README.md"}


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


def python_of(page):
    return re.findall(r"```python\n(.*?)```", text_of(page), re.DOTALL)


@pytest.mark.parametrize("page", ["README.md", "docs/optimizers.md"])
def test_the_loop_runs_as_written(page):
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    before = model[0].weight.detach().clone()
    batches = [(torch.randn(5, 4), torch.randint(3, (5,))) for _ in range(2)]
    found = {"model": model, "loader": [batches] * 3}
    exec(python_of(ROOT / page)[0], found)
    assert found["losses"].shape == (2,)
    assert not torch.equal(before, model[0].weight)


def test_the_example_with_ones_own_faces_runs_as_written(tmp_path):
    write_faces(tmp_path / "data" / "MyFakes")
    _, code = python_of(ROOT / "README.md")
    (tmp_path / "my_fakes.py").write_text(code)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}  # also where the package is not installed
    command = [sys.executable, "my_fakes.py"]
    result = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "runs" / "my-fakes" / "done").exists()
