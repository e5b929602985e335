"""Check prepared data against its manifest, and count it.

    $ roga-domainbed data verify ~/data --dataset FFPP
    FFPP: 224 frames in the manifest, 128 files, /home/you/data/FFPP
      size in pixels: 256x256: 128
      no fault: the files match the manifest
    $ roga-domainbed data stats ~/data --dataset FFPP

verify decodes every file and names those that are missing, damaged, in the wrong folder, not in the manifest, or copies
of another class or split; the exit status is 1 if there are any. stats counts images, videos, recordings and people by
environment and split. Neither changes a file. For a dataset combined from several trees, both take all of them.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence
from pathlib import Path

from roga_domainbed.catalog import DATASETS
from roga_domainbed.errors import Problems, RogaError, unknown_name
from roga_domainbed.processes import usable_cpus


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``verify`` and ``stats``."""
    actions = parser.add_subparsers(dest="action", metavar="verify|stats", required=True)
    verify = _add_action(
        actions, "verify", "check that every file is there, readable, of its class, and no copy of another"
    )
    verify.add_argument("--all", action="store_true", help="name all faults, not the first 20 of each kind")
    verify.add_argument(
        "--n_workers",
        type=int,
        default=usable_cpus(),
        help="processes; default: the usable CPUs (%(default)s)",
    )
    _add_action(actions, "stats", "count images, videos and people by environment and split")


def _add_action(actions: argparse._SubParsersAction, name: str, summary: str) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=summary, description=summary)
    parser.add_argument("data_dir", help="folder that contains the dataset's folder")
    parser.add_argument(
        "--dataset", nargs="+", metavar="NAME", help="default: every prepared one in DATA_DIR"
    )
    return parser


def run(args: argparse.Namespace) -> int:
    """Run the action; 1 if verify finds a fault."""
    problems = Problems()
    names = _trees(args, problems)
    if args.action == "verify" and args.n_workers < 1:
        problems.add(f"--n_workers must be at least 1; got {args.n_workers}")
    problems.check()
    return {"verify": _verify, "stats": _stats}[args.action](args, names)


def _trees(args: argparse.Namespace, problems: Problems) -> list[str]:
    """The names of the trees in ``data_dir`` that --dataset names."""
    from datasets_ext.trees import trees_in

    there = trees_in(args.data_dir)
    if not args.dataset:
        if not there:
            problems.add(f"no prepared dataset in {args.data_dir!r}; 'roga-domainbed prepare' makes one")
        return there
    names = list(dict.fromkeys(part for name in args.dataset for part in _parts(name, there)))
    known = dict.fromkeys([*there, *(info.name for info in DATASETS if info.plugin)])
    for name in names:
        if name in args.dataset and name not in known:
            problems.add(unknown_name("dataset", name, known))
        elif name not in there:
            problems.add(
                f"{name} is not prepared in {args.data_dir!r}; there is {', '.join(there) or 'nothing'}"
            )
    return names


def _parts(name: str, there: Collection[str]) -> Sequence[str]:
    """The trees of a registered dataset; for any other name the name itself."""
    if name in there or name not in DATASETS or not DATASETS.get(name).plugin:
        return [name]
    return DATASETS.get(name).trees


def _verify(args: argparse.Namespace, names: list[str]) -> int:
    from datasets_ext.verify import verify

    n_failed = 0
    for name in names:
        environments = DATASETS.get(name).environments if name in DATASETS else ()
        try:
            found = verify(Path(args.data_dir, name), environments, args.n_workers)
        except RogaError as error:  # go on with the other trees
            print(f"{name}: {error}")
            n_failed += 1
        else:
            print(found.text(None) if args.all else found.text())
            n_failed += bool(found.faults)
    return 1 if n_failed else 0


def _stats(args: argparse.Namespace, names: list[str]) -> int:
    from datasets_ext import manifest, stats

    problems, tables = Problems(), {}
    for name in names:
        rows = manifest.read(Path(args.data_dir, name))
        faults = list(manifest.problems(rows, name))
        for fault in faults:
            problems.add(fault)
        if not faults:
            tables[name] = stats.summarize(rows)
    problems.check()
    print("\n\n".join(f"{name}\n{stats.as_text(table)}" for name, table in tables.items()))
    return 0
