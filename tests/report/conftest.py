import tarfile
from pathlib import Path

import pytest

DATA = Path(__file__).parents[1] / "data" / "report"


@pytest.fixture
def sweep_folder(tmp_path):
    """Unpack a bundled sweep by name and give its folder."""

    def unpack(name):
        with tarfile.open(DATA / f"{name}.tar.gz") as archive:
            archive.extractall(tmp_path, filter="data")
        return tmp_path / name

    return unpack
