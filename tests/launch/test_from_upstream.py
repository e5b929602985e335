"""The jobs of upstream's sweep: what their commands become, and our launchers behind upstream's interface."""

import os
import shlex
import sys

import pytest

from roga_domainbed.errors import Failed, RogaError
from roga_domainbed.launch import LAUNCHERS, LauncherInfo, Outcome
from roga_domainbed.results.records import mark_done
from roga_domainbed.upstream.launchers import reenter, upstream_launchers

JOB = "python -m domainbed.scripts.train --algorithm ERM --hparams '{\"lr\": 0.1}' --output_dir 'a b/c1'"
seen = []


def fake_launcher(jobs, options):
    seen.extend(jobs)
    for job in jobs:
        good = "good" in job.output_dir
        if good:
            os.makedirs(job.output_dir)
            mark_done(job.output_dir)
        yield Outcome(job, 0 if good else 3, skipped="elsewhere" in job.output_dir)


@pytest.fixture
def launchers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seen.clear()
    with LAUNCHERS.temporarily(LauncherInfo("queue", f"{__name__}:fake_launcher", "for tests")):
        yield upstream_launchers({"local": seen.extend})


def test_a_job_re_enters_with_this_interpreter_and_the_plugin():
    words = shlex.split(reenter(JOB))
    assert words[:5] == [sys.executable, "-m", "roga_domainbed", "upstream", "train"]
    assert words[5:] == shlex.split(JOB)[3:]


def test_upstreams_launchers_get_the_rewritten_commands_and_keep_their_own_list(launchers):
    commands = [JOB, "echo domainbed.scripts.train"]
    launchers["local"](commands)
    assert seen == [reenter(JOB), "echo domainbed.scripts.train"]
    assert commands == [JOB, "echo domainbed.scripts.train"]


def test_ours_are_there_under_a_name_that_is_free_and_get_argv_and_folder(launchers):
    # Those of clusters need options that DomainBed's sweep does not have.
    assert set(launchers) == {"local", "roga_local", "multi_gpu", "dummy", "queue"}
    launchers["queue"]([JOB.replace("c1", "good")])
    (job,) = seen
    assert job.argv[:4] == ("upstream", "train", "--algorithm", "ERM")
    assert job.output_dir == "a b/good"
    assert job.retry  # the folder is there already: upstream's sweep has made it


def test_failed_jobs_are_named_and_counted(launchers, capsys):
    with pytest.raises(Failed, match="2 of 3 jobs are not done; 1 failed"):
        launchers["queue"]([JOB, JOB.replace("c1", "good"), JOB.replace("c1", "elsewhere")])
    assert "Job a b/c1 exited with 3" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["echo 1", "python -m domainbed.scripts.train --steps 1"])
def test_what_is_no_job_of_a_sweep_is_refused_before_anything_starts(command, launchers):
    with pytest.raises(RogaError):
        launchers["queue"]([JOB, command])
    assert seen == []
