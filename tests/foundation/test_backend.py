"""Which DomainBed is used, and how a wrong one is refused. Each case is a process of its own: it is decided once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def ask(code, **environment):
    env = {key: value for key, value in os.environ.items() if key != "DOMAINBED_HOME"}
    env.update(environment, PYTHONPATH=os.pathsep.join([environment.get("PYTHONPATH", ""), str(ROOT)]))
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)


SHOW = "from roga_domainbed.host.backend import host; h = host(); print(h.name, h.package, h.home)"


@pytest.fixture
def checkout(tmp_path):
    package = tmp_path / "a checkout" / "domainbed"
    (package / "lib").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "algorithms.py").write_text("ALGORITHMS = ['ERM']\n")
    (package / "networks.py").write_text("import no_such_package\n")
    return package.parent


def test_without_a_checkout_it_is_the_engine():
    assert ask(SHOW).stdout == "engine roga_domainbed.engine None\n"


@pytest.mark.parametrize("variable", ["DOMAINBED_HOME", "PYTHONPATH"])
def test_a_checkout_is_found_by_its_variable_and_on_the_import_path(checkout, variable):
    assert ask(SHOW, **{variable: str(checkout)}).stdout == f"upstream domainbed {checkout}\n"


def test_a_domainbed_home_that_is_none_is_an_error(tmp_path):
    result = ask(SHOW, DOMAINBED_HOME=str(tmp_path))
    assert "is not a DomainBed checkout: there is no domainbed/algorithms.py in it" in result.stderr


def test_a_package_that_the_checkout_needs_is_named(checkout):
    code = "from roga_domainbed.host.backend import host; host().networks"
    result = ask(code, DOMAINBED_HOME=str(checkout))
    assert "needs the package 'no_such_package': pip install no_such_package" in result.stderr


def fork(folder, update, package=False):
    """A checkout whose base class has this ``update``."""
    where = folder / "domainbed" / ("algorithms/algorithms.py" if package else "algorithms.py")
    where.parent.mkdir(parents=True)
    where.write_text(f"class Algorithm:\n    {update}\n        raise NotImplementedError\n")
    return folder


@pytest.mark.parametrize(
    ("update", "package"),
    [
        ("def update(self, x, y, **kwargs):", False),
        ("def update(self, minibatches):", True),
        ("def update(self, minibatches, unlabeled, step):", False),
    ],
)
def test_a_fork_with_another_update_is_refused_before_it_is_imported(tmp_path, update, package):
    result = ask(SHOW, DOMAINBED_HOME=str(fork(tmp_path, update, package)))
    assert f"is a fork of DomainBed whose algorithms have {update[4:-1]}" in result.stderr
    assert "supported is DomainBed's own update(self, minibatches, unlabeled=None)" in result.stderr


@pytest.mark.parametrize(
    ("update", "message"),
    [
        ("def update(self, minibatches, unlabeled=None):", "upstream domainbed {}\n"),
        ("def update(self, minibatches, unlabeled=None, step=0):", "upstream domainbed {}\n"),
        ("def update(self", "cannot be read as Python"),
    ],
)
def test_a_fork_that_is_called_as_domainbed_is_used_and_one_that_is_no_python_is_named(
    tmp_path, update, message
):
    result = ask(SHOW, DOMAINBED_HOME=str(fork(tmp_path, update)))
    assert message.format(tmp_path) in result.stdout + result.stderr


WITHOUT_WILDS = """
import importlib.machinery, sys
find = importlib.machinery.PathFinder.find_spec
importlib.machinery.PathFinder.find_spec = staticmethod(
    lambda name, path=None, target=None: None if name.split(".")[0] == "wilds" else find(name, path, target))
"""


def test_who_uses_no_wilds_data_needs_no_wilds(checkout):
    (checkout / "domainbed" / "datasets.py").write_text(
        "from wilds.datasets.camelyon17_dataset import Camelyon17Dataset\nDATASETS = ['Debug28']\n"
    )
    code = (
        WITHOUT_WILDS
        + """
from roga_domainbed.host.backend import host
datasets = host().datasets
print(datasets.DATASETS, "wilds" in sys.modules)
try:
    datasets.Camelyon17Dataset(root_dir="data")
except Exception as error:
    print(type(error).__name__, error)
try:
    import wilds
except ModuleNotFoundError:
    print("nobody else is given a stand-in")
"""
    )
    assert ask(code, DOMAINBED_HOME=str(checkout)).stdout.splitlines() == [
        "['Debug28'] False",
        "RogaError the package 'wilds' is needed for the WILDS datasets (WILDSCamelyon, WILDSFMoW): pip install wilds",
        "nobody else is given a stand-in",
    ]
