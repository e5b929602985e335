"""A warm worker: imports once, then forks a child for each job it reads from stdin.

Protocol, one JSON object a line. To the worker: ``{"argv", "output_dir", "retry"}``. From it: ``{"ready": true}``
once, then for each job ``{"exit_code"}``, with ``"error"`` if its folder cannot be written, or
``{"skipped": true}``. Closing its stdin ends it. If the launcher
dies, the worker ends its job and itself.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import math
import os
import signal
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from roga_domainbed.catalog.registry import load
from roga_domainbed.errors import RogaError
from roga_domainbed.files import locked
from roga_domainbed.launch.folders import run_folder_problem
from roga_domainbed.launch.jobfile import (
    CLAIM_FILE,
    HEARTBEAT_S,
    JOB_FILE,
    LOG_FILE,
    JobFile,
    is_running,
    started_now,
    write_job_file,
)
from roga_domainbed.results.records import is_done

_POLL_S = 0.02


def main(argv: Sequence[str] | None = None) -> int:
    """Serve jobs until stdin ends; returns, in a forked child, the job's exit code."""
    parser = argparse.ArgumentParser(prog="python -m roga_domainbed.launch.worker")
    parser.add_argument("--entry", required=True, metavar="MODULE:FUNCTION")
    parser.add_argument("--preload", nargs="*", default=[], metavar="MODULE")
    parser.add_argument("--no_fork", action="store_true", help="a fresh interpreter for each job")
    parser.add_argument("--run", metavar="JSON", help="run this one argv list and exit")
    args = parser.parse_args(argv)
    if args.run is not None:
        return run_entry(args.entry, json.loads(args.run))
    fork = hasattr(os, "fork") and not args.no_fork
    # Only this descriptor speaks the protocol: whatever an import prints must not be read as an answer.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    if fork:
        for module in args.preload:
            # A job that needs the module fails by itself, with the reason in its own log.
            with contextlib.suppress(ImportError):
                importlib.import_module(module)
    parent = os.getppid()
    _answer(answers, {"ready": True})
    for line in sys.stdin:
        job = json.loads(line)
        folder, job_argv = job["output_dir"], job["argv"]
        start = time.monotonic()
        try:
            if not claim(folder, job_argv, retry=job["retry"]):
                _answer(answers, {"skipped": True})
                continue
            log = os.open(Path(folder) / LOG_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        except (OSError, RogaError) as error:
            _answer(answers, {"exit_code": None, "error": str(error)})
            continue
        if fork:
            with warnings.catch_warnings():
                # Python 3.12 warns of threads that libraries keep (pyarrow's allocator); they hold no lock here.
                warnings.simplefilter("ignore", DeprecationWarning)
                pid = os.fork()
            if pid == 0:
                answers.close()
                _redirect(log)
                return run_entry(args.entry, job_argv)
            poll = _poll_child(pid)
        else:
            command = [
                sys.executable,
                "-m",
                __spec__.name,
                "--entry",
                args.entry,
                "--run",
                json.dumps(job_argv),
            ]
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            pid, poll = child.pid, child.poll
        os.close(log)
        exit_code = _watch(folder, started_now(tuple(job_argv), pid), poll, parent, start)
        _answer(answers, {"exit_code": exit_code})
    return 0


def claim(output_dir: str, argv: Sequence[str], *, retry: bool) -> bool:
    """Make the job's folder and put our name in it; False if another launch of the sweep has the job.

    Of several that ask at once, on one machine or over a network file system, one gets it.

    Raises:
        OSError: the folder cannot be made or written.
        RogaError: what is there is no job's folder.
    """
    Path(output_dir).parent.mkdir(parents=True, exist_ok=True)
    try:
        os.mkdir(output_dir)
    except FileExistsError:
        problem = run_folder_problem(output_dir)
        if problem is not None:
            raise RogaError(f"{output_dir!r} {problem}") from None
        if not retry:
            return False
    with locked(Path(output_dir, CLAIM_FILE), patience_s=math.inf):
        if is_running(output_dir) or is_done(output_dir):
            return False
        write_job_file(output_dir, started_now(tuple(argv), os.getpid()))
    return True


def run_entry(entry: str, argv: Sequence[str]) -> int:
    """Call the entry and turn whatever comes into an exit code; tracebacks go to stderr."""
    sys.argv = ["roga-domainbed", *argv]  # what the job's log shows as its command
    try:
        code = load(entry)(list(argv))
    except SystemExit as error:
        code = error.code
        if isinstance(code, str):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        traceback.print_exc()
        code = 1
    return int(code or 0)


def _redirect(log: int) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(null)
    os.close(log)
    sys.stdout.reconfigure(line_buffering=True)


def _poll_child(pid: int) -> Callable[[], int | None]:
    def poll() -> int | None:
        done, status = os.waitpid(pid, os.WNOHANG)
        return None if done == 0 else os.waitstatus_to_exitcode(status)

    return poll


def _watch(folder: str, file: JobFile, poll: Callable[[], int | None], parent: int, start: float) -> int:
    """Wait for the child, keep its job file, and end everything if the launcher is gone."""
    _note(folder, file)
    beat = time.monotonic()
    while (exit_code := poll()) is None:
        if os.getppid() != parent and hasattr(os, "killpg"):
            os.killpg(os.getpgrp(), signal.SIGKILL)
        if time.monotonic() - beat > HEARTBEAT_S:
            beat = time.monotonic()
            with contextlib.suppress(OSError):
                os.utime(Path(folder) / JOB_FILE)
        time.sleep(_POLL_S)
    _note(folder, replace(file, exit_code=exit_code, seconds=round(time.monotonic() - start, 3)))
    return exit_code


def _note(folder: str, file: JobFile) -> None:
    # The folder may be deleted, or the disk full, under a running job: it ends as it ends, and the launcher
    # still learns its exit code.
    with contextlib.suppress(OSError):
        write_job_file(folder, file)


def _answer(stream, message: dict) -> None:
    stream.write(json.dumps(message) + "\n")
    stream.flush()


if __name__ == "__main__":
    sys.exit(main())
