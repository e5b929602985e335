"""What a sweep will take, from two short runs of a job of each kind."""

import json
import os
import time

import pytest

from roga_domainbed.errors import RogaError
from roga_domainbed.launch import Outcome
from roga_domainbed.launch.job import State
from roga_domainbed.launch.jobfile import JobFile, write_job_file
from roga_domainbed.results.records import mark_done
from roga_domainbed.sweep.estimate import (
    APART,
    Cost,
    Estimate,
    Kind,
    ShortRun,
    cost_of,
    estimate,
    estimate_text,
    n_records,
    short_jobs,
)
from roga_domainbed.sweep.jobs import train_job

ARGS = {"dataset": "SynthFake", "algorithm": "ERM", "test_envs": [2], "hparams_seed": 0, "trial_seed": 0}


def test_a_step_is_told_from_an_evaluation():
    # 2 s a step, 5 s an evaluation, 7 s the last; 4 and 6 s to the first record, 1 and 3 s after the last
    far, near = 8 * 2 + 5, 2 + 5
    longer = ShortRun(100, [104, 104 + far, 104 + 2 * far, 104 + 2 * far + 8 * 2 + 7], [], 170, {})
    checkpoint = 50  # seconds between the first records of the shorter one, which are left out
    records = [6, 6 + checkpoint, 6 + checkpoint + near, 6 + checkpoint + near + 2 + 7]
    shorter = ShortRun(0, records, [10, 20, 30, 60], records[-1] + 3, {"results.jsonl": 400}, 11)
    longer = longer._replace(ended=longer.records[-1] + 1, kept={"results.jsonl": 800, "model.pkl": 9})
    shorter.kept["model.pkl"], shorter.kept["scores.parquet"] = 9, 60
    cost = cost_of(longer, shorter)
    assert APART == 8
    assert (cost.start, cost.step, cost.evaluation, cost.last, cost.end) == (5, 2, 5, 7, 2)
    # a record: (200 + 100) / 2 bytes of its own, 10 of scores; the last one's scores have 20 more
    assert (cost.record, cost.kept, cost.checkpoints) == (160, 9 + 20, 22)
    # 60 further steps, 3 records: 5 + 60·2 + 1·5 + 7 + 2
    assert cost.seconds(61, 3) == 139
    assert cost.seconds(1, 1) == 7, "a single record is the first"
    assert cost.bytes(3) == 3 * 160 + 29


def test_noise_gives_no_negative_seconds():
    run = ShortRun(0, [1, 2, 3, 4], [0, 0, 0, 0], 4, {})
    cost = cost_of(run, run._replace(records=[1, 3, 5, 7]))
    assert cost.step == 0
    assert cost.evaluation == 2


@pytest.mark.parametrize(
    ("steps", "every", "n"), [(401, 100, 5), (400, 100, 5), (1, 100, 1), (2, 100, 2), (5001, 300, 18)]
)
def test_records_are_counted_as_the_trainer_makes_them(steps, every, n):
    assert n_records(steps, every) == n
    assert n == sum(step % every == 0 or step + 1 == steps for step in range(steps))


def test_short_runs_keep_all_that_costs_time(tmp_path):
    args = {**ARGS, "steps": 5000, "checkpoint_freq": 300, "hparams": '{"warmup_steps": 500, "lr": 0.1}'}
    longer, shorter = short_jobs(args, str(tmp_path))
    assert (longer.train_args["steps"], longer.train_args["checkpoint_freq"]) == (25, 8)
    assert (shorter.train_args["steps"], shorter.train_args["checkpoint_freq"]) == (4, 1)
    assert json.loads(longer.train_args["hparams"]) == {"lr": 0.1}
    assert longer.output_dir != shorter.output_dir
    for job in (longer, shorter):
        steps, every = job.train_args["steps"], job.train_args["checkpoint_freq"]
        assert n_records(steps, every) == 4


def launch(jobs):
    """Runs of 20 ms a step or evaluation; those of RoGA fail."""
    for job in jobs:
        os.mkdir(job.output_dir)
        started = time.time()
        if job.train_args["algorithm"] == "RoGA":
            write_job_file(job.output_dir, JobFile((), 1, started, 0.1, "here", 1))
            with open(job.log_path, "w") as log:
                log.write("roga-domainbed train: error: no data\n")
            yield Outcome(job, 1)
            continue
        for step in range(job.train_args["steps"]):
            time.sleep(0.03)
            if step % job.train_args["checkpoint_freq"] == 0 or step + 1 == job.train_args["steps"]:
                time.sleep(0.09)
                with open(os.path.join(job.output_dir, "scores.parquet"), "a") as file:
                    file.write("x" * 500)
                with open(os.path.join(job.output_dir, "results.jsonl"), "a") as file:
                    line = {"args": job.train_args, "step": step, "provenance": {"device": "a machine"}}
                    file.write(json.dumps(line) + "\n")
        mark_done(job.output_dir)
        write_job_file(job.output_dir, JobFile((), 0, started, time.time() - started, "here", 1))
        yield Outcome(job, 0)


def test_jobs_of_a_kind_are_measured_once_and_those_done_are_not_left(tmp_path):
    jobs = [
        train_job({**ARGS, "hparams_seed": seed, "test_envs": envs}, str(tmp_path))
        for envs in ([2], [3], [0, 1])
        for seed in (0, 1)
    ]
    listed = [(job, State.DONE if place == 0 else State.NOT_LAUNCHED) for place, job in enumerate(jobs)]
    listed.append((train_job({**ARGS, "algorithm": "RoGA"}, str(tmp_path)), State.FAILED))
    alone, pairs, roga = estimate(listed, launch, lambda dataset: (401, 100))
    assert [one.kind for one in (alone, pairs)] == [Kind("SynthFake", "ERM", 1), Kind("SynthFake", "ERM", 2)]
    assert (alone.n_jobs, alone.n_left, alone.n_steps, alone.n_records) == (4, 3, 401, 5)
    assert alone.cost.step == pytest.approx(0.03, rel=0.5)
    assert alone.cost.evaluation == pytest.approx(0.09, rel=0.5)
    assert alone.cost.record > 500
    assert alone.cost.device == "a machine"
    assert (roga.cost, roga.failure) == (None, "no data")
    assert not list(tmp_path.iterdir()), "the sweep's folder stays as it is"


def test_jobs_that_only_their_files_tell_of_are_refused():
    args = {name: ARGS[name] for name in ARGS if name != "trial_seed"}
    with pytest.raises(RogaError, match="An estimate needs the sweep's plan"):
        estimate([(train_job(args, "x"), State.DONE)], launch, lambda dataset: (401, 100))


def test_the_table_and_its_totals():
    # 20 + 100·3 + 3·10 + 10 + 0 = 360 s and 3 MB a job
    cost = Cost(20, 3, 10, 10, 0, 0.5e6, 0.5e6, 40e6, "cpu")
    one = Estimate(Kind("SynthFake", "ERM", 1), 40, 10, 101, 5, cost)
    failed = Estimate(Kind("SynthFake", "RoGA", 2), 8, 8, 101, 5, None, "no data")
    lines = estimate_text([one, failed], 4).splitlines()
    assert lines[1].split("  ")[0] == "SynthFake"
    assert "ERM, 1 held out" in lines[1]
    assert "4 h 00 min  1 h 00 min  120 MB" in lines[1]
    assert lines[2].split()[-6:] == ["X"] * 6
    assert lines[3] == "SynthFake, RoGA, 2 held out: no data"
    assert lines[4] == (
        "In all without the rows that failed: 4.00 hours of cpu, 1.00 of them left. With --n_workers 4: about 15 min."
    )
    assert lines[5] == "Disk: 120 MB when all are done, and 160 MB of checkpoints until then."
    only = estimate_text([Estimate(one.kind, 40, 1, 101, 5, cost)], 4)
    assert "--n_workers 4: about 6 min 00 s." in only, "one job cannot be shared"
    assert ", 1 held out" not in only
