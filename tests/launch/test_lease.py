"""Who may run a job: one of many that ask, the next after one that is silent, and never an orphan."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from patience import wait_for

from roga_domainbed.launch import cancellation
from roga_domainbed.launch.deletion import delete_unfinished
from roga_domainbed.launch.jobfile import (
    attempt_name,
    attempts,
    is_running,
    read_job_file,
    started_now,
    write_job_file,
)
from roga_domainbed.launch.lease import TAKEN_OVER, Lease, claim, held_in, require, succeeds
from roga_domainbed.results.records import mark_done

ELSEWHERE = "another-machine.invalid"


def attempt(folder, number, *, host=ELSEWHERE, silent_s=0.0, **fields):
    """An attempt by a process of ``host``, last touched ``silent_s`` seconds ago."""
    folder.mkdir(exist_ok=True)
    write_job_file(folder, replace(started_now(("train",), 2**22 + 1), host=host, **fields), number)
    then = time.time() - silent_s
    os.utime(folder / attempt_name(number), (then, then))


def test_of_many_that_claim_a_job_at_once_one_gets_it(tmp_path):
    folder = tmp_path / "job"
    folder.mkdir()  # left by an earlier attempt
    stay, leave = os.pipe()
    got, say = os.pipe()
    children = []
    for _ in range(16):
        pid = os.fork()
        if pid == 0:
            os.close(leave)
            os.write(say, b"0" if claim(str(folder), ("train",), retry=True) is None else b"1")
            os.read(stay, 1)  # an owner that is gone owns nothing
            os._exit(0)
        children.append(pid)
    answers = b""
    while len(answers) < len(children):
        answers += os.read(got, len(children))
    os.close(leave)
    for pid in children:
        os.waitpid(pid, 0)
    assert sorted(answers.decode()) == list("0" * 15 + "1")
    assert os.listdir(folder) == ["job.json"]
    assert claim(str(folder), ("train",), retry=True) == Lease(str(folder), 2), "the owner has died"
    assert claim(str(folder), ("train",), retry=False) is None


@pytest.mark.parametrize(
    ("silent_s", "fields", "owner", "expected"),
    [
        (0, {}, "", None),
        (100, {}, "", None),
        (181, {}, "", 2),
        (-1000, {}, "", 2),  # a date to come is no sign of life
        (0, {"exit_code": 75}, "", 2),
        (0, {"host": socket.gethostname()}, "", 2),  # there is no such process
        (0, {"owner": "slurm:7_1"}, "slurm:7_1", 2),  # the queue has started the place again
        (0, {"owner": "slurm:7_1"}, "slurm:7_2", None),
    ],
)
def test_a_job_is_claimed_when_its_last_attempt_has_ended(silent_s, fields, owner, expected, tmp_path):
    folder = tmp_path / "job"
    attempt(folder, 1, silent_s=silent_s, **fields)
    found = claim(str(folder), ("train",), retry=True, owner=owner)
    assert (found and found.number) == expected
    assert attempts(folder) == (expected or 1)


def test_one_that_reads_late_does_not_take_over_what_was_taken_over(tmp_path, monkeypatch):
    folder = tmp_path / "job"
    attempt(folder, 1, silent_s=1000)
    # Between its look at the attempts and its own, another process makes the second.
    monkeypatch.setattr("roga_domainbed.launch.lease.shows_life", lambda *_, **__: attempt(folder, 2))
    assert claim(str(folder), ("train",), retry=True) is None
    assert read_job_file(folder).host == ELSEWHERE
    assert sorted(os.listdir(folder)) == ["job.2.json", "job.json"]


def test_without_hard_links_one_of_two_gets_it_too(tmp_path, monkeypatch):
    def no_links(*_):
        raise PermissionError

    monkeypatch.setattr(os, "link", no_links)
    folder = str(tmp_path / "job")
    assert claim(folder, ("train",), retry=False) == Lease(folder, 1)
    assert read_job_file(folder).pid == os.getpid()
    monkeypatch.setattr("roga_domainbed.launch.lease.newest_attempt", lambda _: (0, None))
    assert claim(folder, ("train",), retry=True) is None


def test_what_is_done_is_not_claimed(tmp_path):
    attempt(tmp_path / "job", 1, silent_s=1000)
    mark_done(tmp_path / "job")
    assert claim(str(tmp_path / "job"), ("train",), retry=True) is None


def test_the_tenth_attempt_is_after_the_ninth(tmp_path):
    for number in (1, 2, 9, 10):
        attempt(tmp_path / "job", number, exit_code=number)
    assert read_job_file(tmp_path / "job").exit_code == 10


def test_a_lease_is_lost_to_the_next_attempt_and_with_the_folder(tmp_path):
    lease = claim(str(tmp_path / "job"), ("train",), retry=False)
    assert not lease.is_lost()
    attempt(tmp_path / "job", 2)
    assert lease.is_lost()
    lease.note(replace(started_now(("late",), 1), exit_code=0))
    assert read_job_file(tmp_path / "job", 1).argv == ("train",)
    other = claim(str(tmp_path / "other"), ("train",), retry=False)
    os.rename(tmp_path / "other", tmp_path / "gone")
    assert other.is_lost()


def test_only_the_process_of_the_job_is_ended(tmp_path, monkeypatch):
    lease = claim(str(tmp_path / "job"), ("train",), retry=False)
    attempt(tmp_path / "job", 2)
    require(tmp_path / "job")  # no launcher started this process
    ((name, value),) = lease.environment().items()
    monkeypatch.setenv(name, value)
    assert held_in(tmp_path / "job") == Lease(os.path.abspath(lease.folder), 1)
    require(tmp_path / "another")
    code = f"from roga_domainbed.launch.lease import require; require({str(tmp_path / 'job')!r}); print('went on')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (TAKEN_OVER, "", "")


def test_a_job_that_is_deleted_is_gone_and_one_that_runs_stays(tmp_path):
    attempt(tmp_path / "job", 1)
    assert not delete_unfinished(str(tmp_path / "job"))
    attempt(tmp_path / "job", 1, silent_s=1000)
    assert delete_unfinished(str(tmp_path / "job"))
    assert os.listdir(tmp_path) == []


#: Appends to a file, and asks before each time whether it may.
WRITER = """
    import sys, time
    from roga_domainbed.launch.lease import require

    def main(argv):
        folder = argv[argv.index("--output_dir") + 1]
        while True:
            require(folder)
            with open(folder + "/out.txt", "a") as file:
                file.write(f"{sys.argv}")
            time.sleep(0.05)
"""


@pytest.fixture
def worker(importable, monkeypatch):
    """Start a worker with its own process group and give it a job that writes."""
    writer = importable("writer_entry", WRITER)
    monkeypatch.setenv("ROGA_DOMAINBED_LEASE_S", "3")
    started = []

    def start(folder, *words, entry=writer):
        command = [sys.executable, "-m", "roga_domainbed.launch.worker", "--entry", entry]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        started.append(process)
        request = {
            "argv": ["train", *words, "--output_dir", str(folder)],
            "output_dir": str(folder),
            "retry": True,
        }
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        return process

    yield start
    for process in started:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_an_orphan_writes_nothing_more(tmp_path, worker):
    folder, out = tmp_path / "sweep" / "job", tmp_path / "sweep" / "job" / "out.txt"
    first = worker(folder, "first")
    wait_for(lambda: out.exists() and "first" in out.read_text())
    os.killpg(first.pid, signal.SIGSTOP)  # as a machine that hangs
    wait_for(lambda: not is_running(folder))
    second = worker(folder, "second")
    wait_for(lambda: "second" in out.read_text())
    text, log = out.read_text(), (folder / "job.log").read_text()
    attempt_of_first = (folder / "job.json").read_text()
    os.killpg(first.pid, signal.SIGCONT)
    assert first.stdout.readline() == '{"ready": true}\n'
    assert json.loads(first.stdout.readline()) == {"skipped": True}
    time.sleep(0.5)
    assert "first" not in out.read_text().removeprefix(text)
    assert (folder / "job.log").read_text() == log
    assert (folder / "job.json").read_text() == attempt_of_first
    assert second.poll() is None
    assert attempts(folder) == 2
    assert is_running(folder)


def test_a_job_whose_worker_dies_stops(tmp_path, worker):
    process = worker(tmp_path / "sweep" / "job", "first")
    wait_for(lambda: (tmp_path / "sweep" / "job" / "out.txt").exists())
    os.kill(process.pid, signal.SIGKILL)
    wait_for(lambda: not is_running(tmp_path / "sweep" / "job"))


def test_a_job_that_is_cancelled_stops(tmp_path, worker):
    process = worker(tmp_path / "sweep" / "job", "first")
    wait_for(lambda: (tmp_path / "sweep" / "job" / "out.txt").exists())
    time.sleep(0.5)
    assert is_running(tmp_path / "sweep" / "job")
    cancellation.cancel(tmp_path / "sweep")
    process.stdout.readline()
    assert json.loads(process.stdout.readline()) == {"exit_code": -signal.SIGTERM}
    assert read_job_file(tmp_path / "sweep" / "job").exit_code == -signal.SIGTERM


TRAINING = (
    *(
        "--dataset",
        "Debug28",
        "--algorithm",
        "RoGA",
        "--test_envs",
        "0",
        "--steps",
        "200",
        "--checkpoint_freq",
        "10",
    ),
    *("--checkpoint_every", "5", "--hparams", '{"batch_size": 8}'),
)


@pytest.mark.slow
def test_a_training_whose_machine_hung_writes_nothing_more_and_the_next_ends_as_if_alone(tmp_path, worker):
    def start(name):
        return worker(tmp_path / "sweep" / name, *TRAINING, entry="roga_domainbed.cli:main")

    def answer_of(process):
        process.stdout.readline()  # ready
        return json.loads(process.stdout.readline())

    assert answer_of(start("alone")) == {"exit_code": 0}
    folder = tmp_path / "sweep" / "job"
    first = start("job")
    wait_for((folder / "checkpoint_10.pt").exists)
    os.killpg(first.pid, signal.SIGSTOP)
    assert not (folder / "done").exists(), "it was too fast to be stopped on its way"
    wait_for(lambda: not is_running(folder))
    second = start("job")
    wait_for(lambda: attempts(folder) == 2 and len(records(folder)) > 4)
    os.killpg(first.pid, signal.SIGCONT)  # while the other one trains
    assert answer_of(first) == {"skipped": True}
    assert answer_of(second) == {"exit_code": 0}
    assert records(folder) == records(tmp_path / "sweep" / "alone")
    assert (folder / "out.txt").read_text().count("Continued after") == 1
    assert read_job_file(folder, 1).exit_code is None
    assert read_job_file(folder, 2).exit_code == 0


def records(folder):
    """The records, without clocks and the folder's name."""
    found = []
    for line in (folder / "results.jsonl").read_text().splitlines():
        record = json.loads(line)
        record["args"].pop("output_dir")
        found.append(
            {name: value for name, value in record.items() if name not in ("step_time", "data_time")}
        )
    return found


@pytest.mark.parametrize(
    ("owner", "earlier", "expected"),
    [
        ("place#2", "place#1", True),
        ("place#10", "place#9", True),
        ("place#1", "place#2", False),
        ("place#2", "place#2", True),
        ("place#2", "another#1", False),
        ("place", "place", True),
        ("place#2", "place", False),
        ("", "", False),
    ],
)
def test_a_later_run_of_a_place_succeeds_an_earlier_one(owner, earlier, expected):
    assert succeeds(owner, earlier) is expected
