import argparse

import pytest

from roga_domainbed.cli.sweep.places import add_arguments, option_fields
from roga_domainbed.errors import Problems


def read(command):
    parser = argparse.ArgumentParser()
    parser.add_argument("--command_launcher", default="local")
    add_arguments(parser)
    problems = Problems()
    return option_fields(parser.parse_args(command.split()), problems), problems.messages


def test_flags_become_options_of_the_launcher():
    fields, problems = read(
        "--command_launcher slurm --time_limit 2:00:00 --partition gpu --cpus 4 --jobs_per_task 10 --max_parallel 3 "
        "--slurm_additional constraint=big exclusive --wait"
    )
    assert problems == []
    slurm = {"time": 120, "partition": "gpu", "cpus-per-task": 4, "constraint": "big", "exclusive": True}
    assert fields == {
        "jobs_per_task": 10,
        "max_parallel": 3,
        "wait": True,
        "cpus": 4,
        "address": None,
        "slurm": slurm,
    }
    fields, problems = read("--command_launcher ray --address head:6379 --cpus 2")
    assert problems == []
    assert (fields["address"], fields["cpus"], fields["jobs_per_task"]) == ("head:6379", 2, 1)
    assert read("")[1] == []


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("--jobs_per_task 2", ["--jobs_per_task is not for --command_launcher local"]),
        ("--partition gpu --wait", ["--partition is not for", "--wait is not for"]),
        ("--command_launcher ray --time_limit 60", ["--time_limit is not for --command_launcher ray"]),
        ("--command_launcher slurm --time_limit 60 --address a:1", ["--address is not for"]),
        ("--command_launcher slurm --cpus 0", ["--cpus must be at least 1", "give --time_limit"]),
    ],
)
def test_what_does_not_fit_is_said(command, said):
    _, problems = read(command)
    assert len(problems) == len(said)
    for message, part in zip(problems, said, strict=True):
        assert part in message
