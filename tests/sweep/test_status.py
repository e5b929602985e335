"""The status of a sweep: its table, its totals, and the lines about what went wrong."""

import os
from collections.abc import Mapping
from pathlib import Path

from roga_domainbed.launch.job import State
from roga_domainbed.launch.jobfile import JobFile, started_now, write_job_file
from roga_domainbed.results.records import mark_done
from roga_domainbed.sweep.jobs import train_job
from roga_domainbed.sweep.plan import Plan
from roga_domainbed.sweep.status import MOST_LINES, job_states, status_table, trouble_lines

ARGS: Mapping = {"dataset": "SynthFake", "algorithm": "RoGA", "test_envs": [2], "hparams_seed": 0}
INTERRUPTED = State.INTERRUPTED


def job(folder="x", **changed):
    return train_job({**ARGS, **changed}, str(folder))


def failed(folder, name, code=1, said=""):
    """A job that ended with ``code``; its log, if it said anything, ends with an error."""
    made = job(folder, algorithm=name)
    os.mkdir(made.output_dir)
    write_job_file(made.output_dir, JobFile((), code, 0.0, 1.0, "here", 1))
    if said:
        Path(made.log_path).write_text(f"roga-domainbed train: error: {said}\n")
    return made


def test_rows_by_test_environments_with_pairs_in_one_column():
    listed = [
        (job(), State.DONE),
        (job(hparams_seed=1), State.FAILED),
        (job(hparams_seed=2), State.RUNNING),
        (job(test_envs=[0]), State.DONE),
        (job(test_envs=[0, 2]), State.DONE),
        (job(test_envs=[0, 1]), State.NOT_LAUNCHED),
        (job(algorithm="ERM"), INTERRUPTED),
    ]
    name = INTERRUPTED.value.lower()
    assert status_table(listed).splitlines() == [
        "SynthFake",
        "Algorithm   DF   FS    pairs",
        "RoGA       1/1  1/3>!    1/2",
        "ERM             0/1~",
        "",
        f"done/all jobs; some are: > running, ! failed, ~ {name}",
        "",
        f"           done  running  failed  {name}  not launched  jobs",
        f"SynthFake     3        1       1{1:>{len(name) + 2}}             1     7",
    ]


def test_jobs_of_a_training_set_stand_below_its_name():
    plan = Plan(datasets=["SynthFake"], algorithms=["ERM"], single_train_envs=True, n_trials=2, n_hparams=1)
    listed = [(train_job(args, "x"), State.NOT_LAUNCHED) for args in plan.train_args()]
    lines = status_table(listed).splitlines()
    assert lines[1].split() == ["Algorithm", "on", "DF", "on", "F2F", "on", "FS", "on", "NT"]
    assert lines[2].split() == ["ERM", *["0/2"] * 4]


def test_pairs_that_are_all_a_sweep_has_are_training_sets():
    listed = [(job(test_envs=[2, 3]), State.DONE), (job(test_envs=[0, 1]), State.DONE)]
    assert status_table(listed).splitlines()[1].split() == ["Algorithm", "on", "DF+F2F", "on", "FS+NT"]


def test_totals_of_several_datasets_are_added_up():
    listed = [
        (job(), State.DONE),
        (job(dataset="Debug28"), State.DONE),
        (job(dataset="Debug28"), State.FAILED),
    ]
    lines = status_table(listed).splitlines()
    assert [line.split()[0] for line in lines[-3:]] == ["SynthFake", "Debug28", "total"]
    assert [line.split()[1] for line in lines[-3:]] == ["1", "1", "2"]
    assert [line.split()[-1] for line in lines[-3:]] == ["1", "2", "3"]


def test_a_full_sweep_of_six_environments_fits_eighty_columns():
    states = [State.DONE, State.RUNNING, State.FAILED]
    listed = []
    for name in ("RoGA", "ForensicTransfer"):
        for envs in [[env] for env in range(6)] + [[0, 1]]:
            for seed in range(60):
                args = {"dataset": "DomainNet", "algorithm": name, "test_envs": envs, "hparams_seed": seed}
                listed.append((job(**args), states[seed % 3]))
    table = status_table(listed)
    assert "20/60>!" in table
    assert max(map(len, table.splitlines())) <= 80


def test_only_what_has_a_folder_is_looked_at(tmp_path, monkeypatch):
    jobs = [job(tmp_path, hparams_seed=seed) for seed in range(3)]
    os.mkdir(jobs[1].output_dir)
    mark_done(jobs[1].output_dir)
    looked = []
    monkeypatch.setattr(type(jobs[0]), "state", property(lambda self: looked.append(self.id) or State.DONE))
    found = job_states([*jobs, jobs[0]], tmp_path)
    assert found == [(jobs[0], State.NOT_LAUNCHED), (jobs[1], State.DONE), (jobs[2], State.NOT_LAUNCHED)]
    assert looked == [jobs[1].id]
    assert {state for _, state in job_states(jobs, tmp_path / "none")} == {State.NOT_LAUNCHED}


def test_jobs_that_failed_alike_are_one_line_with_the_log_of_the_first(tmp_path):
    alike = [failed(tmp_path, name, said=f"step {step}: loss is nan") for step, name in enumerate("abc")]
    other = failed(tmp_path, "d", code=137)
    listed = [(found, found.state) for found in [*alike, other]]
    assert trouble_lines(listed) == [
        f"3 jobs exited with 1 (step 0: loss is nan); first: {alike[0].label}; log: {alike[0].log_path}",
        f"Job {other.label} exited with 137",
    ]
    lines = trouble_lines(listed, every=True)
    assert len(lines) == 4
    assert lines[2] == f"Job {alike[2].label} exited with 1 (step 2: loss is nan); log: {alike[2].log_path}"


def test_interrupted_jobs_come_after_those_that_failed_and_say_how_they_ended(tmp_path):
    jobs = [
        failed(tmp_path, name, code, "not said, as it did not fail")
        for name, code in [("told", 75), ("ctrl", 130), ("killed", -9)]
    ]
    jobs.append(failed(tmp_path, "wrong", 2, "no such file"))
    silent = job(tmp_path, algorithm="silent")
    os.mkdir(silent.output_dir)
    running = job(tmp_path, algorithm="running")
    os.mkdir(running.output_dir)
    write_job_file(running.output_dir, started_now((), os.getpid()))
    lines = trouble_lines(job_states([*jobs, silent, running], tmp_path))
    ends = [line.split(")", 1)[1].split("; log")[0].strip() for line in lines]
    assert ends == [
        "exited with 2 (no such file)",
        "told to stop",
        "stopped by Ctrl-C",
        "was killed by SIGKILL, as when memory runs out",
        "ended without an exit status",
    ]


def test_no_more_than_ten_lines_unless_every_one_is_asked_for(tmp_path):
    jobs = [failed(tmp_path, name, said=f"no file {name * 3}") for name in "abcdefghijklm"]
    jobs.append(failed(tmp_path, "n", said="no file mmm"))
    listed = job_states(jobs, tmp_path)
    lines = trouble_lines(listed)
    assert len(lines) == MOST_LINES + 1 == 11
    assert lines[-1] == "… and 4 more; --all shows them"
    assert len(trouble_lines(listed, every=True)) == 14
