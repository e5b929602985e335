import os
import textwrap

import pytest
from slurm_cluster import missing, slurm_cluster

#: Stands in for the real entry: does what the word after --do says.
ENTRY = """
    import atexit, os, signal, sys, threading, time

    def main(argv):
        value = lambda flag: argv[argv.index(flag) + 1]
        out, what = value("--output_dir"), value("--do")
        print("argv:", *argv)
        print("to stderr", file=sys.stderr)
        open(out + "/seen", "a").write(os.environ.get("CUDA_VISIBLE_DEVICES", "-") + " " + str("json" in sys.modules))
        if what == "raise":
            raise RuntimeError("boom")
        if what == "exit":
            sys.exit("a reason")
        if what == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "kill_worker":
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(3600)
        if what == "at_exit":
            threading.Thread(target=lambda: (time.sleep(0.5), print("a thread", end=" "))).start()
            atexit.register(print, "and a function at the end", end="")
            sys.stdout.reconfigure(line_buffering=False)
            return 4
        if what == "sleep":
            open(out + "/pid", "w").write(str(os.getpid()))
            time.sleep(3600)
        if what == "0":
            open(out + "/done", "w").close()
        return int(what)
"""


@pytest.fixture
def importable(tmp_path, monkeypatch):
    """Make an entry of a module's text that workers can import; its name."""

    def make(name, text):
        (tmp_path / "modules").mkdir()
        (tmp_path / "modules" / f"{name}.py").write_text(textwrap.dedent(text))
        root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "modules"), root]))
        return f"{name}:main"

    return make


@pytest.fixture
def entry(importable):
    """Name of an entry that workers can import."""
    return importable("stand_in_entry", ENTRY)


@pytest.fixture(scope="session")
def cluster():
    """A Slurm cluster of two nodes, whose jobs can import what is in this folder."""
    pytest.importorskip("submitit")
    if reason := missing():
        pytest.skip(reason)
    folder = os.path.dirname(__file__)
    with pytest.MonkeyPatch.context() as patch:
        root = os.path.dirname(os.path.dirname(folder))
        patch.setenv("PYTHONPATH", os.pathsep.join([folder, root]))
        patch.setenv("OMP_NUM_THREADS", "1")
        with slurm_cluster(n_nodes=2, n_cpus=2) as started:
            yield started
