"""List the videos, recordings and people that training, selection and test data share.

    $ roga-domainbed audit data --dataset SynthFake --test_envs 3
    SynthFake, tested on NT, split official, trial seed 0
                 frames  videos  recordings  identities
      training     1920     240         120          40
      selection     384      48          24           8
      test          192      24          12          12
      no leak

The exit status is 1 if something leaks: test data that the model was trained on or selected by, or a video or recording
in both training and selection. --near-duplicates also compares the frames themselves, to find copies that the manifest
does not know of.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from datasets_ext import trees
from datasets_ext.audit import audit, look_alikes
from datasets_ext.near_duplicates import LARGEST_DISTANCE, hash_files
from datasets_ext.training_options import TrainingOptions
from roga_domainbed.catalog import DATASETS
from roga_domainbed.catalog.datasets import SPLIT_MODES, test_env_problems
from roga_domainbed.catalog.registry import load
from roga_domainbed.cli import data_options
from roga_domainbed.errors import Problems, RogaError, unknown_name
from roga_domainbed.processes import usable_cpus
from roga_domainbed.trainer.config import TrainConfig

if TYPE_CHECKING:
    from roga_domainbed.input.environment import OpenDataset

_MAX_DISTANCE = 4  # the same frame in another compression; neighbours in one recording


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The protocol, with the flags of ``train``."""
    parser.add_argument("data_dir", help="folder that contains the dataset's folder")
    parser.add_argument("--dataset", required=True, help="registered name, or a prepared tree in DATA_DIR")
    data_options.add_test_envs_argument(parser)
    parser.add_argument("--split", default="official", help=f"{', '.join(SPLIT_MODES)} (default %(default)s)")
    parser.add_argument("--trial_seed", type=int, default=0, help="seeds the split (default %(default)s)")
    parser.add_argument(
        "--holdout_fraction",
        type=float,
        default=TrainConfig.holdout_fraction,
        help="share of the out-split (default %(default)s)",
    )
    data_options.add_arguments(parser)
    parser.add_argument(
        "--near-duplicates",
        "--near_duplicates",
        action="store_true",
        help="also compare the frames, by a perceptual hash of 64 bits; reads every frame",
    )
    parser.add_argument(
        "--max-distance",
        "--max_distance",
        type=int,
        metavar="BITS",
        help=f"most bits in which near-duplicates may differ (default {_MAX_DISTANCE})",
    )


def run(args: argparse.Namespace) -> int:
    """Print the audit; 1 if anything leaks."""
    from roga_domainbed.input.environment import OpenDataset, splits_itself  # torch

    problems = Problems()
    if not os.path.isdir(args.data_dir):
        problems.add(f"{args.data_dir!r} is not a folder")
    unknown = trees.problem(args.dataset, args.data_dir)
    if unknown is not None:
        problems.add(unknown)
    else:
        for problem in test_env_problems(args.test_envs, DATASETS.get(args.dataset).environments):
            problems.add(problem)
    if args.split not in SPLIT_MODES:
        problems.add(unknown_name("split", args.split, SPLIT_MODES))
    if not 0 < args.holdout_fraction < 1:
        problems.add(f"--holdout_fraction must lie between 0 and 1; got {args.holdout_fraction}")
    options = TrainingOptions.of({name: value for name, value in vars(args).items() if value is not None})
    for message in options.problems(args.split):
        problems.add(message)
    if args.max_distance is not None and not args.near_duplicates:
        problems.add("--max-distance needs --near-duplicates")
    if args.max_distance is not None and not 0 <= args.max_distance <= LARGEST_DISTANCE:
        problems.add(f"--max-distance must be from 0 to {LARGEST_DISTANCE} bits; got {args.max_distance}")
    problems.check()
    info = DATASETS.get(args.dataset)
    dataset_class = load(info.target) if info.plugin else None  # torch comes with it
    if dataset_class is None or not splits_itself(dataset_class):
        raise RogaError(f"{info.name} has no manifest, so its videos and people are unknown")
    hparams = {item.name: item.default for item in info.hparams} | {"data_augmentation": False}
    dataset = OpenDataset(dataset_class(args.data_dir, args.test_envs, hparams))
    if dataset.rows is None:
        raise RogaError(f"{info.name} has no manifest, so its videos and people are unknown")
    cut = args.split, args.trial_seed, args.holdout_fraction, args.test_envs
    splits = dataset.split_indices(*cut, **options.keyword())
    protocol = splits, dataset.rows, args.test_envs
    found = audit(*protocol, same_source=dataset.same_source)
    if args.near_duplicates:
        distance = _MAX_DISTANCE if args.max_distance is None else args.max_distance
        found = found.with_overlaps(look_alikes(*protocol, lambda frames: _hashes(dataset, frames), distance))
    tested = ", ".join(info.environments[index] for index in args.test_envs)
    given = "".join(f", {option}" for option in options.described())
    print(
        f"{info.name}, tested on {tested}, split {args.split}{given}, trial seed {args.trial_seed}\n{found}"
    )
    return 1 if found.leaks else 0


def _hashes(dataset: OpenDataset, frames: Sequence[tuple[int, int]]) -> np.ndarray:
    """Perceptual hashes of frames, each (environment, index)."""
    return hash_files([dataset[env].file(i) for env, i in frames], usable_cpus())
