"""Sweeps on a real Slurm cluster of two nodes on this machine: what ends a task, and what is left of it."""

import json
import os
import threading
import time
from pathlib import Path

import pytest
from patience import wait_for

from datasets_ext.synthfake.generate import generate
from roga_domainbed.errors import RogaError
from roga_domainbed.launch import Job, Options, cancellation
from roga_domainbed.launch.job import State
from roga_domainbed.launch.jobfile import STOPPED, is_running
from roga_domainbed.launch.local import launch_local
from roga_domainbed.launch.slurm import launch_slurm, sbatch_script
from roga_domainbed.launch.submissions import cancel, submissions, waiting

pytestmark = pytest.mark.cluster

ENTRY = {"entry": "held_entry:main", "preload": ("torch", "timm", "roga_domainbed.trainer.run")}

#: Every Python of a place says in a file that it starts, and waits as long as the file is there.
HELD_START = """
import os, time
if "SLURM_JOB_ID" in os.environ and os.path.exists({held!r}):
    print(os.getpid(), file=open({held!r}, "a"))
    while os.path.exists({held!r}):
        time.sleep(0.05)
"""


@pytest.fixture
def sweep(tmp_path, monkeypatch, cluster):
    """Make jobs of a sweep, whose paths are relative."""
    monkeypatch.chdir(tmp_path)
    generate("data", n_identities=4, n_frames=1)
    hparams = json.dumps({"backbone": "meso4", "batch_size": 4})

    def make(n, folder, steps=40):
        jobs = []
        for index in range(n):
            out = f"{folder}/{index:032x}"
            argv = f"train --data_dir data --dataset SynthFake --algorithm ERM --test_envs 3 --seed {index}"
            argv += f" --steps {steps} --checkpoint_freq {steps} --checkpoint_every 10 --skip_model_save --hparams"
            jobs.append(Job((*argv.split(), hparams, "--output_dir", out), out))
        return jobs

    yield make
    cluster.run("scancel", "--user=root")
    cancellation.cancel("out")  # for those that Slurm does not see any more
    wait_for(lambda: not cluster.run("squeue", "-h"))
    wait_for(lambda: not any(map(is_running, tmp_path.glob("out/*"))))


def hold(job):
    """Have the training wait at a step; the file that it waits for."""
    path = Path(job.output_dir + ".hold")
    path.parent.mkdir(exist_ok=True)
    path.touch()
    return path


def is_held(job):
    """Whether its newest attempt waits at its step."""
    path = Path(job.log_path)
    resumed = path.read_text().count("Continued after") if path.exists() else 0
    at_step = os.path.exists(f"{job.output_dir}/checkpoint_20.pt")
    return at_step and resumed == job.attempts - 1 and job.state is State.RUNNING


def place_of(cluster, sweep_folder, job):
    """Slurm's name of the place that has a job, and its node."""
    (submission,) = submissions(sweep_folder)
    (index,) = (index for index, names in enumerate(submission.tasks) if job.id in names)
    place = f"{submission.id}_{index}"
    node = cluster.run("squeue", "-h", "--array", "-j", place, "-o", "%N").strip()
    return place, node


def is_pending(cluster, place):
    return cluster.run("squeue", "-h", "--array", "-j", place, "-o", "%T").strip() == "PENDING"


def start_now(cluster, place):
    """Start a place that was put back, which Slurm lets wait for two minutes."""
    wait_for(lambda: is_pending(cluster, place))
    # A node takes no run that begins in the second in which it ended the one before: "Job credential revoked".
    time.sleep(2)
    cluster.run("scontrol", "update", f"JobId={place}", "StartTime=now", "TimeLimit=20")


def preempt(cluster, node):
    """Submit a job of a higher partition that takes the whole node; Slurm's number of it."""
    options = ["--partition=urgent", f"--nodelist={node}", "--exclusive", "--output=/dev/null"]
    return cluster.run("sbatch", "--parsable", *options, "--wrap=sleep 2").strip()


def records(job):
    """Its records without clocks and the folder's name."""
    lines = [json.loads(line) for line in Path(job.output_dir, "results.jsonl").read_text().splitlines()]
    for line in lines:
        line["args"].pop("output_dir")
    return [
        {key: value for key, value in line.items() if key not in ("step_time", "data_time")} for line in lines
    ]


def test_24_jobs_survive_a_dead_node_a_time_limit_and_preemption(cluster, sweep):
    jobs = sweep(24, "out")
    holds = {index: hold(jobs[index]) for index in (0, 6, 12)}
    options = Options(folder="out", jobs_per_task=6, wait=True, slurm={"time": 20}, **ENTRY)
    outcomes = []
    launch = threading.Thread(target=lambda: outcomes.extend(launch_slurm(jobs, options)), daemon=True)
    launch.start()
    for index in holds:
        wait_for(lambda index=index: is_held(jobs[index]))
    places = {index: place_of(cluster, "out", jobs[index]) for index in holds}

    # The daemons of a node die, and its trainings go on unseen, as on a node that is cut off.
    node = places[0][1]
    lost = [index for index in holds if places[index][1] == node]
    cluster.kill_daemons(node)
    wait_for(lambda: all(is_pending(cluster, places[index][0]) for index in lost))
    cluster.start_node(node)
    wait_for(lambda: "down" not in cluster.run("sinfo", "-h", "-n", node, "-o", "%T"))
    # The controller still ends on the node what it lost there: a run that began at once would be meant, too.
    time.sleep(10)
    for index in lost:
        start_now(cluster, places[index][0])
    for index in lost:
        wait_for(lambda index=index: jobs[index].attempts == 2)
    for index in holds:
        wait_for(lambda index=index: is_held(jobs[index]))
    holds[0].unlink()

    # A time limit.
    limited, preempted = places[6][0], places[12][0]
    cluster.run("scontrol", "update", f"JobId={limited}", "TimeLimit=1")
    wait_for(lambda: is_pending(cluster, limited))
    assert jobs[6].exit_code == STOPPED, "a checkpoint was written"
    holds[6].unlink()
    start_now(cluster, limited)

    # A job of a higher partition takes the node.
    node = place_of(cluster, "out", jobs[12])[1]
    urgent = preempt(cluster, node)
    wait_for(lambda: is_pending(cluster, preempted))
    assert jobs[12].exit_code == STOPPED
    holds[12].unlink()
    wait_for(lambda: not cluster.run("squeue", "-h", "-j", urgent, "-t", "PENDING,RUNNING"))
    while launch.is_alive():
        for line in cluster.run("squeue", "-h", "--array", "-o", "%i %r").splitlines():
            place, reason = line.split(maxsplit=1)
            if reason == "BeginTime":
                start_now(cluster, place)
        launch.join(1)

    assert sorted((outcome.job.id, outcome.exit_code) for outcome in outcomes) == [
        (job.id, 0) for job in jobs
    ]
    assert all(job.state is State.DONE for job in jobs)
    assert waiting("out") == set()
    local = sweep(24, "local")
    list(launch_local(local, Options(n_workers=2, folder="local", **ENTRY)))
    assert [records(job) for job in jobs] == [records(job) for job in local]


def test_places_that_are_preempted_while_python_starts_run_again(cluster, sweep, monkeypatch):
    held = Path("starting")
    held.touch()
    Path("sitecustomize.py").write_text(HELD_START.format(held=str(held.absolute())))
    monkeypatch.setenv("PYTHONPATH", os.getcwd(), prepend=os.pathsep)
    by_submitit, by_script = sweep(2, "out", steps=10)
    options = Options(folder="out", slurm={"time": 20, "nodelist": "n1"}, **ENTRY)
    assert all(outcome.submitted for outcome in launch_slurm([by_submitit], options))
    script = Path("array.sh")
    script.write_text(sbatch_script([by_script], options))
    (submission,) = submissions("out")
    places = [submission.id, f"{cluster.run('sbatch', '--parsable', str(script)).strip()}_0"]
    wait_for(lambda: len(held.read_text().split()) == 2)
    preempt(cluster, "n1")
    for place in places:
        wait_for(lambda place=place: is_pending(cluster, place))
    assert [job.attempts for job in (by_submitit, by_script)] == [0, 0]
    held.unlink()
    for place in places:
        start_now(cluster, place)
    for job in (by_submitit, by_script):
        wait_for(lambda job=job: job.state is State.DONE)


def test_a_printed_script_stops_resumes_and_is_cancelled(cluster, sweep):
    jobs = sweep(2, "out")
    holds = [hold(job) for job in jobs]
    script = Path("array.sh")
    script.write_text(sbatch_script(jobs, Options(folder="out", slurm={"time": 20}, **ENTRY)))
    array = cluster.run("sbatch", "--parsable", str(script)).strip()
    for job in jobs:
        wait_for(lambda job=job: is_held(job))
    cluster.run("scancel", "--batch", "--signal=USR1", f"{array}_0")  # what comes before a time limit
    cluster.run("scancel", f"{array}_1")
    holds[0].unlink()
    start_now(cluster, f"{array}_0")
    wait_for(lambda: jobs[0].state is State.DONE)
    wait_for(lambda: not cluster.run("squeue", "-h"))
    assert jobs[1].exit_code == STOPPED, "it wrote a checkpoint, and stays out of the queue"


def test_cancel_empties_the_queue_and_leaves_checkpoints(cluster, sweep):
    jobs = sweep(6, "out")
    for job in jobs:
        hold(job)
    options = Options(folder="out", max_parallel=2, slurm={"time": 20}, **ENTRY)
    outcomes = list(launch_slurm(jobs, options))
    assert all(outcome.submitted and not outcome.failed for outcome in outcomes)
    assert waiting("out") == {job.id for job in jobs}
    again = list(launch_slurm(jobs, options))
    assert all(outcome.skipped for outcome in again)
    for job in jobs[:2]:
        wait_for(lambda job=job: is_held(job))
    assert jobs[2].state is State.NOT_LAUNCHED, "two at a time"
    assert cancel("out") == 1
    wait_for(lambda: waiting("out") == set() and not cluster.run("squeue", "-h"))
    assert [job.exit_code for job in jobs] == [STOPPED] * 2 + [None] * 4


def test_what_sbatch_refuses_is_said_in_its_words_and_nothing_is_left(cluster, sweep):
    jobs = sweep(2, "out")
    with pytest.raises(RogaError, match=r"sbatch: .*nvalid partition"):
        list(launch_slurm(jobs, Options(folder="out", slurm={"time": 20, "partition": "nope"})))
    assert submissions("out") == []
    assert cluster.run("squeue", "-h") == ""
