"""Successive halving: who goes on, and what is left in the folders of those who do not."""

import dataclasses
import json
import math
import os
import re
from pathlib import Path

import pytest

from roga_domainbed.cli import main
from roga_domainbed.errors import Problems, RogaError
from roga_domainbed.launch import Outcome
from roga_domainbed.launch.jobfile import STOPPED, JobFile, started_now, write_job_file
from roga_domainbed.results.records import is_done, is_dropped, mark_done
from roga_domainbed.results.runs import load_runs
from roga_domainbed.sweep.halving import Halving, judge, launch_with_halving, validation_at
from roga_domainbed.sweep.jobs import train_job

STEPS, EVERY = 91, 10
NAN = math.nan


@pytest.mark.parametrize(
    ("arguments", "rungs"),
    [
        # 91 / 9 = 10.1 and 91 / 3 = 30.3, at multiples of 10
        ((91, 10, 9), [10, 30]),
        ((91, 10, 8), [30]),  # one more rung would leave none of eight
        ((401, 100, 20), [100]),  # 401 / 9 = 44 is before the first record after step 0
        ((5001, 300, 20), [300, 1500]),  # 555 and 1667
        ((91, 10, 2), []),
        ((3, 1, 3), [1]),
        ((91, 90, 3), []),
    ],
)
def test_rungs_are_records_at_steps_over_powers_of_eta(arguments, rungs):
    assert Halving(3).rungs(*arguments) == rungs


def test_of_twenty_jobs_six_go_on_and_then_two():
    assert [Halving(3).n_kept(20, rung) for rung in range(3)] == [6, 2, 1]
    assert [Halving(2).n_kept(5, rung) for rung in range(3)] == [2, 1, 1]


@pytest.mark.parametrize(
    ("ranks", "n_kept", "beyond", "ranking", "dropped"),
    [
        ({0: 0.1, 1: 0.5, 2: 0.9, 3: 0.7}, 1, (), [2, 3, 1, 0], [3, 1]),  # the defaults stay
        ({0: 0.8, 1: 0.5, 2: 0.9, 3: 0.7}, 2, (), [2, 0, 3, 1], [3, 1]),  # … and take no second place
        ({1: 0.5, 2: 0.5, 3: 0.4}, 1, (), [2, 1, 3], [1, 3]),  # equal: the largest seed
        ({1: NAN, 2: 0.0, 3: -1.0}, 2, (), [2, 3, 1], [1]),  # no number is worse than any
        ({1: NAN, 2: NAN}, 1, (), [2, 1], [1]),
        ({1: 0.9, 2: 0.1, 3: 0.2}, 1, (2,), [1, 3, 2], [3]),  # who went on before stays
        ({4: 0.1}, 1, (), [4], []),
    ],
)
def test_the_best_go_on(ranks, n_kept, beyond, ranking, dropped):
    assert judge(ranks, n_kept, beyond) == (ranking, dropped)


def test_what_is_not_allowed_is_said():
    problems = Problems()
    Halving(1, "eer").check(problems)
    assert problems.messages == [
        "--halving must be at least 2 and at most 100; got 1",
        "--halving_metric must be one of acc, auc; got 'eer'",
    ]


# --- the driver, with trainings that write records at once ------------------------------------------------


def jobs_of(folder, seeds=range(9), **changed):
    args = {"dataset": "SynthFake", "algorithm": "ERM", "test_envs": [3], "trial_seed": 0, **changed}
    args |= {"steps": STEPS, "checkpoint_freq": EVERY}
    return [train_job({**args, "hparams_seed": seed}, str(folder)) for seed in seeds]


def validation(seed, step):
    """Up to step 10 a larger seed is better; seed 6 is the best from step 20 on."""
    return 0.99 if seed == 6 and step >= 20 else 0.5 + seed / 20


class Trainings:
    """Launches; ``broken`` fail at once, ``stopped`` are stopped before their first record."""

    def __init__(self, broken=(), stopped=()):
        self.broken, self.stopped = set(broken), set(stopped)
        self.batches = []

    def __call__(self, jobs):
        self.batches.append([job.train_args["hparams_seed"] for job in jobs])
        for job in jobs:
            yield Outcome(job, self.train(job))

    def train(self, job):
        folder, seed = Path(job.output_dir), job.train_args["hparams_seed"]
        assert folder.is_dir() == job.retry, "a folder that is there is left alone unless it is a new start"
        folder.mkdir(exist_ok=True, parents=True)
        code = 1 if seed in self.broken else STOPPED if seed in self.stopped else None
        until = int(job.argv[-1]) if "--until" in job.argv else STEPS - 1
        path = folder / "results.jsonl"
        done = len(path.read_text().splitlines()) if path.exists() else 0
        for step in range(EVERY * done, until + 1 if code is None else 0, EVERY):
            accuracy = {
                f"env{env}_{part}_acc": validation(seed, step) for env in range(3) for part in ("in", "out")
            }
            # of what is dropped the test environment would be perfect
            accuracy |= {f"env3_{part}_acc": 1.0 if seed in (1, 2, 7) else 0.25 for part in ("in", "out")}
            args = {**job.train_args, "output_dir": job.output_dir}
            with open(path, "a") as file:
                file.write(
                    json.dumps({"step": step, "args": args, "hparams": {"lr": seed}, **accuracy}) + "\n"
                )
        if code is None:
            code = STOPPED if until < STEPS - 1 else 0
        write_job_file(folder, JobFile(job.argv, code, 0.0, 1.0, "here", 1))
        if code == 0:
            mark_done(folder)
        return code


def launched(jobs, trainings, every=None):
    outcomes = launch_with_halving(jobs, every or jobs, trainings, Halving(3), lambda dataset: (5001, 300))
    return {outcome.job.train_args["hparams_seed"]: outcome for outcome in outcomes}


def records(job):
    lines = Path(job.output_dir, "results.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def dropped(job):
    return json.loads(Path(job.output_dir, "dropped.json").read_text())


def test_a_group_is_halved_at_each_rung(tmp_path):
    jobs, trainings = jobs_of(tmp_path), Trainings()
    outcomes = launched(jobs, trainings)
    # of nine jobs three go on after step 10, one after step 30, and the defaults each time
    assert trainings.batches == [[*range(9)], [0, 6, 7, 8], [0, 6]]
    assert {seed for seed in range(9) if is_done(jobs[seed].output_dir)} == {0, 6}
    assert {seed for seed in range(9) if is_dropped(jobs[seed].output_dir)} == {1, 2, 3, 4, 5, 7, 8}
    assert dropped(jobs[5]) == {"eta": 3, "rung": 10, "metric": "acc", "value": 0.75, "rank": 4, "of": 9}
    marker = {"eta": 3, "rung": 30, "metric": "acc", "value": pytest.approx(0.85), "rank": 3, "of": 4}
    assert dropped(jobs[7]) == marker
    assert sorted(outcomes) == [*range(9)], "an outcome for each"
    assert {outcome.exit_code for outcome in outcomes.values()} == {0}
    assert outcomes[5].note == "dropped after step 10, as number 4 of 9"
    assert outcomes[6].note == ""
    assert outcomes[6].job == dataclasses.replace(jobs[6], retry=True), "without --until"
    assert [record["step"] for record in records(jobs[6])] == [*range(0, STEPS, EVERY)], "each record once"


def test_groups_are_apart(tmp_path):
    one, other = jobs_of(tmp_path), jobs_of(tmp_path, range(3), hparams='{"rho": 1}')
    trainings = Trainings()
    both = [*one, *other]
    assert (
        len(list(launch_with_halving(both, both, trainings, Halving(3), lambda dataset: (5001, 300)))) == 12
    )
    assert [job.train_args["hparams_seed"] for job in other if is_done(job.output_dir)] == [0, 2]
    assert [job.train_args["hparams_seed"] for job in one if is_done(job.output_dir)] == [0, 6]


def test_jobs_whose_trial_is_not_known_have_no_group(tmp_path):
    job = train_job({"dataset": "SynthFake", "algorithm": "ERM", "test_envs": [3], "hparams_seed": 0}, "x")
    with pytest.raises(RogaError, match="--halving needs the sweep's plan"):
        launched([job], Trainings())


def test_a_job_that_another_launch_runs_is_not_dropped(tmp_path):
    jobs, trainings = jobs_of(tmp_path), Trainings()
    for job in jobs:
        trainings.train(dataclasses.replace(job, argv=(*job.argv, "--until", "10")))
    write_job_file(jobs[1].output_dir, started_now((), os.getpid()))
    outcomes = launched([dataclasses.replace(jobs[2], retry=True)], trainings, every=jobs)
    assert outcomes[2].note == "dropped after step 10, as number 7 of 9"
    assert not is_dropped(jobs[1].output_dir)


def test_jobs_that_failed_are_judged_by_nobody(tmp_path):
    jobs, trainings = jobs_of(tmp_path), Trainings(broken=[8])
    outcomes = launched(jobs, trainings)
    assert outcomes[8].failed
    assert trainings.batches == [[*range(9)], [0, 5, 6, 7], [0, 6]]
    assert not is_dropped(jobs[8].output_dir)


def test_a_group_that_is_not_complete_waits_for_the_next_launch(tmp_path):
    jobs, trainings = jobs_of(tmp_path), Trainings(stopped=[4])
    outcomes = launched(jobs, trainings)
    assert trainings.batches == [[*range(9)]]
    assert {outcome.exit_code for outcome in outcomes.values()} == {STOPPED}
    assert outcomes[5].note == "waits for 1 others of its group, which are not at step 10 yet"
    assert not any(is_dropped(job.output_dir) for job in jobs)
    trainings.stopped.clear()
    again = [dataclasses.replace(job, retry=True) for job in jobs]
    launched(again, trainings)
    assert trainings.batches[1:] == [[4], [0, 6, 7, 8], [0, 6]], "those that paused stay where they are"


def test_a_second_launch_drops_nobody_else(tmp_path):
    jobs, trainings = jobs_of(tmp_path), Trainings()
    launched(jobs, trainings)
    Path(jobs[6].output_dir, "done").unlink()  # as if it had been killed just before
    again = [dataclasses.replace(job, retry=True) for job in jobs if job.train_args["hparams_seed"] == 6]
    launched(again, trainings, every=jobs)
    assert trainings.batches[3:] == [[6]]
    assert is_done(jobs[6].output_dir)


def test_a_marker_that_is_removed_revives_a_job(tmp_path):
    jobs, trainings = jobs_of(tmp_path), Trainings()
    launched(jobs, trainings)
    os.unlink(Path(jobs[8].output_dir, "dropped.json"))
    again = [dataclasses.replace(jobs[8], retry=True) for job in jobs[8:]]
    list(trainings(again))  # a launch without halving
    assert is_done(jobs[8].output_dir)


def test_validation_is_what_selection_would_choose_by_and_never_test_data(tmp_path):
    jobs, trainings = jobs_of(tmp_path), Trainings()
    list(trainings(jobs[6:8]))
    assert validation_at(jobs[6], 10, "acc") == pytest.approx(0.8)
    assert validation_at(jobs[6], 30, "acc") == pytest.approx(0.99)
    assert validation_at(jobs[7], 90, "acc") == pytest.approx(0.85), "its test environment has 1.0"
    assert math.isnan(validation_at(jobs[7], 90, "auc")), "of which there is no record"
    assert math.isnan(validation_at(jobs[0], 90, "acc"))


# --- tables -----------------------------------------------------------------------------------------------


def test_tables_are_without_what_was_dropped_and_say_so(tmp_path, capsys):
    jobs = jobs_of(tmp_path / "out")
    launched(jobs, Trainings())
    loaded = load_runs(tmp_path / "out", "acc")
    without = {run.args["hparams_seed"] for run in loaded.runs if run.dropped is not None}
    assert without == {1, 2, 3, 4, 5, 7, 8}
    assert not loaded.unfinished
    options = ["--input_dir", str(tmp_path / "out"), "--select", "iid", "last", "oracle"]
    assert main(["collect-results", *options]) == 0
    printed = capsys.readouterr()
    assert "9 runs found: 2 finished, 0 unfinished, 7 dropped by halving" in printed.err
    out = re.sub(r"\s+", " ", printed.out)
    sentence = (
        "Hyper-parameters searched by successive halving (η = 3): 7 of 9 runs a group were stopped early, by "
        "validation"
    )
    assert out.count(sentence) == 3
    assert "100.0" not in out, "the test metric of a run that was dropped"
    assert out.count("25.0") >= 3
    assert "Missing runs in 1 cell" not in out
    assert "not finished" not in out


@pytest.mark.slow
def test_what_goes_on_has_the_records_of_a_run_without_halving(tmp_path, monkeypatch):
    from roga_domainbed.engine.datasets import Debug28

    monkeypatch.setattr(Debug28, "INPUT_SHAPE", (3, 32, 32))
    args = {"dataset": "Debug28", "algorithm": "ERM", "test_envs": [0], "trial_seed": 0, "steps": 10}
    args |= {"checkpoint_freq": 3, "hparams": '{"batch_size": 4, "backbone": "meso4"}'}
    plain, halved = (
        [train_job({**args, "hparams_seed": seed}, str(tmp_path / name)) for seed in range(3)]
        for name in ("plain", "halved")
    )

    def launch(jobs):
        for job in jobs:
            yield Outcome(job, main(list(job.argv)))

    list(launch(plain))
    outcomes = list(launch_with_halving(halved, halved, launch, Halving(3), lambda dataset: (5001, 300)))
    ended = [outcome.note for outcome in outcomes]
    assert sum(note.startswith("dropped after step 3") for note in ended) in (1, 2)
    for one, other in zip(plain, halved, strict=True):
        whole, own = (
            [{key: value for key, value in record.items() if "_time" not in key} for record in records(job)]
            for job in (one, other)
        )
        for record in [*whole, *own]:
            del record["args"]["output_dir"]
        assert own == whole[: len(own)]
        assert len(own) == (2 if is_dropped(other.output_dir) else 4), "steps 0, 3, 6 and 9"
