"""Repeat a table of the paper (arXiv:2505.20653): check what it needs, train its rows, compare with its numbers.

The tables are presets: table1 to table6; fig3 and fig4, whose runs 'explain' draws; and lodo, DomainBed's whole
protocol, which no table of the paper has. The head of a preset, in sweeps/, says what is trained, in how many runs and
how long.

  $ roga-domainbed reproduce table2 --data_dir data --output_dir sweeps/table2
  $ roga-domainbed sweep launch --output_dir sweeps/table2 --command_launcher local --retry --skip_confirmation
  ...
  $ roga-domainbed collect-results --input_dir sweeps/table2 --metric auc --select iid --against paper
  ...
  Row     Column      Paper  Ours        95 % interval  Difference  Paper inside
  MLDG    GID-DF ACC  67.20  ...
  DisGRL  GID-DF ACC  77.30  paper only

Before the first run, data and weights that are missing are named, all at once, with the command that makes them.
Nothing is prepared here. Stopped at any time, the same command goes on.

--smoke trains every row for two steps, on generated faces of 32 pixels in trees of the same names, with Meso-4 where a
row names no network, from random weights. It shows within minutes, without data or a GPU, that all that a table needs
works; its numbers mean nothing.

docs/paper.md says how close each table's protocol is to the paper's.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from roga_domainbed.catalog import DATASETS
from roga_domainbed.catalog.hparams import parse_overrides
from roga_domainbed.cli.checkout_names import add_checkout_names, check_names
from roga_domainbed.cli.own_command import own_command
from roga_domainbed.errors import Problems, RogaError, shortened, unknown_name
from roga_domainbed.launch import LAUNCHERS, Job
from roga_domainbed.launch.job import State
from roga_domainbed.sweep.folder import PLAN_FILE, store_plan, stored_plans, sweep_folder_problem
from roga_domainbed.sweep.jobs import train_job
from roga_domainbed.sweep.plan import Plan, load_preset, preset_names
from roga_domainbed.sweep.status import summary_line

_SMOKE = "A smoke run: its numbers mean nothing."
#: A row that names a backbone keeps it, from random weights.
_SMOKE_HPARAMS = {"backbone": "meso4", "image_size": 32, "batch_size": 4, "pretrained": False, "weights": ""}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which table, where, and how its jobs run."""
    parser.add_argument(
        "table", help="table1 to table6, fig3, fig4, lodo, another preset, or the path of a YAML file"
    )
    parser.add_argument("--data_dir", help="folder of the prepared datasets; a smoke run does not read it")
    parser.add_argument("--output_dir", required=True, help="folder of the sweep")
    parser.add_argument(
        "--weights",
        nargs="+",
        default=[],
        metavar="BACKBONE=FILE",
        help="start this backbone from a file, where there is no network",
    )
    parser.add_argument(
        "--smoke", action="store_true", help="two steps of every row on generated faces: a rehearsal"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print how many jobs there are; change nothing"
    )
    parser.add_argument(
        "--command_launcher",
        default="local",
        metavar="|".join(info.name for info in LAUNCHERS if info.runs),
        help="as of sweep launch (default %(default)s)",
    )
    parser.add_argument("--n_workers", type=int, help="jobs at a time (default: as of sweep launch)")


def run(args: argparse.Namespace) -> int:
    """Check, train, compare."""
    plan = _plan(args)
    jobs = [train_job(train_args, args.output_dir) for train_args in plan.train_args()]
    if args.dry_run:
        print(summary_line(job.state for job in jobs))
        return 0
    _check(args, plan, jobs)
    if args.smoke:
        from datasets_ext.miniature import write_miniatures

        write_miniatures(plan.data_dir, _trees(plan))
    status = _launch(args, plan, jobs)
    if status not in (0, 1):  # 1: some jobs failed; what the others found is shown all the same
        return status
    if args.smoke:
        print(f"\n{_SMOKE}")
    options = {"--input_dir": args.output_dir, "--metric": "auc", "--select": "iid"}
    options |= {} if plan.paper is None else {"--against": "paper"}
    return own_command("collect-results", options) or status


def _plan(args: argparse.Namespace) -> Plan:
    """The table's plan, with the data and weights that were given.

    Raises:
        RogaError: it is not allowed; all that is wrong at once.
    """
    problems = Problems()
    plan = Plan(**load_preset(preset_of(args.table), problems))
    if not plan.datasets or not plan.all_rows:
        problems.add(f"{args.table}: it names no datasets, or neither algorithms nor rows")
    _give_weights(plan, args.weights, problems)
    plan.data_dir = args.data_dir
    if args.smoke:
        plan = smoke(plan)
        plan.data_dir = os.path.join(args.output_dir, ".miniature")  # hidden: no run
    add_checkout_names()
    check_names(plan, problems)
    plan.check(problems)
    problems.check()
    return plan


def _check(args: argparse.Namespace, plan: Plan, jobs: Sequence[Job]) -> None:
    """Refuse a folder of something else, and name all data and weights that are missing."""
    problems = Problems()
    problem = sweep_folder_problem(args.output_dir)
    if problem is not None:
        problems.add(f"--output_dir {args.output_dir!r} {problem}")
    elif any(stored.values() != plan.values() for stored in stored_plans(args.output_dir)):
        problems.add(
            f"--output_dir {args.output_dir!r} holds another sweep, or this one with other arguments: go on with "
            "those, or choose a new folder"
        )
    if any(job.state is not State.DONE for job in jobs) and not args.smoke:
        for message in (*_missing_data(plan), *_missing_weights(plan)):
            problems.add(message)
    problems.check()


def _launch(args: argparse.Namespace, plan: Plan, jobs: Sequence[Job]) -> int:
    """Run what is not done, as ``sweep launch`` does; its exit status."""
    options = {"--output_dir": args.output_dir, "--command_launcher": args.command_launcher}
    if args.smoke:
        os.environ["OMP_NUM_THREADS"] = "1"  # or the small jobs wait for each other
    if args.n_workers is not None:
        options["--n_workers"] = args.n_workers
    store_plan(args.output_dir, plan)
    status = own_command("sweep launch", options, "--retry", "--skip_confirmation")
    if status == 2 and all(job.state is State.NOT_LAUNCHED for job in jobs):
        Path(args.output_dir, PLAN_FILE).unlink()  # it was refused: another may come here
    return status


def preset_of(table: str) -> str:
    """The preset that ``table2`` is short for; a path or the name of a preset is itself.

    Raises:
        RogaError: there is none.
    """
    names = preset_names()
    if table in names or Path(table).suffix in (".yaml", ".yml"):
        return table
    found = [name for name in names if name.startswith(f"{table}_")]
    if len(found) != 1:
        short = [name.partition("_")[0] for name in names]
        raise RogaError(unknown_name("table", table, [*short, "or the path of a .yaml file"]))
    return found[0]


def smoke(plan: Plan) -> Plan:
    """The rehearsal of a plan: every row, one trial of two steps, on images of 32 pixels, from random weights.

    A random search has one draw, and where each environment is held out alone in a search, the first one is.
    """
    searches = plan.n_hparams > 1
    hparams = {**parse_overrides(plan.hparams), **_SMOKE_HPARAMS}
    rows = [
        replace(row, hparams={name: value for name, value in row.hparams.items() if name != "weights"})
        for row in plan.rows
    ]
    paper = plan.paper
    if paper is not None:
        paper = replace(paper, note=f"{_SMOKE} {paper.note}".strip())
    return replace(
        plan,
        hparams=json.dumps(hparams),
        rows=rows,
        paper=paper,
        steps=2,
        checkpoint_freq=2,
        n_trials=1,
        n_hparams_from=1 if searches else plan.n_hparams_from,
        n_hparams=2 if searches else plan.n_hparams,
        test_envs=[0] if searches and plan.single_test_envs else plan.test_envs,
    )


def _give_weights(plan: Plan, given: list[str], problems: Problems) -> None:
    """Start the backbones of ``given`` from their files, in every row that has them."""
    shared = parse_overrides(plan.hparams)
    files = {}
    for text in given:
        backbone, equals, file = text.partition("=")
        files[backbone] = file
        rows = [row for row in plan.rows if row.hparams.get("backbone") == backbone]
        for row in rows:
            plan.rows[plan.rows.index(row)] = replace(row, hparams={**row.hparams, "weights": file})
        if not equals or not file:
            problems.add(f"--weights must be BACKBONE=FILE; got {text!r}")
        elif not rows and shared.get("backbone") != backbone:
            known = dict.fromkeys(
                own.get("backbone") for own in (shared, *(row.hparams for row in plan.rows))
            )
            problems.add(
                "--weights: " + unknown_name("backbone of this table", backbone, filter(None, known))
            )
    if shared.get("backbone") in files:
        plan.hparams = json.dumps({**shared, "weights": files[shared["backbone"]]})
        for place, row in enumerate(
            plan.rows
        ):  # a row with a network of its own has not that network's weights
            if "backbone" in row.hparams and "weights" not in row.hparams:
                plan.rows[place] = replace(row, hparams={**row.hparams, "weights": ""})


def _missing_data(plan: Plan) -> Iterator[str]:
    """A sentence, with the command that makes it, for each tree that is not below the data folder."""
    from datasets_ext.manifest import FILE

    for tree in _trees(plan):
        if not Path(plan.data_dir, tree, FILE).is_file() and not _is_made(tree):
            yield (
                f"{os.path.join(plan.data_dir, tree)!r} has not been prepared: roga-domainbed prepare {tree.lower()} "
                f"--source FOLDER --data_dir {plan.data_dir}"
            )


def _trees(plan: Plan) -> Iterable[str]:
    return dict.fromkeys(tree for name in plan.datasets for tree in DATASETS.get(name).trees)


def _is_made(tree: str) -> bool:
    return tree in DATASETS and DATASETS.get(tree).made_if_missing


def _missing_weights(plan: Plan) -> Iterator[str]:
    """A sentence for each network that cannot be made, with the rows that need it: each is made once, as jobs will."""
    from roga_domainbed.catalog.backbones import load_backbone
    from roga_domainbed.trainer.config import TrainConfig
    from roga_domainbed.trainer.hyperparameters import resolve_hparams
    from roga_domainbed.upstream import bridge

    host = bridge.register()
    networks: dict[tuple, tuple[dict, list[str]]] = {}
    for row in plan.all_rows:
        for dataset in plan.datasets:
            config = TrainConfig(algorithm=row.algorithm, dataset=dataset, hparams=plan.hparams_of(row))
            hparams = resolve_hparams(config, host, Problems())  # launch names their faults
            key = tuple(hparams.get(name) for name in ("backbone", "pretrained", "weights", "image_size"))
            if key[0]:
                networks.setdefault(key, (hparams, []))[1].append(str(row))
    for (backbone, _, _, size), (hparams, rows) in networks.items():
        try:
            load_backbone(backbone)((3, size, size), hparams)
        except RogaError as error:
            needed = shortened(dict.fromkeys(rows))
            yield f"{needed}: {error}. For this command: --weights {backbone}=FILE"
