import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from roga_domainbed.launch.job import State, failure_line
from roga_domainbed.launch.jobfile import JobFile, started_now, write_job_file
from roga_domainbed.results.protocols import Planned
from roga_domainbed.results.records import mark_done
from roga_domainbed.sweep.folder import planned, store_plan
from roga_domainbed.sweep.jobs import train_job
from roga_domainbed.sweep.plan import Plan
from roga_domainbed.sweep.status import summary_line

ORACLE = json.loads((Path(__file__).parents[1] / "data" / "sweep" / "jobs.json").read_text())
ARGS: Mapping = {"dataset": "SynthFake", "algorithm": "RoGA", "test_envs": [2], "hparams_seed": 0}


@pytest.mark.parametrize("case", ORACLE)
def test_hash_folder_and_command_equal_upstreams(case):
    job = train_job(case["train_args"], case["sweep_output_dir"])
    assert job.id == case["md5"]
    assert job.output_dir == case["output_dir"]
    assert job.text == case["command_str"]
    if "dataset" in case["train_args"]:  # upstream cannot describe other dicts either
        assert job.describe(job.state) == case["str"]


def test_argv_needs_no_shell_and_flags_stand_alone():
    job = train_job({**ARGS, "hparams": '{"lr": 1}', "skip_model_save": True, "data_dir": None}, "a b")
    assert job.argv == (
        *(
            "train",
            "--algorithm",
            "RoGA",
            "--dataset",
            "SynthFake",
            "--hparams",
            '{"lr": 1}',
            "--hparams_seed",
            "0",
        ),
        *("--output_dir", job.output_dir, "--skip_model_save", "--test_envs", "2"),
    )


def test_state_follows_the_folder(tmp_path):
    job = train_job(ARGS, str(tmp_path))
    assert job.state is State.NOT_LAUNCHED
    os.mkdir(job.output_dir)
    assert job.state is State.INTERRUPTED
    running = started_now(("train",), os.getpid())
    write_job_file(job.output_dir, running)
    assert job.state is State.RUNNING
    write_job_file(job.output_dir, JobFile(("train",), 3, 0.0, 1.0, running.host, running.pid))
    assert job.state is State.FAILED
    write_job_file(job.output_dir, JobFile(("train",), 0, 0.0, 1.0, running.host, running.pid))
    assert job.state is State.INTERRUPTED, "it ended well but left no done marker"
    mark_done(job.output_dir)
    assert job.state is State.DONE


def test_failure_line_names_job_exit_and_log(tmp_path):
    job = train_job(ARGS, str(tmp_path))
    name = f"Job {job.id[:6]} (SynthFake, RoGA, test envs [2])"
    assert failure_line(job, 137) == f"{name} exited with 137"
    assert failure_line(job, None, "disk full") == f"{name} failed (disk full)"
    os.mkdir(job.output_dir)
    Path(job.log_path).touch()
    assert failure_line(job, -15) == f"{name} was killed by SIGTERM; log: {job.log_path}"


def test_summary_counts_as_upstream_does():
    assert summary_line([State.NOT_LAUNCHED] * 6) == "6 jobs: 0 done, 0 incomplete, 6 not launched."
    states = [State.DONE, State.RUNNING, State.FAILED, State.FAILED, State.INTERRUPTED]
    assert summary_line(states) == "5 jobs: 1 done, 4 incomplete (1 running, 2 failed), 0 not launched."


def test_the_plans_of_all_folders_tell_what_is_held_out_and_how(tmp_path):
    folders = [tmp_path / name for name in "abc"]
    shared = {"datasets": ["SynthFake"], "algorithms": ["ERM"]}
    store_plan(folders[0], Plan(**shared, test_envs=[2, 3], single_test_envs=True))
    store_plan(folders[1], Plan(**shared, test_envs=[0]))
    store_plan(folders[2], Plan(**shared, test_envs=[0, 1]))
    store_plan(folders[2], Plan(**shared, train_envs_of={"SynthFake": [0, 1, 2]}))
    found = planned(folders[:2])
    assert found == Planned({"SynthFake": {(2,), (3,), (0,)}}, {}, True)
    assert found.test_envs("SynthFake") == {0, 2, 3}
    found = planned(folders)
    assert found.by_training_set == {"SynthFake": {(0, 1), (3,)}}, "the last names what is trained on"
    assert found.test_envs("SynthFake") == {0, 2, 3}
    (tmp_path / "d").mkdir()  # of upstream's sweep, which stores no plan
    assert planned([*folders, tmp_path / "d"]).test_envs("SynthFake") is None
