"""The Ray launcher, on clusters of several nodes on this machine."""

import importlib.util
import os
import signal
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from patience import PATIENCE_S, wait_for

from roga_domainbed.errors import Failed, MissingExtra
from roga_domainbed.launch import Job, Options
from roga_domainbed.launch.job import State
from roga_domainbed.launch.jobfile import read_job_file
from roga_domainbed.launch.ray import launch_ray

#: Says which node it runs on, waits while a file is there, and finishes.
ENTRY = """
    import os, time

    def main(argv):
        out = argv[-1]
        with open(out + "/node", "w") as file:
            file.write(os.environ["RAY_RAYLET_PID"] + " ")
        with open(out + "/runs", "a") as file:
            file.write("x")
        while os.path.exists(out + ".hold"):
            time.sleep(0.05)
        if argv[1] == "fail":
            return 3
        open(out + "/done", "w").close()
        return 0
"""


@pytest.fixture
def jobs(tmp_path, monkeypatch):
    """Make jobs that are held, or not, or fail."""
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "ray_entry.py").write_text(textwrap.dedent(ENTRY))
    root = Path(__file__).resolve().parents[2]
    monkeypatch.setenv("PYTHONPATH", f"{modules}{os.pathsep}{root}")
    monkeypatch.setenv("RAY_raylet_start_wait_time_s", "300")  # a busy machine takes more than Ray's 30
    monkeypatch.setenv("RAY_agent_register_timeout_ms", "300000")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.chdir(tmp_path)

    def make(*what):
        made = []
        for index, each in enumerate(what):
            out = f"sweep/{index}"
            made.append(Job(("train", each, "--output_dir", out), out))
            if each == "hold":
                Path("sweep").mkdir(exist_ok=True)
                Path(f"{out}.hold").touch()
        return made

    return make


def options(**fields):
    return Options(entry="ray_entry:main", folder="sweep", **fields)


def node_of(job):
    """The process id of the raylet on whose node a job runs; None before it does."""
    path = Path(job.output_dir, "node")
    text = path.read_text() if path.exists() else ""
    return int(text) if text.endswith(" ") else None


def test_without_ray_the_extra_is_named(jobs, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"roga-domainbed\[ray\]"):
        next(launch_ray(jobs("run"), options()))
    assert not Path("sweep").exists()


needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")


@pytest.mark.cluster
@needs_ray
@pytest.mark.filterwarnings("default")
def test_a_cluster_of_its_own_runs_tasks_and_ends_with_them(jobs, capfd):
    import ray

    made = jobs("run", "fail", "run", "run", "run")
    found = {o.job.id: o.exit_code for o in launch_ray(made, options(jobs_per_task=2, n_workers=2))}
    assert found == {"0": 0, "1": 3, "2": 0, "3": 0, "4": 0}
    assert not ray.is_initialized()
    raylet = node_of(made[0])
    wait_for(lambda: not os.path.exists(f"/proc/{raylet}"))
    assert capfd.readouterr().err == ""


@pytest.mark.cluster
@needs_ray
@pytest.mark.filterwarnings("default")
def test_jobs_of_a_node_that_is_killed_run_on_another(jobs):
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        made = jobs("hold", "run", "run", "hold", "run", "run")
        outcomes = []
        launch = threading.Thread(
            target=lambda: outcomes.extend(
                launch_ray(made, options(jobs_per_task=3, address=cluster.address))
            ),
            daemon=True,
        )
        launch.start()
        wait_for(lambda: node_of(made[0]) and node_of(made[3]))
        assert node_of(made[0]) != node_of(made[3])
        lost = node_of(made[0])
        os.kill(lost, signal.SIGKILL)
        os.waitpid(lost, 0)  # it is our child; its workers would take a zombie for alive
        Path("sweep/3.hold").unlink()
        wait_for(lambda: made[0].attempts == 2)
        Path("sweep/0.hold").unlink()
        launch.join(PATIENCE_S)
        assert sorted((outcome.job.id, outcome.exit_code) for outcome in outcomes) == [
            (str(i), 0) for i in range(6)
        ]
        assert all(job.state is State.DONE for job in made)
        owners = [read_job_file(made[0].output_dir, number).owner for number in (1, 2)]
        place = owners[0].partition("#")[0]
        assert place.startswith("ray:")
        assert owners == [f"{place}#1", f"{place}#2"]
    finally:
        cluster.shutdown()


@pytest.mark.cluster
@needs_ray
@pytest.mark.filterwarnings("default")
def test_closing_the_launch_stops_what_runs_and_starts_nothing_more(jobs):
    made = jobs("hold", "run")
    launch = launch_ray(made, options(n_workers=1, max_parallel=1))
    stop = threading.Timer(
        0, lambda: (wait_for(lambda: node_of(made[0])), os.kill(os.getpid(), signal.SIGINT))
    )
    stop.daemon = True
    stop.start()
    with pytest.raises(KeyboardInterrupt):
        next(launch)
    stop.join()
    assert made[0].exit_code == -signal.SIGTERM, "it was asked; a training would have written a checkpoint"
    assert made[1].state is State.NOT_LAUNCHED


@needs_ray
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("address", ["127.0.0.1:9", "nowhere.invalid:6379", "127.0.0.1:99999"])
def test_an_address_where_nobody_listens_is_named_at_once(jobs, address):
    with pytest.raises(Failed, match=f"no Ray cluster at '{address}': "):
        next(launch_ray(jobs("run"), options(address=address)))
    assert not Path("sweep").exists()
