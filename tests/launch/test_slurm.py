"""What is told to Slurm and what is made of its answers, with pretended commands; test_cluster.py has real ones."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from roga_domainbed.errors import Failed, MissingExtra, Problems, RogaError
from roga_domainbed.launch import Job, Options, slurm_commands
from roga_domainbed.launch.job import State
from roga_domainbed.launch.slurm import launch_slurm, sbatch_script, slurm_options
from roga_domainbed.launch.submissions import cancel, submissions, waiting
from roga_domainbed.launch.task import run_task

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Slurm is not for Windows")

#: Each notes its arguments, and answers with the file of its name in the folder "answers", if there is one.
COMMAND = """#!/bin/sh
echo "$(basename "$0") $*" >> "$FAKE_SLURM/calls"
[ -e "$FAKE_SLURM/$(basename "$0").err" ] && { cat "$FAKE_SLURM/$(basename "$0").err" >&2; exit 1; }
[ -e "$FAKE_SLURM/$(basename "$0")" ] && cat "$FAKE_SLURM/$(basename "$0")"
exit 0
"""
#: As sbatch, it numbers the jobs.
SBATCH = COMMAND.replace(
    "exit 0",
    'cp "$1" "$FAKE_SLURM/script"; n=$(grep -c ^sbatch "$FAKE_SLURM/calls"); echo "Submitted batch job $n"',
)


class Pretended:
    """The folder of what the commands say and were told."""

    def __init__(self, folder):
        self.folder = folder
        self.say("scontrol", "ClusterName             = pretended\nMaxArraySize            = 4\n")

    def say(self, command, text):
        (self.folder / command).write_text(text)

    def calls(self, command):
        lines = (self.folder / "calls").read_text().splitlines() if (self.folder / "calls").exists() else []
        return [line.partition(" ")[2] for line in lines if line.split()[0] == command]

    @property
    def script(self):
        """The #SBATCH options of the last script."""
        lines = (self.folder / "script").read_text().splitlines()
        words = [line.removeprefix("#SBATCH --") for line in lines if line.startswith("#SBATCH")]
        return {word.partition("=")[0]: word.partition("=")[2] for word in words}


@pytest.fixture
def pretended(tmp_path, monkeypatch):
    folder, programs = tmp_path / "pretended", tmp_path / "programs"
    folder.mkdir()
    programs.mkdir()
    for name in ("sbatch", "srun", "squeue", "scontrol", "scancel"):
        (programs / name).touch(0o755)
        (programs / name).write_text(SBATCH if name == "sbatch" else COMMAND)
    monkeypatch.setenv("FAKE_SLURM", str(folder))
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    return Pretended(folder)


@pytest.fixture
def jobs(tmp_path, monkeypatch, entry):
    monkeypatch.chdir(tmp_path)
    return [Job(("train", "--do", "0", "--output_dir", f"sweep/{i}"), f"sweep/{i}") for i in range(5)]


def options(entry, **fields):
    return Options(entry=entry, folder="sweep", **{"slurm": {"time": 90}, **fields})


def given(**fields):
    problems = Problems()
    return slurm_options(problems, **fields), problems.messages


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("30", 30),
        ("30:01", 31),
        ("4:00:00", 240),
        ("0:00:30", 1),
        ("2-0", 2880),
        ("1-6", 1800),
        ("1-6:30", 1830),
        ("1-6:30:30", 1831),
    ],
)
def test_times_are_read_as_slurm_writes_them(text, minutes):
    assert given(time_limit=text) == ({"time": minutes}, [])


@pytest.mark.parametrize("text", ["", "4h", "1:2:3:4", "0", "0:00", "UNLIMITED", "-5", "1-", "1.5"])
def test_other_times_are_refused(text):
    _, (message,) = given(time_limit=text)
    assert repr(text) in message
    assert "HOURS:MINUTES:SECONDS" in message


def test_options_are_those_of_sbatch():
    found, problems = given(
        time_limit="60",
        partition="gpu",
        account="lab",
        cpus=4,
        gpus="a100:1",
        memory="16G",
        additional=["constraint=big", "exclusive", "--mail_type=END"],
    )
    assert problems == []
    assert found == {
        "time": 60,
        "partition": "gpu",
        "account": "lab",
        "cpus-per-task": 4,
        "gpus-per-node": "a100:1",
        "mem": "16G",
        "constraint": "big",
        "exclusive": True,
        "mail-type": "END",
    }


def test_all_faults_of_options_are_said_at_once():
    additional = ["array=0-3", "partition=x", "a b=c"]
    _, problems = given(partition="y", gpus="many", memory="16 GB", additional=additional)
    assert len(problems) == 6
    for part in (
        "--time_limit",
        "'many'",
        "'16 GB'",
        "gives array itself",
        "partition is given",
        "'a b=c'",
    ):
        assert any(part in problem for problem in problems), part


def test_jobs_are_submitted_as_arrays_of_the_size_that_the_site_allows(pretended, jobs, entry):
    pytest.importorskip("submitit")
    found = {"time": 90, "partition": "gpu", "cpus-per-task": 3, "exclusive": True}
    outcomes = list(launch_slurm(jobs, options(entry, slurm=found, max_parallel=2)))
    assert [(outcome.submitted, outcome.failed) for outcome in outcomes] == [(True, False)] * 5
    assert len(pretended.calls("sbatch")) == 2
    assert [each.tasks for each in submissions("sweep")] == [(("0",), ("1",), ("2",), ("3",)), (("4",),)]
    assert {each.cluster for each in submissions("sweep")} == {"pretended"}
    assert pretended.script["partition"] == "gpu"
    assert pretended.script["time"] == "90"
    assert pretended.script["signal"] == "USR2@120"
    assert {"requeue", "exclusive"} <= set(pretended.script)
    assert "array" not in pretended.script, "the fifth is alone"
    assert "wckey" not in pretended.script, "a site may not know submitit's"
    assert "srun --unbuffered" in (pretended.folder / "script").read_text()
    assert "--cpus-per-task=3" in (pretended.folder / "script").read_text().rpartition("srun")[2]
    assert not Path("sweep", "0").exists(), "nothing has run"


def test_a_short_array_has_its_limits(pretended, jobs, entry):
    pytest.importorskip("submitit")
    list(launch_slurm(jobs, options(entry, slurm={"time": 1}, jobs_per_task=2, max_parallel=2)))
    assert pretended.script["array"] == "0-2%2"
    assert pretended.script["signal"] == "USR2@20", "of a minute, the notice takes a third"
    (submission,) = submissions("sweep")
    assert submission.tasks == (("0", "1"), ("2", "3"), ("4",))


def test_what_waits_in_the_queue_is_not_submitted_again(pretended, jobs, entry):
    pytest.importorskip("submitit")
    list(launch_slurm(jobs, options(entry, jobs_per_task=2)))
    pretended.say("squeue", "1_1\n1_2\n9_0\n")
    assert waiting("sweep") == {"2", "3", "4"}
    outcomes = list(launch_slurm(jobs, options(entry, jobs_per_task=2)))
    assert [outcome.job.id for outcome in outcomes if outcome.skipped] == ["2", "3", "4"]
    assert [outcome.job.id for outcome in outcomes if outcome.submitted] == ["0", "1"]
    assert submissions("sweep")[1].tasks == (("0", "1"),)
    pretended.say("squeue", "2\n")
    assert waiting("sweep") == {"0", "1"}, "an array of one is a plain job"


def test_without_an_answer_of_the_queue_the_files_word_counts(pretended, jobs, entry, monkeypatch):
    pytest.importorskip("submitit")
    list(launch_slurm(jobs[:2], options(entry)))
    pretended.say("squeue.err", "slurm_load_jobs error: Invalid job id specified\n")
    assert waiting("sweep") == set(), "it has forgotten the job"
    pretended.say(
        "squeue.err", "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n"
    )
    assert waiting("sweep") == {"0", "1"}
    monkeypatch.setenv("PATH", "/nowhere")
    assert waiting("sweep") == {"0", "1"}
    assert waiting("no such folder") == set()


def test_cancel_takes_everything_out_of_the_queue_once(pretended, jobs, entry):
    pytest.importorskip("submitit")
    list(launch_slurm(jobs, options(entry)))
    assert cancel("sweep") == 2
    assert pretended.calls("scancel") == ["1 2"]
    assert cancel("sweep") == 0
    assert waiting("sweep") == set()


def test_what_another_cluster_has_is_cancelled_there(pretended, jobs, entry):
    pytest.importorskip("submitit")
    list(launch_slurm(jobs[:1], options(entry)))
    pretended.say("scontrol", "ClusterName = another\nMaxArraySize = 4\n")
    pretended.say("squeue", "1\n")
    assert waiting("sweep") == {"0"}, "by the file, not by the other cluster's job 1"
    with pytest.raises(Failed, match=r"scancel 1, submitted on \S+ \(cluster pretended\); run it there"):
        cancel("sweep")
    assert pretended.calls("scancel") == []


def test_waiting_for_the_end_gives_what_the_folders_show(pretended, jobs, entry, monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setattr("roga_domainbed.launch.slurm.time.sleep", lambda seconds: None)
    outcomes = launch_slurm(jobs[:3], options(entry, wait=True))
    pretended.say("squeue", "1_0\n1_1\n1_2\n")

    def work():
        (file,) = Path("sweep", "queue").glob("tasks-*.json")
        run_task(file, 0)
        Path("sweep", "0", "done").touch()
        pretended.say("squeue", "1_1\n")

    answers = iter([work])
    queued = slurm_commands.queued
    monkeypatch.setattr(slurm_commands, "queued", lambda ids: (next(answers, lambda: None)(), queued(ids))[1])
    first, second = next(outcomes), next(outcomes)
    assert (first.job.id, first.exit_code) == ("0", 0)
    assert (second.job.id, second.exit_code, second.failed) == ("2", None, True)
    assert "its task 1_2 has left the queue" in second.note
    outcomes.close()
    assert pretended.calls("scancel") == [], "what waits goes on"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            "sbatch: error: invalid partition specified: nope\n"
            "sbatch: error: Batch job submission failed: Invalid partition name specified\n",
            "sbatch: Batch job submission failed: Invalid partition name specified",
        ),
        ("sbatch: fatal: something\n\n", "sbatch: fatal: something"),
    ],
)
def test_what_sbatch_refuses_is_one_line(pretended, jobs, entry, capfd, said, expected):
    pytest.importorskip("submitit")
    pretended.say("sbatch.err", said)
    with pytest.raises(RogaError) as caught:
        list(launch_slurm(jobs[:2], options(entry)))
    assert str(caught.value) == expected
    assert capfd.readouterr() == ("", "")
    assert os.listdir(Path("sweep", "queue")) == []
    assert submissions("sweep") == []


def test_what_is_missing_is_said_before_anything_is_written(pretended, jobs, entry, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "submitit", None)
        with pytest.raises(MissingExtra, match=r"roga-domainbed\[cluster\]"):
            next(launch_slurm(jobs, options(entry)))
    pytest.importorskip("submitit")
    pretended.say("scontrol.err", "slurm_load_ctl_conf error: Unable to contact slurm controller\n")
    with pytest.raises(Failed, match=r"does not answer: scontrol: .*Unable to contact"):
        next(launch_slurm(jobs, options(entry)))
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(RogaError, match="this machine has no sbatch"):
        next(launch_slurm(jobs, options(entry)))
    assert not Path("sweep").exists()


def test_the_printed_script_is_bash_and_runs_its_task(pretended, jobs, entry):
    text = sbatch_script(
        jobs, options(entry, jobs_per_task=2, max_parallel=2, slurm={"time": 90, "exclusive": True})
    )
    lines = text.splitlines()
    assert lines[0] == "#!/bin/bash"
    for line in (
        "--array=0-2%2",
        "--requeue",
        "--signal=B:USR1@120",
        "--time=90",
        "--exclusive",
        "--job-name=sweep",
    ):
        assert f"#SBATCH {line}" in lines
    environment = {**os.environ, "SLURM_ARRAY_TASK_ID": "1"}
    done = subprocess.run(["bash", "-c", text], env=environment, stdout=subprocess.PIPE, text=True, cwd="/")
    assert done.returncode == 0
    assert [job.exit_code for job in jobs] == [None, None, 0, 0, None]
    assert jobs[4].state is State.NOT_LAUNCHED


def test_a_printed_script_of_too_many_places_names_the_remedy(pretended, jobs, entry, monkeypatch):
    with pytest.raises(RogaError, match=r"5 places .* \(4\): give --jobs_per_task 2 or more"):
        sbatch_script(jobs, options(entry))
    monkeypatch.setenv("PATH", "/nowhere")
    assert "--array=0-4\n" in sbatch_script(jobs, options(entry)), "without Slurm nobody knows"


@pytest.mark.parametrize(("state", "is_put_back"), [("RUNNING", True), ("COMPLETING", False), ("", False)])
def test_a_place_is_put_back_only_while_slurm_means_it_to_run(pretended, monkeypatch, state, is_put_back):
    slurm_commands.requeue()
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    pretended.say("squeue", f"{state}\n")
    slurm_commands.requeue()
    assert pretended.calls("scontrol") == ["requeue 12"] * is_put_back


def test_owners_are_places(monkeypatch):
    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_CLUSTER_NAME", "c")
    assert slurm_commands.owner() == ""
    monkeypatch.setenv("SLURM_JOB_ID", "13")
    assert slurm_commands.owner() == "slurm:c:13"
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "12")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "7")
    assert slurm_commands.owner() == "slurm:c:12_7"


def test_threads_are_those_of_the_place(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "")  # set to nothing is not set
    monkeypatch.delenv("SLURM_CPUS_ON_NODE", raising=False)
    assert slurm_commands.threads(1) == {}
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "8")
    assert [slurm_commands.threads(n)["OMP_NUM_THREADS"] for n in (1, 3, 16)] == ["8", "2", "1"]
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert slurm_commands.threads(2) == {}


def test_readers_of_a_sweep_pass_over_the_queues_folder(pretended, jobs, entry):
    pytest.importorskip("submitit")
    from roga_domainbed.results.runs import load_runs
    from roga_domainbed.sweep.folder import jobs_by_their_files

    list(launch_slurm(jobs, options(entry)))
    loaded = load_runs("sweep", "acc")
    assert (loaded.runs, loaded.problems, loaded.folders) == ([], [], [])
    assert jobs_by_their_files("sweep") == ([], 0)


def test_files_that_are_no_submissions_are_passed_over(pretended, jobs, entry):
    pytest.importorskip("submitit")
    list(launch_slurm(jobs[:1], options(entry)))
    for number, content in enumerate(["", "[]", "{}", json.dumps({"tasks": 3})]):
        Path("sweep", "queue", f"submission-x-{number}.json").write_text(content)
    assert [each.id for each in submissions("sweep")] == ["1"]
