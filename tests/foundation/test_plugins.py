"""The example package of docs/, installed for real, beside the plugin; and plugins that are broken."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from roga_domainbed.catalog import plugins

ROOT = Path(__file__).resolve().parents[2]
#: Runs each argument as a command line and prints its exit status: torch is imported once.
IN_ONE_PROCESS = """
import sys
import time
from roga_domainbed.cli import main
for line in sys.argv[1:]:
    print(f"{line}: {main(line.split())}")
"""
EXAMPLE = ROOT / "docs" / "examples" / "roga-domainbed-example"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the example installed in it by pip."""
    scratch = tmp_path_factory.mktemp("example")
    shutil.copytree(EXAMPLE, scratch / "source")  # building leaves files beside the source
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    command += ["--target", str(scratch / "site"), str(scratch / "source")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return scratch / "site"


def cli(site, *arguments):
    return python(site, "-m", "roga_domainbed", *map(str, arguments))


def python(site, *arguments):
    path = os.pathsep.join([str(site), str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def sweep_and_tables(site, out):
    arguments = ["--datasets", "TwoMoons", "--algorithms", "LabelSmoothingERM", "--n_trials", "1"]
    arguments += ["--n_hparams", "1", "--steps", "60", "--single_test_envs", "--output_dir", out]
    launched = cli(
        site, "sweep", "launch", *arguments, "--command_launcher", "one_by_one", "--skip_confirmation"
    )
    assert launched.returncode == 0, launched.stderr
    assert len(list(out.glob("*/done"))) == 3
    return cli(site, "collect-results", "--input_dir", out, "--format", "averages", "--select", "iid").stdout


def test_the_example_trains_launches_and_prints_on_the_engine(installed, tmp_path):
    lines = sweep_and_tables(installed, tmp_path / "out").splitlines()
    assert [line.rsplit(" ", 1)[0] for line in lines] == ["TwoMoons: LabelSmoothingERM"]
    # Rotated by 90 degrees the moons change sides, so not all can be right; by chance half would be.
    assert all(float(line.rsplit(" ", 1)[1]) > 60 for line in lines)


@pytest.mark.upstream
def test_the_example_trains_launches_and_prints_on_a_checkout(installed, tmp_path):
    lines = sweep_and_tables(installed, tmp_path / "out").splitlines()
    assert [line.rsplit(" ", 1)[0] for line in lines] == ["TwoMoons: LabelSmoothingERM"]
    arguments = ["--dataset", "TwoMoons", "--algorithm", "LabelSmoothingERM", "--steps", "2"]
    done = cli(installed, "upstream", "train", *arguments, "--output_dir", tmp_path / "stock")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "stock" / "done").exists()


def test_list_and_doctor_show_what_it_adds(installed):
    lines = ["list", "list --algorithm LabelSmoothingERM --dataset TwoMoons", "doctor"]
    said = python(installed, "-c", IN_ONE_PROCESS, *lines).stdout
    for part in (
        "ERM with label smoothing",
        "0 0  1 45  2 90",
        "probability mass spread over all classes",
        "example, from roga-domainbed-example 0.1.0",
    ):
        assert part in said


def test_a_broken_plugin_is_named_fails_doctor_and_keeps_nobody_from_working(tmp_path):
    info = tmp_path / "broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[roga_domainbed.plugins]\nbad = broken_plugin:register\n")
    (tmp_path / "broken_plugin.py").write_text("def register():\n    raise RuntimeError('no such thing')\n")
    done = python(tmp_path, "-c", IN_ONE_PROCESS, "list", "doctor")
    assert done.returncode == 0
    expected = "the plugin 'bad' is left out: broken_plugin:register of broken 1.0 raised RuntimeError: no such thing"
    assert expected in done.stderr
    listed, _, checked = done.stdout.partition("list: 0\n")
    assert "RoGA" in listed
    assert "FAIL  plugin" in checked
    assert checked.endswith("doctor: 1\n")


@pytest.fixture
def plugin(monkeypatch, capsys):
    """Loads one function as the only plugin; gives what became of it, and what was printed."""

    def load(function):
        class Entry:
            name, value, dist = "bad", "module:function", None

            def load(self):
                return function

        monkeypatch.setattr(plugins, "_loaded", None)
        monkeypatch.setattr(plugins, "entry_points", lambda group: [Entry()])
        (found,) = plugins.load_plugins()
        return found, capsys.readouterr()

    return load


class NoException(BaseException):
    pass


def raise_(error):
    raise error


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda: sys.exit(0), "raised SystemExit: 0"),
        (sys.exit, "raised SystemExit"),
        (lambda: raise_(NoException("stop")), "raised NoException: stop"),
        (lambda: raise_(GeneratorExit()), "raised GeneratorExit"),
        (lambda: time.sleep(60), "raised TimeoutError: not ready after 0.2 seconds"),
    ],
)
def test_a_plugin_that_ends_the_program_or_hangs_is_named_and_left_out(plugin, monkeypatch, function, reason):
    monkeypatch.setattr(plugins, "PATIENCE_S", 0.2)
    found, printed = plugin(function)
    assert found.error.endswith(reason)
    assert f"Warning: the plugin 'bad' is left out: {found.error}" in printed.err


def test_what_a_plugin_prints_is_no_output_of_the_command(plugin):
    found, printed = plugin(lambda: print("hello"))
    assert (found.error, printed.out, printed.err) == ("", "", "hello\n")


def test_ctrl_c_while_a_plugin_loads_is_not_the_plugins(plugin):
    with pytest.raises(KeyboardInterrupt):
        plugin(lambda: raise_(KeyboardInterrupt()))
