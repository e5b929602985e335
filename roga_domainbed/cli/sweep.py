r"""Launch, watch and clean up many trainings.

A sweep trains every combination of trial, dataset, algorithm, test environments and hyper-parameter seed. Each is a
job with a folder of its own.

  launch             run the jobs that have no folder yet, and resume those that were stopped or killed
  status             count jobs by dataset, algorithm and state, and name those that failed
  delete_incomplete  delete the folders of unfinished jobs that are not running
  pack               write the records and scores of all jobs as two Parquet files, with the plan, into the folder --to
  unpack             make the folders of the done jobs that are packed in the folder --from

The arguments say which jobs there are. launch keeps them in the sweep's folder (plan.json), so later commands need
--output_dir alone. A job's folder is a hash of its train arguments, as in DomainBed. An optional argument counts only
if it is given.

--single_train_envs trains on each environment alone and holds out all others, --train_envs 0 1 on these two together;
--single_test_envs and --test_envs say instead what is held out.

A preset is a YAML file of these arguments. It may also name rows, to compare settings of one algorithm in one sweep;
result tables then have a line for each row, beside those of "algorithms":

  rows:
    - {name: "SAM, rho 0.05", algorithm: SAM, hparams: {rho: 0.05}}
    - {name: "SAM, rho 0.1", algorithm: SAM, hparams: {rho: 0.1}}

--hparams are for every row. One that a row's algorithm lacks belongs into the hparams of the rows that have it.

  $ roga-domainbed sweep status --output_dir out
  Dataset    Algorithm  done  running  failed  incomplete  not launched  jobs
  SynthFake  ERM           4        0       0           0             0     4
  SynthFake  RoGA          2        1       1           0             0     4
  total                    6        1       1           0             0     8
  Job 1f3a9c (SynthFake, RoGA, test envs [2]) exited with 137; log: out/1f3a9c…/job.log

A packed sweep is small enough to commit, and collect-results, report and status read it like the folders. Models,
checkpoints and logs are not in it. To go on with a sweep on another machine, unpack it there and launch: what was done
is not launched again, what was not done starts anew.

  $ roga-domainbed sweep pack --output_dir out --to packed
  $ roga-domainbed report --input_dir packed
  $ roga-domainbed sweep unpack --from packed --output_dir out2
  $ roga-domainbed sweep launch --output_dir out2

launch exits with 0 if all jobs are done, with 75 if those that are not were told to stop (SIGTERM, SIGUSR1), and with 1
otherwise.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from roga_domainbed.catalog import ALGORITHMS, DATASETS
from roga_domainbed.catalog.registry import load
from roga_domainbed.catalog.values import shown
from roga_domainbed.cli import arguments, data_options
from roga_domainbed.cli.checkout_names import add_checkout_names, available, check_names
from roga_domainbed.cli.lasting import lasting_output
from roga_domainbed.cli.row_hparams import check_hparams
from roga_domainbed.errors import Problems, RogaError, unknown_name
from roga_domainbed.foreign import one_line
from roga_domainbed.host import backend
from roga_domainbed.launch import LAUNCHERS, MOST_WORKERS, Job, LauncherInfo, Options, Outcome
from roga_domainbed.launch.folders import delete_unfinished
from roga_domainbed.launch.job import UNFINISHED, State, failure_line
from roga_domainbed.launch.jobfile import STOPPED
from roga_domainbed.processes import STOP_SIGNALS
from roga_domainbed.results.packed import PackedRun, packed_runs
from roga_domainbed.results.records import is_dropped
from roga_domainbed.sweep.estimate import estimate, estimate_text
from roga_domainbed.sweep.folder import (
    PLAN_FILE,
    jobs_by_their_files,
    store_plan,
    stored_plans,
    sweep_folder_problem,
)
from roga_domainbed.sweep.halving import METRICS as HALVING_METRICS
from roga_domainbed.sweep.halving import Halving, launch_with_halving
from roga_domainbed.sweep.jobs import Launch, train_job
from roga_domainbed.sweep.plan import HELD_OUT, Plan, load_preset, preset_names
from roga_domainbed.sweep.status import job_states, status_table, summary_line, trouble_lines
from roga_domainbed.sweep.watch import EVERY_S, watch

#: What a training imports, so that jobs start warm. A module that cannot be imported is skipped.
_PRELOAD = ("torch", "torchvision", "timm", "sklearn.metrics", "roga_domainbed.trainer.run")

#: The fields of ``Plan`` that upstream's sweep has as flags.
_UPSTREAMS = (
    "datasets algorithms task n_hparams_from n_hparams data_dir n_trials steps hparams holdout_fraction "
    "single_test_envs"
).split()
_OURS = (
    "test_envs",
    "train_envs",
    "single_train_envs",
    "split",
    "checkpoint_freq",
    "skip_model_save",
    "eval_parts",
)

#: Command → its option, the folder of the packed sweep.
_PACKING = {
    "pack": ("to", "write the files here; those of an earlier pack are replaced"),
    "unpack": ("from", "where the files are"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Upstream's flags, then ours."""
    parser.usage = (
        "%(prog)s launch|status|watch|estimate|delete_incomplete|pack|unpack --output_dir FOLDER [options]"
    )
    parser.add_argument(
        "command", choices=["launch", "status", "watch", "estimate", "delete_incomplete", *_PACKING]
    )
    parser.add_argument("--output_dir", required=True, help="folder of the sweep")
    for command, (option, text) in _PACKING.items():
        parser.add_argument(f"--{option}", dest=command, metavar="FOLDER", help=f"{command}: {text}")
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
    data_options.add_share_arguments(group)
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
        "--halving",
        type=int,
        metavar="ETA",
        help="launch: at steps/ETA², steps/ETA, let the best 1/ETA of the hyper-parameter seeds go on, by validation",
    )
    group.add_argument("--halving_metric", choices=HALVING_METRICS, default=HALVING_METRICS[0])
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
    """Launch, count or delete the jobs."""
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
    plans, jobs = _plans(args, problems)
    _check(args, plans, problems)
    jobs = jobs or [
        train_job(train_args, args.output_dir) for plan in plans for train_args in plan.train_args()
    ]
    listed = job_states(jobs, args.output_dir)
    if args.command == "status":
        listed = [(job, State(packed[job.id].state) if job.id in packed else state) for job, state in listed]
        return _status(args, listed, packed)
    if args.command == "estimate":
        found = estimate(listed, _launch_of(LAUNCHERS.get(args.command_launcher), args), _default_length)
        print(estimate_text(found, args.n_workers or 1), end="")
        return int(any(one.cost is None for one in found))
    if args.command == "watch":
        watch(lambda: job_states(jobs, args.output_dir), args.every)
        return 0
    for job, state in listed:
        print(job.describe(state))
    print(summary_line(state for _, state in listed))
    if args.dry_run:
        for job, _ in listed:
            print(shlex.join(["roga-domainbed", *job.argv]))
        return 0
    if args.command == "delete_incomplete":
        return _delete_incomplete(args, listed)
    return _launch(args, plans, listed)


def _pack_or_unpack(args: argparse.Namespace, problems: Problems) -> int:
    from roga_domainbed.sweep.pack import pack, unpack  # pyarrow: no other command needs it

    other = args.pack or args.unpack
    if _are_given(args):
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
    unknown = _are_given(args) and all(state is State.NOT_LAUNCHED for _, state in listed)
    if unknown and os.path.exists(os.path.join(args.output_dir, PLAN_FILE)):
        print("None of them was launched; without other arguments --output_dir says which jobs there are.")
    return 0


def _launch(args: argparse.Namespace, plans: list[Plan], listed: list[tuple[Job, State]]) -> int:
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
    failures: list[Outcome] = []
    stopped = 0
    if jobs:
        if launcher.runs:
            known = os.path.exists(os.path.join(args.output_dir, PLAN_FILE)) and not _are_given(args)
            for plan in () if known else plans:
                store_plan(args.output_dir, plan)
        print("Launching...")
        print("Making job directories:", flush=True)
        try:
            with _stop_signals(), lasting_output():
                failures, stopped = _run(launcher, jobs, args, [job for job, _ in listed])
        except _Told as told:
            print(
                f"roga-domainbed sweep: told to stop by {told}; the same command resumes the jobs",
                file=sys.stderr,
            )
            return STOPPED
    undone = _undone(listed) if launcher.runs else []
    for outcome in failures:
        print(failure_line(outcome.job, outcome.exit_code, outcome.note), file=sys.stderr)
    if failures or len(undone) > stopped:
        return 1
    return STOPPED if stopped else 0


def _run(
    launcher: LauncherInfo, jobs: list[Job], args: argparse.Namespace, every_job: list[Job]
) -> tuple[list[Outcome], int]:
    """Run ``jobs``; the outcomes that are failures, and how many jobs were told to stop."""
    failures, skipped, stopped, dropped, waiting = [], 0, 0, 0, 0
    if args.halving and launcher.runs:
        halving = Halving(args.halving, args.halving_metric)
        outcomes = launch_with_halving(jobs, every_job, _launch_of(launcher, args), halving, _default_length)
    else:
        outcomes = _launch_of(launcher, args)(jobs)
    with contextlib.closing(outcomes), _progress(launcher, len(jobs)) as bar:
        for outcome in outcomes:
            skipped += outcome.skipped
            dropped += is_dropped(outcome.job.output_dir)
            stopped += outcome.stopped
            waiting += bool(outcome.stopped and outcome.note)
            if outcome.failed:
                failures.append(outcome)
            if bar is not None:
                bar.set_postfix(failed=len(failures), refresh=False)
                bar.update()
    print(f"Launched {len(jobs) - skipped} jobs!")
    if skipped:
        print(f"{skipped} jobs were left to another launch of this sweep.")
    if dropped:
        print(f"{dropped} jobs were dropped by successive halving.")
    if waiting:
        print(f"{waiting} jobs wait at a rung for others of their group; the same command goes on with them.")
    if stopped > waiting:
        print(f"{stopped - waiting} jobs were told to stop; the same command resumes them.")
    return failures, stopped


def _launch_of(launcher: LauncherInfo, args: argparse.Namespace) -> Launch:
    options = Options(args.n_workers, preload=_PRELOAD)
    return lambda jobs: load(launcher.target)(jobs, options)


def _default_length(dataset: str) -> tuple[int, int]:
    from roga_domainbed.trainer.length import default_length  # torch: only for jobs that are not told

    return default_length(dataset)


#: What an unfinished job waits for.
_REMEDIES = {
    State.RUNNING: "running now, started by another command",
    State.FAILED: "failed; --retry starts them again",
    State.INCOMPLETE: "incomplete; the same command resumes those of ours, --retry all",
    State.NOT_LAUNCHED: "not launched",
}


def _undone(listed: list[tuple[Job, State]]) -> list[State]:
    """The states of the jobs that are not done, after a sentence about them."""
    states = [state for job, _ in listed if (state := job.state) not in (State.DONE, State.DROPPED)]
    if states:
        counted = "; ".join(
            f"{states.count(state)} {what}" for state, what in _REMEDIES.items() if state in states
        )
        print(f"{len(states)} of {len(listed)} jobs are not done: {counted}.", file=sys.stderr)
    return states


def _is_relaunched(job: Job, state: State, retry: bool) -> bool:
    if state is State.FAILED:
        return retry
    return state is State.INCOMPLETE and (retry or job.is_ours)


def _delete_incomplete(args: argparse.Namespace, listed: list[tuple[Job, State]]) -> int:
    jobs = [job for job, state in listed if state in UNFINISHED and state is not State.RUNNING]
    running = sum(state is State.RUNNING for _, state in listed)
    if running:
        print(f"{running} jobs are running and stay.")
    if not _confirmed(args, "delete", jobs) or not jobs:
        return 0
    print("Deleting...")
    deleted, failed = 0, False
    for job in jobs:
        try:
            deleted += delete_unfinished(job.output_dir)
        except (OSError, RogaError) as error:
            failed = True
            print(f"{job.output_dir} stays: {getattr(error, 'strerror', None) or error}", file=sys.stderr)
    print(f"Deleted {deleted} jobs!")
    return int(failed)


def _confirmed(args: argparse.Namespace, verb: str, jobs: list[Job]) -> bool:
    """Say how many jobs there are to ``verb``, and ask if there are any; False if the answer is no."""
    print(f"About to {verb} {len(jobs)} jobs.")
    if not jobs or args.skip_confirmation:
        return True
    if sys.stdin is None or not sys.stdin.isatty():
        raise RogaError("cannot ask for confirmation: stdin is no terminal. Pass --skip_confirmation")
    with contextlib.suppress(EOFError):
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


class _Told(BaseException):
    """A signal told this process to stop; its name."""


@contextlib.contextmanager
def _stop_signals() -> Iterator[None]:
    """Let SIGTERM, SIGUSR1 and a closed terminal end the jobs too, as Ctrl-C does."""

    def stop(number: int, frame: object) -> None:
        raise _Told(signal.Signals(number).name)

    names = [getattr(signal, name) for name in (*STOP_SIGNALS, "SIGHUP") if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        names = []  # only the main thread may set handlers
    before = {name: signal.signal(name, stop) for name in names if name != signal.SIGINT}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


_PLAN_NAMES = (*_UPSTREAMS, *_OURS, *data_options.NAMES)


def _are_given(args: argparse.Namespace) -> bool:
    """Whether the command line says which jobs there are."""
    return args.preset is not None or any(getattr(args, name) is not None for name in _PLAN_NAMES)


def _plans(args: argparse.Namespace, problems: Problems) -> tuple[list[Plan], list[Job]]:
    """The plans whose jobs are meant; without one in the folder, its jobs themselves.

    Raises:
        RogaError: neither the arguments nor the folder say which jobs there are.
    """
    if _are_given(args):
        names_jobs = any(getattr(args, name) is not None for name in ("preset", "datasets", "algorithms"))
        if not names_jobs and os.path.exists(os.path.join(args.output_dir, PLAN_FILE)):
            raise RogaError(
                f"{os.path.join(args.output_dir, PLAN_FILE)!r} says which jobs there are: leave the arguments for them "
                "out, or give all of them, with --datasets and --algorithms or --preset"
            )
        return [_plan(args, problems)], []
    if plans := stored_plans(args.output_dir):
        return plans, []
    jobs, without = jobs_by_their_files(args.output_dir)
    if jobs:
        if without:
            print(f"Notice: {without} more folders have no readable job.json.", file=sys.stderr)
        return [], jobs
    if without or args.command != "launch":
        raise RogaError(
            f"--output_dir {args.output_dir!r} has no {PLAN_FILE} and no job.json that says which jobs there are: "
            "give the sweep's arguments, such as --datasets and --algorithms, or its --preset"
        )
    return [_plan(args, problems)], []


def _plan(args: argparse.Namespace, problems: Problems) -> Plan:
    """The plan of the preset, if there is one, with what was given on the command line over it."""
    values = load_preset(args.preset, problems) if args.preset else {}
    # They say together what is held out: one that is given here replaces all of the preset.
    if any(getattr(args, name) is not None for name in HELD_OUT):
        for name in (*HELD_OUT, "test_envs_of", "train_envs_of"):
            values.pop(name, None)
    values |= {name: getattr(args, name) for name in _PLAN_NAMES if getattr(args, name) is not None}
    plan = Plan(**values)
    if plan.algorithms is None and not plan.rows:
        plan.algorithms = available(ALGORITHMS)
    if plan.datasets is None:
        plan.datasets = [name for name in available(DATASETS) if "Debug" not in name]
    return plan


def _check(args: argparse.Namespace, plans: list[Plan], problems: Problems) -> None:
    """Refuse everything that would fail later, all faults at once."""
    launcher = None
    if args.command_launcher not in LAUNCHERS:
        problems.add(unknown_name(LAUNCHERS.kind, args.command_launcher, LAUNCHERS.names()))
    elif args.command == "launch":
        launcher = LAUNCHERS.get(args.command_launcher)
        if not launcher.runs and not args.dry_run and backend.host().name != "upstream":
            problems.add(
                f"--command_launcher {launcher.name} prints commands of DomainBed's own train, which need a checkout: "
                "set DOMAINBED_HOME, or use --dry-run, which prints those of roga-domainbed"
            )
        problem = sweep_folder_problem(args.output_dir)
        if problem is not None:
            problems.add(f"--output_dir {args.output_dir!r} {problem}")
    if args.n_workers is not None and not 1 <= args.n_workers <= MOST_WORKERS:
        problems.add(
            f"--n_workers must be at least 1 and at most {MOST_WORKERS}; got {shown(args.n_workers)}"
        )
    if args.halving is not None:
        Halving(args.halving).check(problems)
    for plan in plans:
        before = len(problems.messages)
        check_names(plan, problems)
        plan.check(problems)
        if launcher is None or not (launcher.runs or args.dry_run):
            continue
        check_hparams(plan, problems)
        if launcher.runs and len(problems.messages) == before:
            _check_data(plan, problems)
    problems.check()


def _check_data(plan: Plan, problems: Problems) -> None:
    """Look once at each dataset as its jobs will: what is wrong there, every one of them would meet."""
    if plan.data_dir and not Path(plan.data_dir).is_dir():
        problems.add(f"--data_dir {plan.data_dir!r} is not a folder")
        return
    found: dict[str, None] = {}
    needy = [f"--{option}" for option in plan.training_options.of_manifest.given()]
    needy += [f"--split {plan.split}"] * (plan.split not in (None, "frame"))
    for name in dict.fromkeys(plan.datasets or ()):
        info = DATASETS.get(name)
        absent = info.needs_data_dir and not Path(plan.data_dir or "", info.folder).is_dir()
        if absent and info.made_if_missing:
            continue
        if info.plugin:
            found |= dict.fromkeys(f"{name}: {message}" for message in _faults_of_data(plan, name))
        elif info.target is not None:  # of others only a checkout's class knows what they need
            if needy:
                found[f"{', '.join(needy)}: this needs a manifest, which {name} does not have"] = None
            if absent:
                found[
                    f"--data_dir {plan.data_dir!r} has no folder {info.folder!r}, which {name} is read from"
                ] = None
    for message in found:
        problems.add(message)


def _faults_of_data(plan: Plan, name: str) -> Iterator[str]:
    from datasets_ext.leakage import audited
    from roga_domainbed.trainer.config import TrainConfig
    from roga_domainbed.trainer.experiment import open_dataset
    from roga_domainbed.trainer.hyperparameters import resolve_hparams
    from roga_domainbed.trainer.splits import split_environments
    from roga_domainbed.upstream import bridge

    host, row = bridge.register(), plan.all_rows[0]
    config = TrainConfig(algorithm=row.algorithm, dataset=name, hparams=plan.hparams_of(row))
    hparams = resolve_hparams(config, host, Problems())
    alone = [envs for envs in plan.held_out(name) if len(envs) == 1] or plan.held_out(name)
    try:
        dataset = open_dataset(host, name, plan.data_dir, alone[0], hparams, seed=0)
    except RogaError as error:
        yield str(error)
        return
    for envs in alone:
        try:
            mode, splits = split_environments(
                dataset, plan.split, envs, 0, plan.holdout_fraction, 0, plan.training_options
            )
            pairs = [(split.in_split, split.out_split) for split in splits]
            audited(dataset, pairs, mode, envs, plan.allow_leakage)
        except RogaError as error:
            yield str(error)
