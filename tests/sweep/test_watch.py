"""``sweep watch``: how fast a sweep goes, and the blocks that follow each other."""

import os
import re
import subprocess
import sys
import time

import pytest

from roga_domainbed.launch.job import State
from roga_domainbed.launch.jobfile import JobFile, started_now, write_job_file
from roga_domainbed.results.records import mark_done
from roga_domainbed.sweep.jobs import train_job
from roga_domainbed.sweep.status import job_states
from roga_domainbed.sweep.watch import Finished, Pace, spoken, throughput, time_left, watch

NOW = 1_000_000.0
ERM, ROGA = ("SynthFake", "ERM"), ("SynthFake", "RoGA")


def job(folder, algorithm="ERM", seed=0):
    args = {"dataset": "SynthFake", "algorithm": algorithm, "test_envs": [2], "hparams_seed": seed}
    return train_job(args, str(folder))


def test_throughput_is_of_the_last_hour():
    long_ago = [Finished(NOW - 4000, 100.0)] * 9
    hour = [Finished(NOW - 60 * i, 3600.0) for i in range(7)]
    assert throughput([*long_ago, *hour], NOW) == "7 jobs were done in the last hour."
    assert throughput(long_ago, NOW) == "No job was done in the last hour."


def test_throughput_of_a_young_sweep_is_scaled_to_an_hour():
    # the first began 300 + 600 s ago, so 3 jobs in 15 minutes, 12 an hour
    jobs = [Finished(NOW - 300, 600.0), Finished(NOW - 200, 100.0), Finished(NOW, 150.0)]
    assert throughput(jobs, NOW) == "3 jobs were done in the last 15 min: 12.0 an hour."
    assert throughput([*jobs, Finished(NOW, None)], NOW) == "4 jobs were done in the last hour."


def test_time_left_is_by_row_and_shared_by_the_jobs_that_run():
    # 2 × 600 − 100 of ERM, 3 × 1800 of RoGA: 6500 s with 2 at a time
    left = [(ERM, 100.0), (ERM, 0.0), (ROGA, 0.0), (ROGA, 0.0), (ROGA, 0.0)]
    assert time_left(left, {ERM: 600.0, ROGA: 1800.0}, 2) == (
        "5 jobs are left: about 54 min with 2 at a time."
    )
    assert time_left([(ERM, 900.0)], {ERM: 600.0}, 1) == "1 jobs are left: about 0 s with 1 at a time."
    assert time_left([(ROGA, 0.0)], {ERM: 600.0}, 1) == (
        "1 jobs are left: about 10 min with 1 at a time; SynthFake, RoGA: taken for the mean of the others."
    )
    assert time_left(left, {}, 2).startswith("5 jobs are left; how long")
    assert time_left(left, {ERM: 600.0}, 0) == "5 jobs are left, and none is running."
    assert time_left([], {}, 0) == "Nothing is left to run."


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (45, "45 s"),
        (59.7, "1 min 00 s"),
        (90, "1 min 30 s"),
        (630, "10 min"),
        (3599, "1 h 00 min"),
        (3900, "1 h 05 min"),
        (183600, "2 d 03 h"),
    ],
)
def test_durations_are_spoken(seconds, text):
    assert spoken(seconds) == text


def test_pace_reads_the_folders(tmp_path):
    jobs = [job(tmp_path, seed=seed) for seed in range(5)]
    for place, made in enumerate(jobs[:2]):
        os.mkdir(made.output_dir)
        write_job_file(made.output_dir, JobFile((), 0, NOW, 100.0 + 100 * place, "here", 1))
        mark_done(made.output_dir)
        os.utime(os.path.join(made.output_dir, "done"), (NOW - 200, NOW - 200))
    os.mkdir(jobs[2].output_dir)
    running = started_now((), os.getpid())
    write_job_file(jobs[2].output_dir, JobFile(**{**vars(running), "started": NOW - 30}))
    pace = Pace()
    # 3 left of 150 s each, 30 of them gone: 420 s
    expected = [
        "2 jobs were done in the last 6 min 40 s: 18.0 an hour.",
        "3 jobs are left: about 7 min 00 s with 1 at a time.",
    ]
    assert pace.lines(job_states(jobs, tmp_path), NOW) == expected
    for made in jobs[:2]:
        os.unlink(os.path.join(made.output_dir, "job.json"))
    assert pace.lines(job_states(jobs, tmp_path), NOW) == expected, "what was read once is remembered"


def test_blocks_follow_each_other_until_nothing_is_left(capsys):
    looks = iter([[(job("x"), State.NOT_LAUNCHED)], [(job("x"), State.RUNNING)], [(job("x"), State.DONE)]])
    watch(lambda: next(looks), 0.0)
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert len(re.findall(r"(?m)^\d{4}-\d\d-\d\d ", out)) == 3
    assert out.endswith("Nothing is left to run.\n")


def test_a_failed_job_is_not_waited_for_and_ctrl_c_is_silent(capsys):
    watch(lambda: [(job("x"), State.FAILED)], 0.0)

    def interrupted():
        raise KeyboardInterrupt

    watch(interrupted, 0.0)
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a pseudo terminal")
def test_on_a_terminal_a_block_takes_the_place_of_the_one_before():
    code = (
        "from roga_domainbed.cli.streams import shown_safely; from roga_domainbed.launch.job import State\n"
        "from roga_domainbed.sweep.jobs import train_job; from roga_domainbed.sweep.watch import watch\n"
        "args = {'dataset': 'D', 'algorithm': 'ERM', 'test_envs': [0], 'hparams_seed': 0}\n"
        "job = train_job(args, 'x'); looks = iter([[(job, State.RUNNING)], [(job, State.DONE)]])\n"
        "with shown_safely(): watch(lambda: next(looks), 0.0)\n"
    )
    leader, follower = os.openpty()
    environment = {**os.environ, "COLUMNS": "80", "LINES": "50"}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=follower, env=environment)
    os.close(follower)
    out = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            out += os.read(leader, 4096)
        except OSError:  # the process has ended
            break
    os.close(leader)
    assert process.wait(timeout=60) == 0
    first, _, second = out.decode().replace("\r\n", "\n").partition("\x1b[")
    code, _, second = second.partition("\x1b[J")
    assert code == f"{first.count(chr(10))}F", "up by as many lines as were written"
    assert "> running" in first
    assert second.endswith("Nothing is left to run.\n")
