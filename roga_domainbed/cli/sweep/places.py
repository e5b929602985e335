"""The options of launchers that give jobs to a queue: what a place there has, and how many jobs it runs."""

from __future__ import annotations

import argparse
from typing import Any

from roga_domainbed.errors import Problems
from roga_domainbed.launch.slurm import slurm_options

_OF_SLURM = (
    "time_limit",
    "partition",
    "account",
    "gpus",
    "memory",
    "slurm_additional",
    "wait",
    "print_sbatch",
)
_OF_BOTH = ("jobs_per_task", "max_parallel", "cpus")


def add_arguments(group: argparse._ArgumentGroup) -> None:
    """The flags; those of one launcher say so."""
    group.add_argument(
        "--jobs_per_task",
        type=int,
        metavar="N",
        help="jobs that a place in the queue runs in turn, in one warm worker (default: 1)",
    )
    group.add_argument(
        "--max_parallel", type=int, metavar="N", help="places at work at a time (default: no limit)"
    )
    group.add_argument("--cpus", type=int, metavar="N", help="processors of a place")
    group.add_argument(
        "--time_limit",
        metavar="TIME",
        help="slurm: of a place, such as 4:00:00; longer jobs go on in another",
    )
    group.add_argument("--partition", metavar="NAME", help="slurm: where to run")
    group.add_argument("--account", metavar="NAME", help="slurm: who pays")
    group.add_argument("--gpus", metavar="[KIND:]N", help="slurm: GPUs of a place")
    group.add_argument("--memory", metavar="SIZE", help="slurm: of a place, such as 16G")
    group.add_argument(
        "--slurm_additional",
        nargs="+",
        metavar="KEY=VALUE",
        help="slurm: more options of sbatch; KEY alone for a flag",
    )
    group.add_argument("--wait", action="store_true", help="slurm: stay until all jobs have ended")
    group.add_argument(
        "--print_sbatch",
        action="store_true",
        help="slurm: print a script for sbatch instead of submitting; needs no submitit",
    )
    group.add_argument(
        "--address",
        metavar="HOST:PORT",
        help="ray: of a cluster (default: RAY_ADDRESS, else one is started here)",
    )


def option_fields(args: argparse.Namespace, problems: Problems) -> dict[str, Any]:
    """The fields of ``Options`` that the flags give; what is wrong goes to ``problems``."""
    launcher = args.command_launcher
    of_others = _OF_SLURM * (launcher != "slurm") + _OF_BOTH * (launcher not in ("slurm", "ray"))
    of_others += ("address",) * (launcher != "ray")
    for name in of_others:
        if getattr(args, name) not in (None, False):
            problems.add(f"--{name} is not for --command_launcher {launcher}")
    for name in _OF_BOTH:
        if getattr(args, name) is not None and getattr(args, name) < 1:
            problems.add(f"--{name} must be at least 1; got {getattr(args, name)}")
    fields = {
        "jobs_per_task": args.jobs_per_task or 1,
        "max_parallel": args.max_parallel,
        "wait": args.wait,
        "cpus": args.cpus or 1,
        "address": args.address,
    }
    if launcher == "slurm":
        fields["slurm"] = slurm_options(
            problems,
            time_limit=args.time_limit,
            partition=args.partition,
            account=args.account,
            cpus=args.cpus,
            gpus=args.gpus,
            memory=args.memory,
            additional=args.slurm_additional or (),
        )
    return fields
