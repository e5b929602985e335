import json
import os
import subprocess
import sys

import pytest


@pytest.fixture(scope="session")
def home():
    return os.path.realpath(os.environ["DOMAINBED_HOME"])


@pytest.fixture(scope="session", autouse=True)
def the_checkout_stays_as_it_was(request):
    """Nothing that these tests do may change a file of it."""
    yield
    if os.environ.get("DOMAINBED_HOME"):
        status = ["git", "-C", os.environ["DOMAINBED_HOME"], "status", "--porcelain"]
        assert subprocess.run(status, check=True, capture_output=True, text=True).stdout == ""


@pytest.fixture(scope="session")
def faces(tmp_path_factory):
    """A folder with a small SynthFake in it."""
    from datasets_ext.synthfake.generate import generate

    root = tmp_path_factory.mktemp("data")
    generate(root, n_identities=12, n_frames=2)
    return root


@pytest.fixture(scope="session")
def run_cli():
    """Run ``roga-domainbed ARGS`` in a process of its own."""

    def run(*arguments, code=0, **kwargs):
        command = [sys.executable, "-m", "roga_domainbed", *map(str, arguments)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **kwargs.pop("env", {})}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, **kwargs)
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return run


@pytest.fixture(scope="session")
def run_stock(home):
    """Run a script of the checkout as its own README says, without the plugin."""

    def run(script, *arguments, code=0):
        command = [sys.executable, "-m", f"domainbed.scripts.{script}", *map(str, arguments)]
        # A stock sweep starts its jobs with the word "python".
        path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": path}
        done = subprocess.run(command, cwd=home, capture_output=True, text=True, env=environment)
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return run


@pytest.fixture(scope="session")
def records_of():
    def read(folder):
        return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]

    return read
