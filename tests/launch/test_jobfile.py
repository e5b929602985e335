import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace

import pytest

from roga_domainbed.launch.jobfile import (
    JOB_FILE,
    LOCK_FILE,
    JobFile,
    describe_exit,
    is_running,
    lease_seconds,
    read_job_file,
    started_now,
    write_job_file,
)


def test_a_job_file_round_trips(tmp_path):
    job = started_now(("train", "--x"), os.getpid())
    write_job_file(tmp_path, job)
    assert read_job_file(tmp_path) == job
    assert os.listdir(tmp_path) == [JOB_FILE]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"argv": [], "colour": 1}'])
def test_a_foreign_job_file_is_none(tmp_path, text):
    (tmp_path / JOB_FILE).write_text(text)
    assert read_job_file(tmp_path) is None
    assert not is_running(tmp_path)


def test_our_own_process_runs_and_one_that_reuses_its_pid_is_another(tmp_path):
    here = started_now((), os.getpid())
    write_job_file(tmp_path, here)
    assert is_running(tmp_path)
    if here.process_started is None:
        pytest.skip("no /proc")
    reused = JobFile((), None, here.started, None, here.host, here.pid, here.process_started - 1)
    write_job_file(tmp_path, reused)
    assert not is_running(tmp_path)


def test_a_job_of_another_machine_runs_while_its_file_is_touched(tmp_path):
    write_job_file(tmp_path, JobFile((), None, 0.0, None, "another-machine.invalid", 1))
    assert is_running(tmp_path)
    long_ago = time.time() - lease_seconds() - 1
    os.utime(tmp_path / JOB_FILE, (long_ago, long_ago))
    assert not is_running(tmp_path)
    to_come = time.time() + 10 * lease_seconds()
    os.utime(tmp_path / JOB_FILE, (to_come, to_come))
    assert not is_running(tmp_path), "a clock was wrong, or the file was copied: no sign of life"


def test_of_another_machine_of_the_same_name_the_signs_of_life_count(tmp_path):
    here = started_now((), os.getpid())
    if not here.boot:
        pytest.skip("no /proc")
    write_job_file(tmp_path, replace(here, boot="another", process_started=1))
    assert is_running(tmp_path)
    long_ago = time.time() - lease_seconds() - 1
    os.utime(tmp_path / JOB_FILE, (long_ago, long_ago))
    assert not is_running(tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [{"argv": [1]}, {"exit_code": "1"}, {"exit_code": True}, {"started": None}, {"seconds": []}]
    + [{"host": 3}, {"pid": -1}, {"pid": 0}, {"pid": 2**40}, {"pid": 1.5}, {"process_started": "x"}]
    + [{"exit_code": 10**400}, {"pid": 10**18}],
)  # fmt: skip
def test_a_job_file_of_wrong_types_is_none(wrong, tmp_path):
    sound = asdict(started_now((), os.getpid()))
    (tmp_path / JOB_FILE).write_text(json.dumps({**sound, **wrong}))
    assert read_job_file(tmp_path) is None
    assert not is_running(tmp_path)
    (tmp_path / JOB_FILE).unlink()
    os.mkfifo(tmp_path / JOB_FILE)
    assert read_job_file(tmp_path) is None


def test_a_training_that_somebody_starts_in_the_folder_of_a_dead_job_runs(tmp_path):
    write_job_file(tmp_path, JobFile((), None, 0.0, None, started_now((), 1).host, 2**22 + 1))
    assert not is_running(tmp_path)
    code = "import sys\nfrom roga_domainbed.files import locked\nwith locked(sys.argv[1]):\n print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / LOCK_FILE)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        other.stdout.readline()
        assert is_running(tmp_path)
        other.stdin.write(b"\n")


def test_exits_are_described():
    assert describe_exit(None) == "failed"
    assert describe_exit(137) == "exited with 137"
    assert describe_exit(-9) == "was killed by SIGKILL, as when memory runs out"
    assert describe_exit(-200) == "was killed by signal 200"
