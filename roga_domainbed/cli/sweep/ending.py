"""``sweep cancel`` and ``sweep delete_incomplete``: what runs is stopped, what did not finish is deleted."""

from __future__ import annotations

import argparse
import sys

from roga_domainbed.cli.sweep.asking import confirmed
from roga_domainbed.errors import RogaError
from roga_domainbed.launch import Job, cancellation, submissions
from roga_domainbed.launch.deletion import delete_unfinished
from roga_domainbed.launch.job import UNFINISHED, State
from roga_domainbed.launch.jobfile import lease_seconds


def cancel(args: argparse.Namespace, listed: list[tuple[Job, State]]) -> int:
    """Tell every launcher and job of the sweep to stop, on whatever machine it is."""
    jobs = [job for job, state in listed if state in (State.RUNNING, State.WAITING)]
    if not confirmed(args, "cancel", jobs) or not jobs:
        return 0
    cancellation.cancel(args.output_dir)
    print(
        "Told them to stop. Those that run write a checkpoint first; on other machines they notice within "
        f"{lease_seconds() / 9:.0f} seconds. 'sweep launch' resumes them."
    )
    submissions.cancel(args.output_dir)
    return 0


def delete_incomplete(args: argparse.Namespace, listed: list[tuple[Job, State]]) -> int:
    """Delete the folders of the jobs that did not finish and do not run now."""
    jobs = [job for job, state in listed if state in UNFINISHED and state is not State.RUNNING]
    running = sum(state is State.RUNNING for _, state in listed)
    if running:
        print(f"{running} jobs are running and stay.")
    if not confirmed(args, "delete", jobs) or not jobs:
        return 0
    print("Deleting...")
    deleted, failed = 0, False
    for job in jobs:
        try:
            deleted += delete_unfinished(job.output_dir)
        except (OSError, RogaError) as error:
            failed = True
            print(f"{job.output_dir} stays: {getattr(error, 'strerror', None) or error}", file=sys.stderr)
    print(f"Deleted {deleted} jobs!")
    return int(failed)
