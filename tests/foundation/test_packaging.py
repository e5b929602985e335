"""What is written by hand in setup.cfg agrees with the tree; the wheel carries the presets."""

import configparser
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import roga_domainbed

ROOT = Path(__file__).resolve().parents[2]


def setup_cfg():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def test_every_package_is_listed():
    listed = set(setup_cfg()["options"]["packages"].split())
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for package in ("roga_domainbed", "datasets_ext")
        for path in (ROOT / package).rglob("__init__.py")
    }
    assert listed == found | {"roga_domainbed.sweeps"}


def test_every_folder_with_modules_is_a_package():
    for package in ("roga_domainbed", "datasets_ext"):
        for path in (ROOT / package).rglob("*.py"):
            assert (path.parent / "__init__.py").exists(), path


def test_the_change_log_and_the_citation_have_this_version():
    assert f"## {roga_domainbed.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"version: {roga_domainbed.__version__}" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_wheel_has_the_presets_and_every_module(tmp_path):
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for preset in (ROOT / "sweeps").glob("*.yaml"):
        assert f"roga_domainbed/sweeps/{preset.name}" in names
    for template in (ROOT / "roga_domainbed" / "report" / "templates").iterdir():
        assert template.relative_to(ROOT).as_posix() in names
    for package in ("roga_domainbed", "datasets_ext"):
        for path in (ROOT / package).rglob("*.py"):
            assert path.relative_to(ROOT).as_posix() in names
    assert not any(name.startswith(("tests/", "benchmarks/", "sweeps/")) for name in names)
