"""A warm worker: imports once, then forks a child for each job it reads from stdin.

Protocol, one JSON object a line. To the worker: ``{"argv", "output_dir", "retry"}``. From it: ``{"ready": true}``
once, then for each job ``{"exit_code"}``, with ``"error"`` if its folder cannot be written, or ``{"skipped": true}``.
Closing its stdin ends it. After SIGTERM, and if its launcher dies, it asks its job to stop, which a training does with
a checkpoint, and ends with it. If the worker dies, its job stops by itself.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import importlib
import json
import multiprocessing.util
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from roga_domainbed.catalog.registry import load
from roga_domainbed.errors import RogaError
from roga_domainbed.launch.jobfile import LOG_FILE, started_now
from roga_domainbed.launch.lease import TAKEN_OVER, Lease, claim, held
from roga_domainbed.processes import QUEUE_SIGNALS

_POLL_S = 0.005
#: Slurm sends them to every process of a place in its queue.
_GRACE_S = 60.0  # for a checkpoint, when nobody is left who could be more patient


def main(argv: Sequence[str] | None = None) -> int:
    """Serve jobs until stdin ends; a forked child ends here."""
    parser = argparse.ArgumentParser(prog="python -m roga_domainbed.launch.worker")
    parser.add_argument("--entry", required=True, metavar="MODULE:FUNCTION")
    parser.add_argument("--preload", nargs="*", default=[], metavar="MODULE")
    parser.add_argument("--owner", default="", help="the place in a queue that runs the jobs")
    parser.add_argument("--no_fork", action="store_true", help="a fresh interpreter for each job")
    parser.add_argument("--run", metavar="JSON", help="run this one argv list and exit")
    args = parser.parse_args(argv)
    if args.run is not None:
        return run_entry(args.entry, json.loads(args.run), held())
    fork = hasattr(os, "fork") and not args.no_fork
    # Only this descriptor speaks the protocol: whatever an import prints must not be read as an answer.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    if fork:
        for module in args.preload:
            # A job that needs the module fails by itself, with the reason in its own log.
            with contextlib.suppress(ImportError):
                importlib.import_module(module)
    worker = _Worker(args.entry, args.owner, (_forked if fork else _spawned)(args.entry))
    for name in QUEUE_SIGNALS:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), worker.stop)
    _answer(answers, {"ready": True})
    for line in sys.stdin:
        worker.is_waiting = False
        _answer(answers, worker.run(**json.loads(line)))
        worker.is_waiting = True
        if worker.told:
            break
    return 0


class _Worker:
    """Runs jobs one after the other."""

    def __init__(self, entry: str, owner: str, start: Callable[[Lease, list[str], int], tuple]):
        self.told = False  # to stop
        self.is_waiting = True  # for a job
        self._owner, self._start = owner, start
        self._pid: int | None = None  # of the job's process
        self._parent = os.getppid()

    def stop(self, number: int, frame: object) -> None:
        """Handle a signal: ask the job to stop, and take no other."""
        self.told = True
        if self._pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGTERM)
        elif self.is_waiting:
            raise SystemExit(0)

    def run(self, argv: list[str], output_dir: str, retry: bool) -> dict[str, Any]:
        """Run one job; the answer about it."""
        start = time.monotonic()
        try:
            lease = claim(output_dir, argv, retry=retry, owner=self._owner)
            if lease is None:
                return {"skipped": True}
            log = os.open(Path(output_dir) / LOG_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        except (OSError, RogaError) as error:
            return {"exit_code": None, "error": str(error)}
        pid, poll = self._start(lease, argv, log)
        os.close(log)
        self._pid = pid
        if self.told:  # in this instant
            self.stop(signal.SIGTERM, None)
        file = started_now(tuple(argv), pid, self._owner)
        lease.note(file)
        exit_code = self._wait(poll)
        self._pid = None
        if exit_code == TAKEN_OVER:
            return {"skipped": True}
        lease.note(replace(file, exit_code=exit_code, seconds=round(time.monotonic() - start, 3)))
        return {"exit_code": exit_code}

    def _wait(self, poll: Callable[[], int | None]) -> int:
        """Wait for the job; without a launcher, not for long."""
        deadline = None
        while (exit_code := poll()) is None:
            if deadline is None and os.getppid() != self._parent:
                deadline = time.monotonic() + _GRACE_S
                self.stop(signal.SIGTERM, None)
            if deadline is not None and time.monotonic() > deadline and hasattr(os, "killpg"):
                os.killpg(os.getpgrp(), signal.SIGKILL)
            time.sleep(_POLL_S)
        return exit_code


def _forked(entry: str) -> Callable[[Lease, list[str], int], tuple]:
    def start(lease: Lease, argv: list[str], log: int) -> tuple[int, Callable[[], int | None]]:
        with warnings.catch_warnings():
            # Python 3.12 warns of threads that libraries keep (pyarrow's allocator); they hold no lock here.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            for name in QUEUE_SIGNALS:
                signal.signal(getattr(signal, name), signal.SIG_DFL)
            _leave_to_the_worker()
            _redirect(log)
            os.environ.update(lease.environment())
            _end(run_entry(entry, argv, lease))

        def poll() -> int | None:
            done, status = os.waitpid(pid, os.WNOHANG)
            return None if done == 0 else os.waitstatus_to_exitcode(status)

        return pid, poll

    return start


def _spawned(entry: str) -> Callable[[Lease, list[str], int], tuple]:
    def start(lease: Lease, argv: list[str], log: int) -> tuple[int, Callable[[], int | None]]:
        words = [sys.executable, "-m", __spec__.name, "--entry", entry, "--run", json.dumps(argv)]
        environment = {**os.environ, **lease.environment()}
        child = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        return child.pid, child.poll

    return start


def run_entry(entry: str, argv: Sequence[str], lease: Lease | None) -> int:
    """Call the entry and turn whatever comes into an exit code; tracebacks go to stderr."""
    if lease is not None:
        lease.keep()
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


def _leave_to_the_worker() -> None:
    """Forget what is registered for the end of the worker's process, in a forked job: it is not this one's to do."""
    atexit._clear()
    for finalizer in list(weakref.finalize._registry):
        finalizer.atexit = False
    atexit.register(weakref.finalize._exitfunc)  # which a finalizer of the job's would not register again
    atexit.register(multiprocessing.util._exit_function)


def _end(code: int) -> NoReturn:
    """End a forked job: with all that is registered for its end, but without the end of the interpreter.

    That takes apart every module, and so copies the memory that they share with the worker's: seconds of each job.
    """
    threading._shutdown()  # as ``multiprocessing`` ends what it forked
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _redirect(log: int) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(null)
    os.close(log)
    sys.stdout.reconfigure(line_buffering=True)


def _answer(stream: Any, message: dict[str, Any]) -> None:
    stream.write(json.dumps(message) + "\n")
    stream.flush()


if __name__ == "__main__":
    sys.exit(main())
