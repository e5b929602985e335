"""Say what training, selection and test of a protocol have in common: videos, recordings, people.

    $ roga-domainbed audit data --dataset FFPP --test_envs 3 --split official

The exit status is 0 if nothing leaks and 1 if something does. A leak is what the model was trained with or selected
by and is tested on too, and a video or recording on both sides of training and selection.
"""

from __future__ import annotations

import argparse

from datasets_ext.audit import audit
from roga_domainbed.catalog import DATASETS
from roga_domainbed.errors import Problems, RogaError, unknown_name
from roga_domainbed.registry import load
from roga_domainbed.trainer.config import SPLIT_MODES, TrainConfig, test_env_problems


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The protocol, named as 'train' names it."""
    parser.add_argument("data_dir", help="folder that contains the dataset's folder")
    parser.add_argument("--dataset", required=True, help="registered name; 'roga-domainbed list' shows them")
    parser.add_argument(
        "--test_envs",
        type=int,
        nargs="+",
        default=[0],
        help="indices of the held-out environments (default 0)",
    )
    parser.add_argument("--split", default="official", help=f"{', '.join(SPLIT_MODES)} (default %(default)s)")
    parser.add_argument("--trial_seed", type=int, default=0, help="seeds the split (default %(default)s)")
    parser.add_argument(
        "--holdout_fraction",
        type=float,
        default=TrainConfig.holdout_fraction,
        help="share of the out-split (default %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Print the audit; 1 if anything leaks."""
    problems = Problems()
    if args.dataset not in DATASETS:
        problems.add(unknown_name("dataset", args.dataset, DATASETS.names()))
    else:
        for problem in test_env_problems(args.test_envs, DATASETS.get(args.dataset).environments):
            problems.add(problem)
    if args.split not in SPLIT_MODES:
        problems.add(unknown_name("split", args.split, SPLIT_MODES))
    if not 0 < args.holdout_fraction < 1:
        problems.add(f"--holdout_fraction must lie between 0 and 1; got {args.holdout_fraction}")
    problems.check()
    info = DATASETS.get(args.dataset)
    dataset_class = load(info.target) if info.plugin else None  # torch comes with it
    if not hasattr(dataset_class, "split_indices"):
        raise RogaError(f"{info.name} has no manifest, so nothing is known of its videos and people")
    hparams = {item.name: item.default for item in info.hparams} | {"data_augmentation": False}
    dataset = dataset_class(args.data_dir, args.test_envs, hparams)
    splits = dataset.split_indices(args.split, args.trial_seed, args.holdout_fraction, args.test_envs)
    found = audit(splits, dataset.environment_rows, args.test_envs)
    tested = ", ".join(info.environments[index] for index in args.test_envs)
    print(f"{info.name}, tested on {tested}, split {args.split}, trial seed {args.trial_seed}\n{found}")
    return 1 if found.leaks else 0
