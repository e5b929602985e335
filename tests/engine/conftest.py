"""Numbers recorded from an unmodified DomainBed, and small image trees."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

_ORACLES = Path(__file__).parents[1] / "data" / "engine"


@pytest.fixture(scope="session")
def oracle():
    return lambda name: json.loads((_ORACLES / f"{name}.json").read_text())


@pytest.fixture
def make_tree(tmp_path):
    """Write ``{environment: {class folder: number of images}}`` as small PNG files; return the folder."""

    def make(tree, folder="data"):
        draw = np.random.default_rng(0)
        root = tmp_path / folder
        root.mkdir(parents=True)
        for environment, classes in tree.items():
            (root / environment).mkdir()
            for name, n_images in classes.items():
                (root / environment / name).mkdir()
                for i in range(n_images):
                    pixels = draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(root / environment / name / f"{i}.png")
        return root

    return make
