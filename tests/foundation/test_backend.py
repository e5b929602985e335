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


SHOW = "from roga_domainbed.backend import host; h = host(); print(h.name, h.package, h.home)"


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


def test_domainbed_home_wins(checkout):
    assert ask(SHOW, DOMAINBED_HOME=str(checkout)).stdout == f"upstream domainbed {checkout}\n"


def test_a_domainbed_on_the_import_path_is_found(checkout):
    assert ask(SHOW, PYTHONPATH=str(checkout)).stdout == f"upstream domainbed {checkout}\n"


def test_a_domainbed_home_that_is_none_is_an_error(tmp_path):
    result = ask(SHOW, DOMAINBED_HOME=str(tmp_path))
    assert "is not a DomainBed checkout: there is no domainbed/algorithms.py in it" in result.stderr


def test_a_package_that_the_checkout_needs_is_named(checkout):
    code = "from roga_domainbed.backend import host; host().networks"
    result = ask(code, DOMAINBED_HOME=str(checkout))
    assert "needs the package 'no_such_package': pip install no_such_package" in result.stderr
