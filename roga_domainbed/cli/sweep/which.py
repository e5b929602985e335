"""Which jobs a sweep command is about: its arguments and presets, or what the sweep's folder knows."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from roga_domainbed.catalog import ALGORITHMS, DATASETS
from roga_domainbed.catalog.hparams import parse_overrides
from roga_domainbed.catalog.values import arguments_of, shown
from roga_domainbed.cli import data_options
from roga_domainbed.cli.checkout_names import available, check_names
from roga_domainbed.cli.row_hparams import check_hparams
from roga_domainbed.cli.sweep.places import option_fields
from roga_domainbed.errors import Problems, RogaError, unknown_name
from roga_domainbed.foreign import Malformed, parse_yaml
from roga_domainbed.host import backend
from roga_domainbed.launch import LAUNCHERS, MOST_WORKERS, Job
from roga_domainbed.sweep.checked import checked
from roga_domainbed.sweep.folder import PLAN_FILE, jobs_by_their_files, stored_plans, sweep_folder_problem
from roga_domainbed.sweep.halving import Halving
from roga_domainbed.sweep.plan import HELD_OUT, Plan, load_preset
from roga_domainbed.trainer import trackers

#: The fields of ``Plan`` that upstream's sweep has as flags.
UPSTREAMS = (
    "datasets algorithms task n_hparams_from n_hparams data_dir n_trials steps hparams holdout_fraction "
    "single_test_envs"
).split()
OURS = (
    "test_envs",
    "train_envs",
    "single_train_envs",
    "split",
    "checkpoint_freq",
    "skip_model_save",
    "eval_parts",
)
#: The rules that tables are read by; only the second needs jobs that hold out pairs.
SELECTION_RULES = ("iid", "loo", "oracle", "last")
PLAN_NAMES = (*UPSTREAMS, *OURS, *data_options.NAMES)


def are_given(args: argparse.Namespace) -> bool:
    """Whether the command line says which jobs there are."""
    names = ("preset", "set", "select", *PLAN_NAMES)
    return any(getattr(args, name) not in (None, []) for name in names)


def plans_and_jobs(args: argparse.Namespace, problems: Problems) -> tuple[list[Plan], list[Job]]:
    """The plans whose jobs are meant; without one in the folder, its jobs themselves.

    Raises:
        RogaError: neither the arguments nor the folder say which jobs there are.
    """
    if are_given(args):
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
    """The plan of the preset, if there is one, with ``--set`` and the other arguments over it."""
    values = load_preset(args.preset, problems) if args.preset else {}
    values |= _set(args.set, values.get("hparams"), problems)
    # They say together what is held out: one that is given here replaces all of the preset.
    if any(getattr(args, name) is not None for name in HELD_OUT):
        for name in (*HELD_OUT, "test_envs_of", "train_envs_of"):
            values.pop(name, None)
    values |= {name: getattr(args, name) for name in PLAN_NAMES if getattr(args, name) is not None}
    if not any(name in values for name in (*HELD_OUT, "test_envs_of", "train_envs_of")):
        # Pairs of held-out environments are most of DomainBed's jobs, and one selection rule alone reads them.
        values["single_test_envs"] = "loo" not in args.select
    plan = Plan(**values)
    if plan.algorithms is None and not plan.rows:
        plan.algorithms = available(ALGORITHMS)
    if plan.datasets is None:
        plan.datasets = [name for name in available(DATASETS) if "Debug" not in name]
    return plan


def _set(given: Sequence[str], hparams: str | None, problems: Problems) -> dict[str, Any]:
    """What ``--set KEY=VALUE`` gives; ``hparams.NAME`` is one of the hyper-parameters, over those of ``hparams``."""
    values: dict[str, Any] = {}
    own: dict[str, Any] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals:
            problems.add(f"--set {text!r}: expected KEY=VALUE, such as n_trials=5 or hparams.lr=0.001")
            continue
        try:
            read = parse_yaml(value)
        except Malformed as error:
            problems.add(f"--set {key}: {error}")
            continue
        if key.startswith("hparams."):
            own[key.removeprefix("hparams.")] = read
        else:
            values[key] = json.dumps(read) if key == "hparams" and isinstance(read, dict) else read
    found = checked(values, arguments_of(Plan), "--set ", problems)
    if own:
        found["hparams"] = json.dumps({**parse_overrides(found.get("hparams", hparams)), **own})
    return found


def check(args: argparse.Namespace, plans: list[Plan], problems: Problems) -> None:
    """Refuse everything that would fail later, all faults at once."""
    launcher = None
    if args.command_launcher not in LAUNCHERS:
        problems.add(unknown_name(LAUNCHERS.kind, args.command_launcher, LAUNCHERS.names()))
    elif args.command in ("launch", "retry"):
        launcher = LAUNCHERS.get(args.command_launcher)
        if not launcher.runs and not args.dry_run and backend.host().name != "upstream":
            problems.add(
                f"--command_launcher {launcher.name} prints commands of DomainBed's own train, which need a checkout: "
                "set DOMAINBED_HOME, or use --dry-run, which prints those of roga-domainbed"
            )
        problem = sweep_folder_problem(args.output_dir)
        if problem is not None:
            problems.add(f"--output_dir {args.output_dir!r} {problem}")
    for name in ("n_workers", "jobs_per_gpu"):
        number = getattr(args, name)
        if number is not None and not 1 <= number <= MOST_WORKERS:
            problems.add(f"--{name} must be at least 1 and at most {MOST_WORKERS}; got {shown(number)}")
    option_fields(args, problems)
    if args.halving is not None:
        Halving(args.halving).check(problems)
        if args.command_launcher == "slurm" and not args.wait:
            problems.add("--halving judges jobs as they end: give --wait, too, or another launcher")
    unknown = [name for name in args.track or () if name not in trackers.NAMES]
    for message in (
        *(unknown_name("tracker", name, trackers.NAMES) for name in unknown),
        *trackers.problems(args.track or ()),
    ):
        problems.add(message)
    for rule in args.select:
        if rule not in SELECTION_RULES:
            problems.add(unknown_name("selection rule", rule, SELECTION_RULES))
    if "loo" in args.select and any(plan.single_test_envs for plan in plans):
        problems.add("--select loo needs the pairs of environments that single_test_envs leaves out")
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
