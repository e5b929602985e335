"""Flags that several commands share: which data is trained on, and what is held out."""

from __future__ import annotations

import argparse

from datasets_ext.training_options import REALS

#: Their names among the parsed arguments; None if not given.
NAMES = ("reals", "balance", "strict", "label_noise", "train_fraction", "allow_leakage")


def add_arguments(parser: argparse._ActionsContainer) -> None:
    """``--reals``, ``--balance`` and ``--strict``."""
    parser.add_argument(
        "--reals",
        metavar="|".join(REALS),
        help="shared (default): every environment keeps all its reals; partitioned: training environments divide the "
        "reals that they share, each with its fakes",
    )
    parser.add_argument(
        "--balance",
        metavar="R:F",
        help="ratio of real to fake training videos, such as 1:1 or 1:4: leaves out videos of one class, chosen by "
        "trial_seed",
    )
    parser.add_argument(
        "--strict",
        action=argparse.BooleanOptionalAction,
        help="do not train on recordings that share a YouTube video with validation or test (FaceForensics++)",
    )


def add_share_arguments(parser: argparse._ActionsContainer) -> None:
    """``--label_noise`` and ``--train_fraction``."""
    parser.add_argument(
        "--label_noise",
        type=float,
        metavar="SHARE",
        help="draw this share of the labels of training environments again, of training and validation parts, whole "
        "videos where they are known, uniformly over the classes: with two classes half of those are wrong (default 0)",
    )
    parser.add_argument(
        "--train_fraction",
        type=float,
        metavar="SHARE",
        help="train on this share of each class of each environment's training part, whole videos where they are "
        "known, chosen by trial_seed (default 1)",
    )


def add_leakage_argument(parser: argparse._ActionsContainer) -> None:
    """``--allow-leakage``."""
    parser.add_argument(
        "--allow-leakage",
        "--allow_leakage",
        action=argparse.BooleanOptionalAction,
        help="train although the audit finds leaks; every table then says so",
    )


def add_test_envs_argument(parser: argparse._ActionsContainer) -> None:
    """``--test_envs``."""
    parser.add_argument(
        "--test_envs",
        type=int,
        nargs="+",
        default=[0],
        help="indices of the held-out environments (default 0)",
    )
