r"""Launch, watch and clean up many trainings.

A sweep trains every combination of trial, dataset, algorithm, test environments and hyper-parameter seed. Each is a
job with a folder of its own.

  launch             run the jobs that have no folder yet, and resume those that were stopped or killed
  status             rows by test environments: what is done, and why other jobs are not
  watch              the status again and again, with throughput and time left
  estimate           device-hours and disk of the whole sweep, from a few steps of a job of each row
  retry              run the jobs that failed, and all that were interrupted
  cancel             stop what runs or waits, on whatever machine; launch resumes it
  delete_incomplete  delete the folders of unfinished jobs that are not running
  pack               write the records and scores of all jobs as two Parquet files, with the plan, into the folder --to
  unpack             make the folders of the done jobs that are packed in the folder --from

The arguments say which jobs there are. launch keeps them in the sweep's folder (plan.json), so later commands need
--output_dir alone. A job's folder is a hash of its train arguments, as in DomainBed. An optional argument counts only
if it is given.

Each environment is held out alone. --select loo adds the pairs that the leave-one-domain-out rule needs.
--single_train_envs trains on each environment alone and holds out all others, --train_envs 0 1 on these two together;
--single_test_envs and --test_envs say instead what is held out.

A preset is a YAML file of these arguments. It may also name rows, to compare settings of one algorithm in one sweep;
result tables then have a line for each row, beside those of "algorithms":

  rows:
    - {name: "SAM, rho 0.05", algorithm: SAM, hparams: {rho: 0.05}}
    - {name: "SAM, rho 0.1", algorithm: SAM, hparams: {rho: 0.1}}

--hparams are for every row. One that a row's algorithm lacks belongs into the hparams of the rows that have it.

  $ roga-domainbed sweep status --output_dir out
  SynthFake
  Algorithm    DF   F2F    FS    NT
  ERM         3/3   3/3   3/3   3/3
  RoGA        3/3   2/3!  1/3>  0/3

  done/all jobs; some are: > running, ! failed

             done  running  failed  interrupted  not launched  jobs
  SynthFake    18        1       1            0             4    24
  Job 1f3a9c (SynthFake, RoGA, test envs [1]) exited with 1 (step 3: loss is nan …); log: out/1f3a9c…/job.log

A packed sweep is small enough to commit, and collect-results, report and status read it like the folders. Models,
checkpoints and logs are not in it. To go on with a sweep on another machine, unpack it there and launch: what was done
is not launched again, what was not done starts anew.

  $ roga-domainbed sweep pack --output_dir out --to packed
  $ roga-domainbed report --input_dir packed
  $ roga-domainbed sweep unpack --from packed --output_dir out2
  $ roga-domainbed sweep launch --output_dir out2

launch exits with 0 if all jobs are done, with 75 if those that are not were told to stop (SIGTERM, SIGUSR1, SIGUSR2),
and with 1 otherwise.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Mapping

from roga_domainbed.cli import arguments, data_options
from roga_domainbed.cli.checkout_names import add_checkout_names
from roga_domainbed.cli.sweep import places
from roga_domainbed.cli.sweep.ending import cancel, delete_incomplete
from roga_domainbed.cli.sweep.launching import estimated, launch
from roga_domainbed.cli.sweep.which import OURS, SELECTION_RULES, UPSTREAMS, are_given, check, plans_and_jobs
from roga_domainbed.errors import Problems, RogaError
from roga_domainbed.foreign import one_line
from roga_domainbed.launch import LAUNCHERS, Job
from roga_domainbed.launch.job import State
from roga_domainbed.results.packed import PackedRun, packed_runs
from roga_domainbed.sweep.folder import PLAN_FILE, sweep_folder_problem
from roga_domainbed.sweep.halving import METRICS as HALVING_METRICS
from roga_domainbed.sweep.jobs import train_job
from roga_domainbed.sweep.plan import Plan, preset_names
from roga_domainbed.sweep.status import job_states, status_table, summary_line, trouble_lines
from roga_domainbed.sweep.watch import EVERY_S, watch
from roga_domainbed.trainer import trackers

_COMMANDS = ("launch", "status", "watch", "estimate", "retry", "cancel", "delete_incomplete")
#: Command → its option, the folder of the packed sweep.
_PACKING = {
    "pack": ("to", "write the files here; those of an earlier pack are replaced"),
    "unpack": ("from", "where the files are"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Upstream's flags, then ours."""
    commands = (*_COMMANDS, *_PACKING)
    parser.usage = f"%(prog)s {'|'.join(commands)} --output_dir FOLDER [options]"
    parser.add_argument("command", choices=commands)
    parser.add_argument("--output_dir", required=True, help="folder of the sweep")
    for command, (option, text) in _PACKING.items():
        parser.add_argument(f"--{option}", dest=command, metavar="FOLDER", help=f"{command}: {text}")
    parser.add_argument(
        "--preset",
        metavar="NAME",
        help=f"take the arguments below from a preset ({', '.join(preset_names())}) or a YAML file; "
        "those given here win",
    )
    parser.add_argument(
        "--set",
        action="extend",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="override values of the preset by their keys there; hparams.NAME=VALUE is one hyper-parameter",
    )
    group = parser.add_argument_group("which jobs, as in DomainBed")
    arguments.add_arguments(group, Plan, UPSTREAMS, over_preset=True)
    group.add_argument("--seed", type=int, default=0, help="unused, as upstream: a job's seed is a hash")
    group = parser.add_argument_group("which jobs, ours")
    arguments.add_arguments(group, Plan, OURS, over_preset=True)
    group.add_argument(
        "--select",
        nargs="+",
        default=[],
        metavar="|".join(SELECTION_RULES),
        help="the rules that the tables will be read by: loo needs jobs that hold out pairs of environments, too "
        "(default: no pairs)",
    )
    data_options.add_arguments(group)
    data_options.add_share_arguments(group)
    data_options.add_leakage_argument(group)
    group = parser.add_argument_group("how to run them")
    group.add_argument(
        "--command_launcher",
        default="local",
        metavar="|".join(LAUNCHERS.names()),
        help="; ".join(f"{info.name}: {info.summary}" for info in LAUNCHERS) + " (default: %(default)s)",
    )
    group.add_argument(
        "--n_workers", type=int, help="jobs at a time (default: one a GPU; without one, the cores, at most 8)"
    )
    group.add_argument("--jobs_per_gpu", type=int, metavar="N", help="jobs that share a GPU (default: 1)")
    group.add_argument(
        "--halving",
        type=int,
        metavar="ETA",
        help="launch: at steps/ETA², steps/ETA, let the best 1/ETA of the hyper-parameter seeds go on, by validation",
    )
    group.add_argument("--halving_metric", choices=HALVING_METRICS, default=HALVING_METRICS[0])
    group.add_argument(
        "--track",
        nargs="+",
        metavar="|".join(trackers.NAMES),
        help="launch: show the runs in these trackers too (docs/trackers.md)",
    )
    places.add_arguments(group)
    group.add_argument(
        "--retry",
        action="store_true",
        help="launch failed jobs too, from their last checkpoint, and DomainBed's folders, from the start",
    )
    group.add_argument(
        "--skip_confirmation", action="store_true", help="do not ask before starting or deleting"
    )
    group.add_argument(
        "--every",
        type=float,
        default=EVERY_S,
        metavar="SECONDS",
        help="watch: between looks (default: %(default)g)",
    )
    group.add_argument("--all", action="store_true", help="status: a line for each failed job, however many")
    group.add_argument(
        "--dry-run", action="store_true", help="print the jobs and their commands; change nothing"
    )


def run(args: argparse.Namespace) -> int:
    """Do what the command says with the jobs."""
    problems = Problems()
    if os.path.exists(args.output_dir) and not os.path.isdir(args.output_dir):
        problems.add(f"--output_dir {args.output_dir!r} is not a folder")
    for command, (option, _) in _PACKING.items():
        if (args.command == command) != (getattr(args, command) is not None):
            problems.add(f"--{option} FOLDER belongs to {command}, which needs it")
    problems.check()
    if args.command in _PACKING:
        return _pack_or_unpack(args, problems)
    packed = packed_runs(args.output_dir)
    if args.every <= 0:
        raise RogaError(f"--every must be above 0; got {args.every}")
    if packed and args.command != "status":
        raise RogaError(
            f"--output_dir {args.output_dir!r} holds a packed sweep: 'roga-domainbed sweep unpack --from "
            f"{shlex.quote(args.output_dir)} --output_dir NEW' makes folders of it, in which {args.command} works"
        )
    add_checkout_names()
    plans, jobs = plans_and_jobs(args, problems)
    check(args, plans, problems)
    jobs = jobs or [
        train_job(train_args, args.output_dir) for plan in plans for train_args in plan.train_args()
    ]
    listed = job_states(jobs, args.output_dir)
    if args.command == "status":
        listed = [(job, State(packed[job.id].state) if job.id in packed else state) for job, state in listed]
        return _status(args, listed, packed)
    if args.command == "estimate":
        return estimated(args, listed)
    if args.command == "watch":
        watch(lambda: job_states(jobs, args.output_dir), args.every)
        return 0
    if not args.print_sbatch:  # which goes into a file
        for job, state in listed:
            print(job.describe(state))
        print(summary_line(state for _, state in listed))
    if args.dry_run:
        for job, _ in listed:
            print(shlex.join(["roga-domainbed", *job.argv]))
        return 0
    if args.command == "cancel":
        return cancel(args, listed)
    if args.command == "delete_incomplete":
        return delete_incomplete(args, listed)
    return launch(args, plans, listed)


def _pack_or_unpack(args: argparse.Namespace, problems: Problems) -> int:
    from roga_domainbed.sweep.pack import pack, unpack  # pyarrow: no other command needs it

    other = args.pack or args.unpack
    if are_given(args):
        problems.add(f"{args.command} is about all jobs in the folder: leave the arguments for them out")
    if os.path.realpath(other) == os.path.realpath(args.output_dir):
        problems.add(f"--output_dir and --{_PACKING[args.command][0]} are the same folder; give two")
    if args.command == "unpack" and (problem := sweep_folder_problem(args.output_dir)) is not None:
        problems.add(f"--output_dir {args.output_dir!r} {problem}")
    elif not os.path.isdir(args.unpack or args.output_dir):
        problems.add(f"no such folder: {args.unpack or args.output_dir!r}")
    problems.check()
    if args.command == "pack":
        found = pack(args.output_dir, args.pack)
        sizes = ", ".join(f"{path.name} ({path.stat().st_size / 1e6:.2f} MB)" for path in found.files)
        print(f"Packed {found.runs} jobs, {found.done} of them done, into {args.pack}: {sizes}")
        for problem in found.problems:
            print(one_line(problem), file=sys.stderr)
        return 0
    made, present, undone = unpack(args.unpack, args.output_dir)
    print(
        f"Made the folders of {made} done jobs in {args.output_dir}; {present} were there already; {undone} were not "
        "done and start anew with the next launch."
    )
    return 0


def _status(
    args: argparse.Namespace, listed: list[tuple[Job, State]], packed: Mapping[str, PackedRun]
) -> int:
    print(status_table(listed), end="")
    codes = {name: run.exit_code for name, run in packed.items()}
    for line in trouble_lines(listed, lambda job: codes.get(job.id, job.exit_code), every=args.all):
        print(line)
    unknown = are_given(args) and all(state is State.NOT_LAUNCHED for _, state in listed)
    if unknown and os.path.exists(os.path.join(args.output_dir, PLAN_FILE)):
        print("None of them was launched; without other arguments --output_dir says which jobs there are.")
    return 0
