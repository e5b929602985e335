"""The question before jobs are started, stopped or deleted."""

from __future__ import annotations

import argparse
import contextlib
import sys

from roga_domainbed.errors import RogaError
from roga_domainbed.launch import Job


def confirmed(args: argparse.Namespace, verb: str, jobs: list[Job]) -> bool:
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
