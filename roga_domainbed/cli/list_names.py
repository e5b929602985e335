"""List the algorithms, datasets and backbones, or the hyper-parameters of one algorithm.

    $ roga-domainbed list --algorithm SAM --dataset SynthFake
    Hyper-parameters of SAM on SynthFake: default, random draws, meaning
      ...
      rho        | 0.02 | 0.0103  0.0216  0.0125  0.0158  0.169 | radius of the perturbation
      optimizer  | adam |                                       | base optimizer (adam, adamw, sgd)
    It also takes these from --hparams, and a record has them if they are given: default, meaning
      ...
      warmup_steps   | 0    | first steps, in which the learning rate rises linearly to its full value

Without arguments: the names that --algorithm, --dataset and the hparam 'backbone' take.
"""

from __future__ import annotations

import argparse

from roga_domainbed.catalog import ALGORITHMS, BACKBONES, DATASETS, OPTIMIZER_HPARAMS
from roga_domainbed.catalog.algorithms import IDEAS
from roga_domainbed.catalog.hparams import HParam
from roga_domainbed.catalog.registry import Registry
from roga_domainbed.cli.checkout_names import add_checkout_names, available
from roga_domainbed.errors import Problems, unknown_name
from roga_domainbed.host import backend
from roga_domainbed.results.text_table import text_table

_N_DRAWS = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to list."""
    parser.add_argument("--algorithm", help="show the hyper-parameters of this algorithm")
    parser.add_argument("--dataset", help="on this dataset (default SynthFake)")


def run(args: argparse.Namespace) -> int:
    """Print the names, or one algorithm's hyper-parameters."""
    add_checkout_names()
    problems = Problems()
    for registry, name in ((ALGORITHMS, args.algorithm), (DATASETS, args.dataset)):
        if name is not None and name not in registry:
            problems.add(unknown_name(registry.kind, name, registry.names()))
        elif name is not None and backend.host().home is not None and name not in available(registry):
            problems.add(f"the DomainBed checkout {backend.host().home} has no {registry.kind} {name!r}")
    if args.dataset is not None and args.algorithm is None:
        problems.add("--dataset goes with --algorithm, whose hyper-parameters on it are shown")
    problems.check()
    if args.algorithm is None:
        _print_names()
    else:
        _print_hparams(args.algorithm, args.dataset or "SynthFake")
    return 0


def _print_names() -> None:
    print("Algorithms")
    here = [ALGORITHMS.get(name) for name in available(ALGORITHMS)]
    for idea in (*IDEAS, ""):
        group = [info for info in here if info.idea == idea]
        if group:
            print(f"  {idea or 'others'}")
        for info in group:
            reference = f"  [{info.reference}]" if info.reference else ""
            print(f"    {info.name:<16} {info.summary}{reference}")
    print(
        f'  averaging\n    {"any of them":<16} of averaged weights: --hparams \'{{"averaging": "swad"}}\', or ema'
    )
    _print_elsewhere(ALGORITHMS, here)
    print("\nDatasets, with their environments in index order")
    here = [DATASETS.get(name) for name in available(DATASETS)]
    for info in here:
        print(f"  {info.name:<16} {info.summary}")
        print(f"  {'':<16} {'  '.join(f'{i} {name}' for i, name in enumerate(info.environments))}")
    _print_elsewhere(DATASETS, here)
    print("\nBackbones, for --hparams '{\"backbone\": NAME}'")
    for info in BACKBONES:
        size = f" ({info.n_weights:,} weights)" if info.n_weights else ""
        print(f"  {info.name:<18} {info.summary}{size}")
    print(
        f"  {'any timm name':<18} for example convnext_tiny; with a tag, such as resnet34.a1_in1k, other weights"
    )


def _print_elsewhere(registry: Registry, here: list) -> None:
    rest = [info.name for info in registry if info not in here]
    home = backend.host().home
    if rest and home is None:
        print(f"  With a DomainBed checkout in DOMAINBED_HOME also: {', '.join(rest)}")
    elif rest:
        print(f"  Not in the DomainBed checkout {home}: {', '.join(rest)}")


def _print_hparams(algorithm: str, dataset: str) -> None:
    from roga_domainbed.engine.hparams_registry import specs
    from roga_domainbed.trainer.config import TrainConfig
    from roga_domainbed.trainer.hyperparameters import declared_hparams
    from roga_domainbed.upstream import (
        bridge,  # torch: an algorithm declares its hyper-parameters beside its code
    )

    host = bridge.register()
    registry = host.hparams_registry
    declared = {spec.name: spec for spec in specs(algorithm, dataset)}
    draws = [registry.random_hparams(algorithm, dataset, seed) for seed in range(1, _N_DRAWS + 1)]
    defaults = registry.default_hparams(algorithm, dataset)
    print(f"Hyper-parameters of {algorithm} on {dataset}: default, random draws, meaning")
    rows = []
    for name, default in defaults.items():
        values = list(dict.fromkeys(_short(draw[name]) for draw in draws))
        shown = "" if values == [_short(default)] else "  ".join(values)
        rows.append([f"  {name}", _short(default), shown, _meaning(declared.get(name))])
    print(text_table(rows, n_left=4, gap=" | "), end="")
    print("It also takes these from --hparams, and a record has them if they are given: default, meaning")
    rows = []
    for spec in declared_hparams(TrainConfig(algorithm=algorithm, dataset=dataset), host).values():
        unused = spec in OPTIMIZER_HPARAMS and host.home is not None  # by the classes of a checkout
        if spec.name not in defaults and not unused:
            rows.append([f"  {spec.name}", _short(spec.default), _meaning(spec)])
    print(text_table(rows, n_left=3, gap=" | "), end="")


def _meaning(spec: HParam | None) -> str:
    if spec is None:
        return ""
    choices = ", ".join(str(choice) for choice in spec.choices if choice != "")
    return f"{spec.meaning} ({choices})" if choices else spec.meaning


def _short(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
