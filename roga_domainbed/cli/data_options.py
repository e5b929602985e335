"""Flags for what of the data is trained on and what is held out: of several commands alike."""

from __future__ import annotations

import argparse

from datasets_ext.training_options import REALS

#: Their names among the parsed arguments; not given, they are None.
NAMES = ("reals", "balance", "strict", "allow_leakage")


def add_arguments(parser: argparse._ActionsContainer) -> None:
    """``--reals``, ``--balance`` and ``--strict``."""
    parser.add_argument(
        "--reals",
        metavar="|".join(REALS),
        help="shared (default): every environment has all its reals; partitioned: training environments divide what "
        "they have in common, each real with its fakes",
    )
    parser.add_argument(
        "--balance",
        metavar="R:F",
        help="train on videos real to fake as 1:1, 1:4, …: leaves out videos of one class, chosen by trial_seed",
    )
    parser.add_argument(
        "--strict",
        action=argparse.BooleanOptionalAction,
        help="do not train on what shares a YouTube video with validation or test (FaceForensics++)",
    )


def add_leakage_argument(parser: argparse._ActionsContainer) -> None:
    """``--allow-leakage``."""
    parser.add_argument(
        "--allow-leakage",
        "--allow_leakage",
        action=argparse.BooleanOptionalAction,
        help="train although the audit finds leaks; recorded, and said in every table",
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
