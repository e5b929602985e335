import os
import time

import pytest

from roga_domainbed.launch.jobfile import (
    JOB_FILE,
    STALE_AFTER_S,
    JobFile,
    describe_exit,
    is_running,
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
    long_ago = time.time() - STALE_AFTER_S - 1
    os.utime(tmp_path / JOB_FILE, (long_ago, long_ago))
    assert not is_running(tmp_path)


def test_exits_are_described():
    assert describe_exit(None) == "failed"
    assert describe_exit(137) == "exited with 137"
    assert describe_exit(-9) == "was killed by SIGKILL, as when memory runs out"
    assert describe_exit(-200) == "was killed by signal 200"
