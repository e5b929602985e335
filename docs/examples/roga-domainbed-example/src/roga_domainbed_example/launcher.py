"""A launcher: takes commands, yields an outcome for each. A cluster's queue would be asked here."""

import os
import subprocess
import sys
import time

from roga_domainbed.launch import Outcome


def launch_one_by_one(commands, options):
    """Run each job in a fresh process, with its output in ``job.log``."""
    for command in commands:
        os.makedirs(command.output_dir, exist_ok=True)
        log_path = os.path.join(command.output_dir, "job.log")
        start = time.monotonic()
        with open(log_path, "ab") as log:
            argv = [sys.executable, "-m", "roga_domainbed", *command.argv]
            code = subprocess.call(argv, stdout=log, stderr=log)
        yield Outcome(command, code, time.monotonic() - start, log_path)
