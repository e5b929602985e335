"""A launcher: takes jobs, yields an outcome for each. A cluster's queue would be asked here."""

import os
import subprocess
import sys

from roga_domainbed.launch import Outcome


def launch_one_by_one(jobs, options):
    """Run each job in a fresh process, with its output in ``job.log``."""
    for job in jobs:
        os.makedirs(job.output_dir, exist_ok=True)
        with open(job.log_path, "ab") as log:
            argv = [sys.executable, "-m", "roga_domainbed", *job.argv]
            yield Outcome(job, subprocess.call(argv, stdout=log, stderr=log))
