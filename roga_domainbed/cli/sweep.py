r"""Launch, watch and clean up many trainings.

A sweep trains every combination of trial, dataset, algorithm, test environments and hyper-parameter seed. Each is a
job with a folder of its own.

  launch             run the jobs that have no folder yet, and resume those that were stopped or killed
  status             count jobs by dataset, algorithm and state, and name those that failed
  delete_incomplete  delete the folders of unfinished jobs that are not running

Give all three the same arguments: they say which jobs there are. A job's folder is a hash of its train arguments, as
in DomainBed. An optional argument counts only if it is given.

A preset is a YAML file of these arguments. It may also name rows, to compare settings of one algorithm in one sweep;
result tables then have a line for each row, beside those of "algorithms":

  rows:
    - {name: "SAM, rho 0.05", algorithm: SAM, hparams: {rho: 0.05}}
    - {name: "SAM, rho 0.1", algorithm: SAM, hparams: {rho: 0.1}}

  $ roga-domainbed sweep status --output_dir out --data_dir data --datasets SynthFake \
        --algorithms ERM RoGA --n_hparams 1 --n_trials 1 --single_test_envs
  Dataset    Algorithm  done  running  failed  incomplete  not launched  jobs
  SynthFake  ERM           4        0       0           0             0     4
  SynthFake  RoGA          2        1       1           0             0     4
  total                    6        1       1           0             0     8
  Job 1f3a9c (SynthFake, RoGA, test envs [2]) exited with 137; log: out/1f3a9c…/job.log

launch exits with 1 if a job failed, and with 75 if none did but some were told to stop (SIGTERM, SIGUSR1).
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import shlex
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from roga_domainbed.catalog import ALGORITHMS, DATASETS
from roga_domainbed.catalog.registry import Registry, load
from roga_domainbed.cli import arguments, data_options
from roga_domainbed.errors import Problems, RogaError, unknown_name
from roga_domainbed.host import backend
from roga_domainbed.launch import LAUNCHERS, Job, LauncherInfo, Options
from roga_domainbed.launch.job import UNFINISHED, State, failure_line
from roga_domainbed.launch.jobfile import STOPPED
from roga_domainbed.sweep.jobs import train_job
from roga_domainbed.sweep.plan import Plan, load_preset, preset_names
from roga_domainbed.sweep.status import status_table, summary_line

#: What a training imports, so that jobs start warm. A module that cannot be imported is skipped.
_PRELOAD = ("torch", "torchvision", "timm", "roga_domainbed.trainer.run")

#: The fields of ``Plan`` that upstream's sweep has as flags.
_UPSTREAMS = (
    "datasets algorithms task n_hparams_from n_hparams data_dir n_trials steps hparams holdout_fraction "
    "single_test_envs"
).split()
_OURS = ("test_envs", "split", "checkpoint_freq", "skip_model_save")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Upstream's flags, then ours."""
    parser.usage = "%(prog)s launch|status|delete_incomplete --output_dir FOLDER [options]"
    parser.add_argument("command", choices=["launch", "status", "delete_incomplete"])
    parser.add_argument("--output_dir", required=True, help="folder of the sweep")
    parser.add_argument(
        "--preset",
        metavar="NAME",
        help=f"take the arguments below from a preset ({', '.join(preset_names())}) or a YAML file; "
        "those given here win",
    )
    group = parser.add_argument_group("which jobs, as in DomainBed")
    arguments.add_arguments(group, Plan, _UPSTREAMS, over_preset=True)
    group.add_argument("--seed", type=int, default=0, help="unused, as upstream: a job's seed is a hash")
    group = parser.add_argument_group("which jobs, ours")
    arguments.add_arguments(group, Plan, _OURS, over_preset=True)
    data_options.add_arguments(group)
    data_options.add_leakage_argument(group)
    group = parser.add_argument_group("how to run them")
    group.add_argument(
        "--command_launcher",
        default="local",
        metavar="|".join(LAUNCHERS.names()),
        help="; ".join(f"{info.name}: {info.summary}" for info in LAUNCHERS) + " (default: %(default)s)",
    )
    group.add_argument("--n_workers", type=int, help="jobs at a time (local: 1, multi_gpu: one a GPU)")
    group.add_argument(
        "--retry",
        action="store_true",
        help="launch failed jobs too, from their last checkpoint, and DomainBed's folders, from the start",
    )
    group.add_argument(
        "--skip_confirmation", action="store_true", help="do not ask before starting or deleting"
    )
    group.add_argument(
        "--dry-run", action="store_true", help="print the jobs and their commands; change nothing"
    )


def run(args: argparse.Namespace) -> int:
    """Launch, count or delete the jobs."""
    problems = Problems()
    plan = _plan(args, problems)
    _check(args, plan, problems)
    jobs = [train_job(train_args, args.output_dir) for train_args in plan.train_args()]
    listed = [(job, job.state) for job in jobs]
    if args.command == "status":
        return _status(listed)
    for job, state in listed:
        print(job.describe(state))
    print(summary_line(state for _, state in listed))
    if args.dry_run:
        for job in jobs:
            print(shlex.join(["roga-domainbed", *job.argv]))
        return 0
    if args.command == "launch":
        return _launch(args, listed)
    return _delete_incomplete(args, listed)


def _status(listed: list[tuple[Job, State]]) -> int:
    print(status_table(listed), end="")
    for job, state in listed:
        if state is State.FAILED:
            print(failure_line(job, job.exit_code))
    return 0


def _launch(args: argparse.Namespace, listed: list[tuple[Job, State]]) -> int:
    again = [
        dataclasses.replace(job, retry=True)
        for job, state in listed
        if _is_relaunched(job, state, args.retry)
    ]
    jobs = again + [job for job, state in listed if state is State.NOT_LAUNCHED]
    left = sum(state in (State.FAILED, State.INCOMPLETE) for _, state in listed) - len(again)
    if again:
        print(f"{len(again)} jobs resume from their last checkpoint.")
    if left:
        print(f"{left} jobs failed or are incomplete and stay as they are; --retry starts them again.")
    if not _confirmed(args, "launch", jobs):
        return 0
    launcher = LAUNCHERS.get(args.command_launcher)
    print("Launching...")
    print("Making job directories:", flush=True)
    failures, skipped, stopped = [], 0, 0
    outcomes = load(launcher.target)(jobs, Options(args.n_workers, preload=_PRELOAD))
    with _terminated_like_interrupted(), contextlib.closing(outcomes), _progress(launcher, len(jobs)) as bar:
        for outcome in outcomes:
            skipped += outcome.skipped
            stopped += outcome.stopped
            if outcome.failed:
                failures.append(outcome)
            if bar is not None:
                bar.set_postfix(failed=len(failures), refresh=False)
                bar.update()
    print(f"Launched {len(jobs) - skipped} jobs!")
    if skipped:
        print(f"{skipped} jobs were left to another launch of this sweep.")
    if stopped:
        print(f"{stopped} jobs were told to stop; the same command resumes them.")
    for outcome in failures:
        print(failure_line(outcome.job, outcome.exit_code, outcome.note), file=sys.stderr)
    return 1 if failures else STOPPED if stopped else 0


def _is_relaunched(job: Job, state: State, retry: bool) -> bool:
    if state is State.FAILED:
        return retry
    return state is State.INCOMPLETE and (retry or job.is_ours)


def _delete_incomplete(args: argparse.Namespace, listed: list[tuple[Job, State]]) -> int:
    jobs = [job for job, state in listed if state in UNFINISHED and state is not State.RUNNING]
    running = sum(state is State.RUNNING for _, state in listed)
    if running:
        print(f"{running} jobs are running and stay.")
    if not _confirmed(args, "delete", jobs):
        return 0
    print("Deleting...")
    deleted = 0
    for job in jobs:
        # Asked again: minutes may lie between the list and the answer to the question.
        if job.state in (State.FAILED, State.INCOMPLETE):
            shutil.rmtree(job.output_dir)
            deleted += 1
    print(f"Deleted {deleted} jobs!")
    return 0


def _confirmed(args: argparse.Namespace, verb: str, jobs: list[Job]) -> bool:
    """Say how many jobs there are to ``verb``, and ask; False if there are none."""
    print(f"About to {verb} {len(jobs)} jobs.")
    if not jobs or args.skip_confirmation:
        return bool(jobs)
    if not sys.stdin.isatty():
        raise RogaError("cannot ask for confirmation: stdin is no terminal. Pass --skip_confirmation")
    if input("Are you sure? (y/n) ").lower().startswith("y"):
        return True
    print("Nevermind!")
    return False


@contextlib.contextmanager
def _progress(launcher: LauncherInfo, n_jobs: int) -> Iterator:
    if not launcher.runs:
        yield None
        return
    from tqdm import tqdm  # only launching needs it

    with tqdm(total=n_jobs, unit="job", file=sys.stderr, smoothing=0) as bar:
        yield bar


@contextlib.contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """Let SIGTERM and a closed terminal end the jobs too, as Ctrl-C does."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    names = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        names = []  # only the main thread may set handlers
    before = {name: signal.signal(name, interrupt) for name in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def _plan(args: argparse.Namespace, problems: Problems) -> Plan:
    """The plan of the preset, if there is one, with what was given on the command line over it."""
    values = load_preset(args.preset, problems) if args.preset else {}
    # The two exclude each other: given here, one replaces the other of the preset.
    for given, replaced in (("test_envs", "single_test_envs"), ("single_test_envs", "test_envs")):
        if getattr(args, given) is not None:
            values.pop(replaced, None)
    names = (*_UPSTREAMS, *_OURS, *data_options.NAMES)
    values |= {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    plan = Plan(**values)
    if plan.algorithms is None and not plan.rows:
        plan.algorithms = _available(ALGORITHMS)
    if plan.datasets is None:
        plan.datasets = [name for name in _available(DATASETS) if "Debug" not in name]
    return plan


def _available(registry: Registry) -> list[str]:
    """The names this backend can run: those without a target are in an upstream checkout alone."""
    everything = backend.host().name == "upstream"
    return [info.name for info in registry if everything or info.target is not None]


def _check(args: argparse.Namespace, plan: Plan, problems: Problems) -> None:
    """Refuse everything that would fail later, all faults at once."""
    for name in dict.fromkeys(plan.datasets):
        _check_name(DATASETS, name, "", problems)
    for row in plan.all_rows:
        _check_name(ALGORITHMS, row.algorithm, f"row {row.name!r}: " if row.name else "", problems)
    plan.check(problems)
    if args.command_launcher not in LAUNCHERS:
        problems.add(unknown_name(LAUNCHERS.kind, args.command_launcher, LAUNCHERS.names()))
        runs = False
    else:
        runs = args.command == "launch" and not args.dry_run and LAUNCHERS.get(args.command_launcher).runs
    if args.n_workers is not None and args.n_workers < 1:
        problems.add(f"--n_workers must be at least 1; got {args.n_workers}")
    if runs:
        _check_hparams(plan, problems)
    if runs and plan.data_dir is not None and not Path(plan.data_dir).is_dir():
        problems.add(f"--data_dir {plan.data_dir!r} is not a folder")
    if Path(args.output_dir).exists() and not Path(args.output_dir).is_dir():
        problems.add(f"--output_dir {args.output_dir!r} is not a folder")
    problems.check()


def _check_name(registry: Registry, name: str, where: str, problems: Problems) -> None:
    if name not in registry:
        problems.add(where + unknown_name(registry.kind, name, registry.names()))
    elif name not in _available(registry):
        problems.add(
            f"{where}{registry.kind} {name!r} is in upstream DomainBed alone: set DOMAINBED_HOME to a checkout"
        )


def _check_hparams(plan: Plan, problems: Problems) -> None:
    """Check that every row's algorithm has the hyper-parameters that are overridden, and may have their values."""
    try:
        texts = [(row, text) for row in plan.all_rows if (text := plan.hparams_of(row)) is not None]
    except RogaError:
        return  # the plan's own are no JSON, which is among the problems
    if not texts:
        return
    from roga_domainbed.trainer.config import TrainConfig
    from roga_domainbed.trainer.hyperparameters import resolve_hparams
    from roga_domainbed.upstream import bridge  # torch: a launch needs it anyway, a dry run does not

    host = bridge.register()
    concerned: dict[str, list[str]] = {}
    for row, text in texts:
        found = Problems()
        for dataset in dict.fromkeys(plan.datasets):
            config = TrainConfig(algorithm=row.algorithm, dataset=dataset, hparams=text)
            resolve_hparams(config, host, found)
        for message in dict.fromkeys(found.messages):
            # Each algorithm knows other names; one line a misspelt one is enough.
            concerned.setdefault(message.partition("; known:")[0], []).append(str(row))
    for message, rows in concerned.items():
        problems.add(f"{', '.join(rows)}: {message}")
