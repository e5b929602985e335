r"""Run one of DomainBed's own scripts, unmodified, with the plugin in it.

SCRIPT is a script of the checkout: train, sweep, collect_results, list_top_hparams, train_autolr, …; what follows
is passed to it. Our algorithms, datasets, backbones and launchers are known to it, and the jobs that its sweep
starts come back through this command.

    $ roga-domainbed upstream train --data_dir data --dataset SynthFake --algorithm RoGA --test_envs 3
    $ roga-domainbed upstream sweep launch --data_dir data --output_dir out --command_launcher local \
          --datasets SynthFake --algorithms ERM CORAL RoGA --n_trials 1 --n_hparams 1 --skip_confirmation
    $ roga-domainbed upstream collect_results --input_dir out

Three things are ours. Datasets with a manifest are split officially, or as --split official|group|frame says; frame is
stock behaviour. What trains is compared with what is tested on, and a leak is refused unless --allow-leakage is given.
--split, --reals, --balance, --strict, --label_noise, --train_fraction (see 'train --help') and --allow-leakage are, for
train and sweep, short forms of --hparams '{"split": …}', so a sweep with another split has other job folders. And sweep
has more launchers: ours are roga_local and roga_multi_gpu, with warm workers.

The script needs a checkout: DOMAINBED_HOME. Nothing in it is changed.
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets_ext import trees
from datasets_ext.training_options import REALS, TrainingOptions
from roga_domainbed.catalog import AVERAGING_HPARAMS, DATASETS, INPUT_HPARAMS, SCHEDULE_HPARAMS
from roga_domainbed.catalog.datasets import SPLIT_MODES
from roga_domainbed.catalog.hparams import parse_overrides
from roga_domainbed.catalog.values import arguments_of, check_arguments
from roga_domainbed.cli import data_options
from roga_domainbed.errors import Problems, RogaError, unknown_name
from roga_domainbed.host import backend
from roga_domainbed.upstream.own_optimizer import optimizer_refusal

#: The scripts that split data, and so take --split.
_SPLITTING = ("train", "sweep")
_SHARES = tuple(arguments_of(TrainingOptions))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The script; everything after it belongs to it."""
    parser.add_argument("script", metavar="SCRIPT", help="name of a file in domainbed/scripts, without .py")
    parser.add_argument("arguments", metavar="...", nargs=argparse.REMAINDER, help="the script's own")


def run(args: argparse.Namespace) -> int:
    """Run the script in this process; its exit status."""
    host = backend.host()
    if host.home is None:
        raise RogaError(
            "this runs DomainBed's own scripts and needs a checkout: git clone "
            "https://github.com/facebookresearch/DomainBed, then set DOMAINBED_HOME to that folder. Without one, "
            "'roga-domainbed train', 'sweep' and 'collect-results' do the same"
        )
    known = _scripts(host.home)
    if args.script not in known:
        raise RogaError(unknown_name("script", args.script, known))
    arguments = list(args.arguments)
    if args.script in _SPLITTING:
        arguments = _data_options_as_hparams(arguments)
    os.environ["DOMAINBED_HOME"] = str(host.home)  # the jobs of a sweep must find the same one

    from roga_domainbed.upstream import bridge  # torch

    ours = _parse(arguments)
    trees.add(ours.data_dir, ours.datasets)
    bridge.register()
    _check_names(ours)
    _check_values(ours)
    if args.script == "train":
        from roga_domainbed.upstream.splits import StockSplits

        bridge.use_stock_splits(StockSplits(ours.trial_seed, ours.holdout_fraction), ours.datasets)
    return _run_script(args.script, arguments)


def _check_names(ours: argparse.Namespace) -> None:
    """Name what is misspelt: upstream raises a bare NotImplementedError, a sweep only in each of its jobs."""
    problems, host = Problems(), backend.host()
    for kind, names, module, known in (
        ("dataset", ours.datasets, host.datasets, host.datasets.DATASETS),
        ("algorithm", ours.algorithms, host.algorithms, host.algorithms.ALGORITHMS),
    ):
        for name in names:
            if name not in vars(module):
                problems.add(unknown_name(kind, name, known))
    problems.check()


def _check_values(ours: argparse.Namespace) -> None:
    """Check the hyper-parameters that are ours: upstream's scripts take any value, and any name."""
    from roga_domainbed.upstream.bridge import plugin_hparams

    problems = Problems()
    overrides = parse_overrides(ours.hparams)
    of_our_trainer = [spec.name for spec in (*INPUT_HPARAMS, *SCHEDULE_HPARAMS, *AVERAGING_HPARAMS)]
    for name in ("normalize", *of_our_trainer):
        if name in overrides:
            problems.add(
                f"hparam {name!r} is for 'roga-domainbed train' and 'sweep', which have our trainer; DomainBed's "
                "own would ignore it"
            )
    host = backend.host()
    for algorithm in ours.algorithms or ["ERM"]:  # train's default, and among the sweep's
        own = host.hparams_registry.default_hparams(algorithm, "Debug28")
        refusal = optimizer_refusal(algorithm, overrides, own, host)
        if refusal is not None:
            problems.add(f"{algorithm}: {refusal}")
    declared = (spec for algorithm in ours.algorithms for spec in plugin_hparams(algorithm, dataset=""))
    for spec in dict.fromkeys(declared):
        try:
            spec.checked(overrides.get(spec.name, spec.default))
        except ValueError as error:
            problems.add(f"hparam {spec.name!r} {error}")
    problems.check()


def _run_script(script: str, arguments: Sequence[str]) -> int:
    before = sys.argv, sys.stdout, sys.stderr
    sys.argv = [script, *arguments]
    try:
        runpy.run_module(f"domainbed.scripts.{script}", run_name="__main__", alter_sys=True)
    except SystemExit as error:  # a script may end as it likes; a module of the checkout may not
        if not isinstance(error.code, (int, type(None))):
            raise
        return error.code or 0
    except TypeError:
        if not {"-h", "--help"} & set(arguments):
            raise
        raise RogaError(
            f"the help text of DomainBed's {script} holds a bare '%', which Python's argparse refuses; "
            f"'roga-domainbed {script} --help' explains the same flags"
        ) from None
    finally:
        # Upstream's train replaces both streams, and never gives them back.
        sys.argv, sys.stdout, sys.stderr = before
    return 0


def _scripts(home: Path) -> list[str]:
    files = (home / "domainbed" / "scripts").glob("*.py")
    return sorted(path.stem for path in files if path.stem != "__init__")


def _data_options_as_hparams(arguments: list[str]) -> list[str]:
    """Upstream's arguments with ``--split MODE`` and our other flags for the data turned into entries of ``--hparams``.

    Raises:
        RogaError: an unknown value, or one that a named dataset cannot have.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--split")
    data_options.add_arguments(parser)
    data_options.add_share_arguments(parser)
    data_options.add_leakage_argument(parser)
    try:
        flags, rest = parser.parse_known_args(arguments)
    except argparse.ArgumentError as error:
        allowed = {"--split": SPLIT_MODES, "--reals": REALS, "--balance": ("1:1", "1:4", "…")}
        values = allowed.get(error.argument_name, ("a share such as 0.4",))
        raise RogaError(f"{error.argument_name} needs a value: {', '.join(values)}") from None
    given = {name: value for name, value in vars(flags).items() if value is not None}
    ours = _parse(rest)
    overrides = parse_overrides(ours.hparams)
    for name in _SHARES:  # the default makes no other job
        if name not in overrides and given.get(name) == getattr(TrainingOptions, name):
            del given[name]
    problems = Problems()
    for name, value in given.items():
        if overrides.get(name, value) != value:
            problems.add(f"--{name} {value} and --hparams {ours.hparams} contradict each other")
    _check_data_options({**overrides, **given}, ours.datasets, problems)
    problems.check()
    if not given:
        return rest
    without = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    without.add_argument("--hparams")
    return [*without.parse_known_args(rest)[1], "--hparams", json.dumps({**overrides, **given})]


def _check_data_options(values: dict[str, Any], datasets: Sequence[str], problems: Problems) -> None:
    """Add what is wrong with the hyper-parameters that are ours, and what ``datasets`` cannot have."""
    mode = values.get("split")
    if mode is not None and mode not in SPLIT_MODES:
        problems.add(unknown_name("split", str(mode), SPLIT_MODES))
    for name in ("strict", "allow_leakage"):
        if not isinstance(values.get(name, False), bool):
            problems.add(f"hparam {name!r} must be true or false; got {values[name]!r}")
    options = TrainingOptions.of(values)
    check_arguments(values, arguments_of(TrainingOptions), problems)
    for message in options.problems(mode):
        problems.add(message)
    needy = [f"--{name}" for name in options.of_manifest.given()]
    if mode in SPLIT_MODES and mode != "frame":
        needy.insert(0, f"--split {mode}")
    for name in datasets if needy else ():
        if not (name in DATASETS and DATASETS.get(name).plugin):
            verb = "needs" if len(needy) == 1 else "need"
            problems.add(f"{', '.join(needy)} {verb} a manifest, which {name} does not have; it knows frame")


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    """What we have to know of upstream's arguments; everything else, and every fault, is left to upstream."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--hparams")
    parser.add_argument("--data_dir")
    parser.add_argument("--dataset", "--datasets", dest="datasets", nargs="+", default=[])
    parser.add_argument("--algorithm", "--algorithms", dest="algorithms", nargs="+", default=[])
    parser.add_argument("--trial_seed", type=int, default=0)
    parser.add_argument("--holdout_fraction", type=float, default=0.2)
    try:
        return parser.parse_known_args(arguments)[0]
    except argparse.ArgumentError:
        return parser.parse_args([])
