r"""Launch, watch and clean up many trainings.

A sweep is every combination of trial, dataset, algorithm, test environments and hyper-parameter seed, each a job
with a folder of its own.

  launch             run the jobs that have no folder yet; those that were stopped or killed go on
  status             count jobs by dataset, algorithm and state; name those that failed
  delete_incomplete  delete the folders of jobs that did not finish; never of one that runs now

All three want the same arguments: they name the jobs. A job's folder is a hash of its train arguments, the same
as DomainBed's for the same arguments. Optional ones count in it only when given.

  $ roga-domainbed sweep status --output_dir out --data_dir data --datasets SynthFake \
        --algorithms ERM RoGA --n_hparams 1 --n_trials 1 --single_test_envs
  Dataset    Algorithm  done  running  failed  incomplete  not launched  jobs
  SynthFake  ERM           4        0       0           0             0     4
  SynthFake  RoGA          2        1       1           0             0     4
  total                    6        1       1           0             0     8
  Job 1f3a9c (SynthFake, RoGA, test envs [2]) exited with 137; log: out/1f3a9c…/job.log

The exit status of launch is 1 if a job failed, and 75 if none did but some were told to stop (SIGTERM, SIGUSR1).
"""

from __future__ import annotations

import argparse
import contextlib
import shlex
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from datasets_ext.training_options import TrainingOptions
from roga_domainbed.catalog import ALGORITHMS, DATASETS, hparams
from roga_domainbed.catalog.registry import Registry, load
from roga_domainbed.cli import data_options
from roga_domainbed.errors import Problems, RogaError, unknown_name
from roga_domainbed.host import backend
from roga_domainbed.launch import LAUNCHERS, Options
from roga_domainbed.launch.jobfile import STOPPED
from roga_domainbed.sweep.grid import make_args_list
from roga_domainbed.sweep.jobs import UNFINISHED, Job, State, failure_line
from roga_domainbed.sweep.presets import ARGUMENTS, load_preset, preset_names
from roga_domainbed.sweep.status import status_table, summary_line
from roga_domainbed.trainer.config import SPLIT_MODES, TASKS, test_env_problems

#: What a training imports, so that jobs start warm. A name that cannot be imported is passed over.
_PRELOAD = ("torch", "torchvision", "timm", "roga_domainbed.trainer.run")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Upstream's flags, then ours."""
    parser.add_argument("command", choices=["launch", "status", "delete_incomplete"])
    parser.add_argument(
        "--preset",
        metavar="NAME",
        help=f"take the arguments below from a preset ({', '.join(preset_names())}) or a YAML file; "
        "those given here win",
    )
    group = parser.add_argument_group("which jobs, as in DomainBed")
    group.add_argument("--datasets", nargs="+", metavar="NAME", help="default: all but the Debug ones")
    group.add_argument("--algorithms", nargs="+", metavar="NAME", help="default: all of this backend")
    group.add_argument("--task", help=f"one of {', '.join(TASKS)}")
    group.add_argument("--n_hparams_from", type=int, help="first hparams_seed (0, which is the defaults)")
    group.add_argument("--n_hparams", type=int, help="one past the last hparams_seed (20)")
    group.add_argument("--output_dir", required=True, help="folder of the sweep")
    group.add_argument("--data_dir", help="folder of the datasets; required unless none needs it")
    group.add_argument("--seed", type=int, default=0, help="unused, as upstream: a job's seed is a hash")
    group.add_argument("--n_trials", type=int, help="repetitions with other splits and seeds (3)")
    group.add_argument("--steps", type=int, help="training steps (default: the dataset's)")
    group.add_argument("--hparams", help="JSON object that overrides hyper-parameters of every job")
    group.add_argument("--holdout_fraction", type=float, help="validation part of a domain (0.2)")
    group.add_argument(
        "--single_test_envs", action=argparse.BooleanOptionalAction, help="no pairs of test environments"
    )
    group = parser.add_argument_group("which jobs, ours")
    group.add_argument(
        "--test_envs", type=int, nargs="+", metavar="ENV", help="hold out these together, in every job"
    )
    group.add_argument("--split", help=f"one of {', '.join(SPLIT_MODES)} (default: train's)")
    data_options.add_arguments(group)
    data_options.add_leakage_argument(group)
    group.add_argument("--checkpoint_freq", type=int, help="steps between records (default: the dataset's)")
    group.add_argument("--skip_model_save", action=argparse.BooleanOptionalAction, help="write no weights")
    group = parser.add_argument_group("how to run them")
    group.add_argument(
        "--command_launcher",
        default="local",
        help="; ".join(f"{info.name}: {info.summary}" for info in LAUNCHERS),
    )
    group.add_argument("--n_workers", type=int, help="jobs at a time (local: 1, multi_gpu: one a GPU)")
    group.add_argument(
        "--retry",
        action="store_true",
        help="launch also jobs that failed, from their last checkpoint, and folders of DomainBed's, from the start",
    )
    group.add_argument(
        "--skip_confirmation", action="store_true", help="do not ask before starting or deleting"
    )
    group.add_argument(
        "--dry-run", action="store_true", help="print the jobs and their commands; change nothing"
    )


def run(args: argparse.Namespace) -> int:
    """Do one of the three."""
    _fill_defaults(args)
    _check(args)
    jobs = [Job(train_args, args.output_dir) for train_args in _train_args(args)]
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
    again = [job for job, state in listed if _is_relaunched(job, state, args.retry)]
    jobs = again + [job for job, state in listed if state is State.NOT_LAUNCHED]
    left = sum(state in (State.FAILED, State.INCOMPLETE) for _, state in listed) - len(again)
    if again:
        print(f"{len(again)} jobs go on from their last checkpoint.")
    if left:
        print(f"{left} jobs failed or are incomplete and stay as they are; --retry starts them again.")
    print(f"About to launch {len(jobs)} jobs.")
    if not jobs:
        return 0
    if not _confirmed(args):
        return 0
    launch = load(LAUNCHERS.get(args.command_launcher).target)
    commands = {job.output_dir: job for job in jobs}
    print("Launching...")
    print("Making job directories:", flush=True)
    failures, skipped, stopped = [], 0, 0
    outcomes = launch(
        [job.command(retry=index < len(again)) for index, job in enumerate(jobs)],
        Options(args.n_workers, preload=_PRELOAD),
    )
    with _terminated_like_interrupted(), contextlib.closing(outcomes), _progress(args, len(jobs)) as bar:
        for outcome in outcomes:
            skipped += outcome.skipped
            stopped += outcome.stopped
            if outcome.failed:
                failures.append((commands[outcome.command.output_dir], outcome))
            if bar is not None:
                bar.set_postfix(failed=len(failures), refresh=False)
                bar.update()
    print(f"Launched {len(jobs) - skipped} jobs!")
    if skipped:
        print(f"{skipped} jobs were left to another launch of this sweep.")
    if stopped:
        print(f"{stopped} jobs were told to stop; the same command goes on with them.")
    for job, outcome in failures:
        print(failure_line(job, outcome.exit_code, outcome.note), file=sys.stderr)
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
    print(f"About to delete {len(jobs)} jobs.")
    if not jobs:
        return 0
    if not _confirmed(args):
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


def _confirmed(args: argparse.Namespace) -> bool:
    if args.skip_confirmation:
        return True
    if not sys.stdin.isatty():
        raise RogaError("cannot ask for confirmation: stdin is no terminal. Pass --skip_confirmation")
    if input("Are you sure? (y/n) ").lower().startswith("y"):
        return True
    print("Nevermind!")
    return False


@contextlib.contextmanager
def _progress(args: argparse.Namespace, n_jobs: int) -> Iterator:
    if args.command_launcher == "dummy":
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


#: What holds where neither the command line nor a preset says anything; None for all others.
_DEFAULTS = {
    "task": TASKS[0],
    "n_hparams_from": 0,
    "n_hparams": 20,
    "n_trials": 3,
    "holdout_fraction": 0.2,
    "single_test_envs": False,
    "skip_model_save": False,
    "reals": TrainingOptions.reals,
    "strict": False,
    "allow_leakage": False,
}


def _fill_defaults(args: argparse.Namespace) -> None:
    preset = load_preset(args.preset) if args.preset else {}
    # The two exclude each other: given here, one replaces the other of the preset.
    for given, replaced in (("test_envs", "single_test_envs"), ("single_test_envs", "test_envs")):
        if getattr(args, given) is not None:
            preset.pop(replaced, None)
    for name in ARGUMENTS:
        if getattr(args, name) is None:
            setattr(args, name, preset.get(name, _DEFAULTS.get(name)))
    if args.algorithms is None:
        args.algorithms = _available(ALGORITHMS)
    if args.datasets is None:
        args.datasets = [name for name in _available(DATASETS) if "Debug" not in name]


def _available(registry: Registry) -> list[str]:
    """The names this backend can run: those without a target are in an upstream checkout alone."""
    everything = backend.host().name == "upstream"
    return [info.name for info in registry if everything or info.target is not None]


def _check(args: argparse.Namespace) -> None:
    """Refuse everything that would fail later, all faults at once."""
    problems = Problems()
    for registry, names in ((DATASETS, args.datasets), (ALGORITHMS, args.algorithms)):
        available = set(_available(registry))
        for name in dict.fromkeys(names):
            if name not in registry:
                problems.add(unknown_name(registry.kind, name, registry.names()))
            elif name not in available:
                problems.add(
                    f"{registry.kind} {name!r} is in upstream DomainBed alone: set DOMAINBED_HOME to a checkout"
                )
    if args.command_launcher not in LAUNCHERS:
        problems.add(unknown_name(LAUNCHERS.kind, args.command_launcher, LAUNCHERS.names()))
    if args.task not in TASKS:
        problems.add(unknown_name("task", args.task, TASKS))
    if args.split is not None and args.split not in SPLIT_MODES:
        problems.add(unknown_name("split", args.split, SPLIT_MODES))
    for message in _training_options(args).problems(args.split):
        problems.add(message)
    for name in ("n_trials", "n_hparams", "steps", "checkpoint_freq", "n_workers"):
        value = getattr(args, name)
        if value is not None and value < 1:
            problems.add(f"--{name} must be at least 1; got {value}")
    if not 0 <= args.n_hparams_from < max(args.n_hparams, 1):
        problems.add(f"--n_hparams_from must be from 0 to below --n_hparams; got {args.n_hparams_from}")
    if not 0 < args.holdout_fraction < 1:
        problems.add(f"--holdout_fraction must be between 0 and 1; got {args.holdout_fraction}")
    runs = args.command == "launch" and not args.dry_run and args.command_launcher != "dummy"
    _check_hparams(args, problems, by_name=runs)
    known = [DATASETS.get(name) for name in dict.fromkeys(args.datasets) if name in DATASETS]
    if args.test_envs is not None and args.single_test_envs:
        problems.add("--test_envs and --single_test_envs exclude each other")
    for info in known:
        if args.test_envs is not None:
            for message in test_env_problems(args.test_envs, info.environments):
                problems.add(f"{info.name}: {message}")
        elif len(info.environments) < 3 and not args.single_test_envs:
            problems.add(f"{info.name} has too few environments to hold out pairs: use --single_test_envs")
    needy = [info.name for info in known if info.needs_data_dir]
    if needy and args.data_dir is None:
        problems.add(f"--data_dir is required for {', '.join(needy)}")
    if runs and args.data_dir is not None and not Path(args.data_dir).is_dir():
        problems.add(f"--data_dir {args.data_dir!r} is not a folder")
    if Path(args.output_dir).exists() and not Path(args.output_dir).is_dir():
        problems.add(f"--output_dir {args.output_dir!r} is not a folder")
    problems.check()


def _check_hparams(args: argparse.Namespace, problems: Problems, by_name: bool) -> None:
    """Check ``--hparams``: its syntax, and ``by_name`` that every algorithm has what it names."""
    try:
        overrides = hparams.parse_overrides(args.hparams)
    except RogaError as error:
        problems.add(str(error))
        return
    if not overrides or not by_name:
        return
    from roga_domainbed.trainer.config import TrainConfig
    from roga_domainbed.trainer.hyperparameters import resolve_hparams
    from roga_domainbed.upstream import bridge  # torch: a launch needs it anyway, a dry run does not

    host = bridge.register()
    concerned: dict[str, list[str]] = {}
    for algorithm in dict.fromkeys(args.algorithms):
        found = Problems()
        for dataset in dict.fromkeys(args.datasets):
            config = TrainConfig(algorithm=algorithm, dataset=dataset, hparams=args.hparams)
            resolve_hparams(config, host, found)
        for message in dict.fromkeys(found.messages):
            # Each algorithm knows other names; one line a misspelt one is enough.
            concerned.setdefault(message.partition("; known:")[0], []).append(algorithm)
    for message, algorithms in concerned.items():
        problems.add(f"{', '.join(algorithms)}: {message}")


def _training_options(args: argparse.Namespace) -> TrainingOptions:
    return TrainingOptions.of(vars(args))


def _train_args(args: argparse.Namespace) -> list[dict]:
    extra = {
        "split": args.split,
        **_training_options(args).given(),
        "allow_leakage": True if args.allow_leakage else None,
        "checkpoint_freq": args.checkpoint_freq,
        "skip_model_save": True if args.skip_model_save else None,
    }
    return make_args_list(
        args.n_trials,
        args.datasets,
        args.algorithms,
        args.n_hparams_from,
        args.n_hparams,
        args.steps,
        args.data_dir,
        args.task,
        args.holdout_fraction,
        args.single_test_envs,
        args.hparams,
        test_envs=args.test_envs,
        extra=extra,
    )
