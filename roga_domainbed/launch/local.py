"""Jobs on this machine: warm worker processes, each running one job at a time.

Every worker leads a process group that its jobs and their data loaders belong to, so that ending the group
ends all of them. It has its own session: Ctrl-C reaches the launcher alone, which then asks the jobs to stop.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from roga_domainbed.errors import Failed
from roga_domainbed.launch import Job, Options, Outcome, cancellation
from roga_domainbed.launch.gpus import visible_gpus
from roga_domainbed.launch.jobfile import (
    STOPPED,
    attempts,
    describe_exit,
    is_live,
    read_job_file,
    write_job_file,
)
from roga_domainbed.processes import usable_cpus

_MOST_BY_DEFAULT = 8  # workers on processors: each has a copy of the libraries, and its data, in memory
_LOOK_S = 1.0  # between looks at whether the sweep is cancelled


def launch_local(jobs: Sequence[Job], options: Options) -> Iterator[Outcome]:
    """Run ``jobs`` in ``options.n_workers`` processes, in order.

    By default one for each GPU, ``options.jobs_per_gpu`` times; without a GPU one for each processor, at most 8.
    """
    yield from run_in_pool(jobs, options, environments_for(visible_gpus(), options, len(jobs)))


def environments_for(gpus: Sequence[str], options: Options, n_jobs: int) -> list[dict[str, str]]:
    """What each worker's environment adds to ours: the GPU that it sees."""
    default = len(gpus) * options.jobs_per_gpu if gpus else min(usable_cpus(), _MOST_BY_DEFAULT)
    n_workers = min(options.n_workers or default, n_jobs)
    if not gpus:
        return [{}] * n_workers
    return [{"CUDA_VISIBLE_DEVICES": gpus[index % len(gpus)]} for index in range(n_workers)]


def run_in_pool(
    jobs: Sequence[Job], options: Options, environments: Sequence[Mapping[str, str]]
) -> Iterator[Outcome]:
    """Run ``jobs`` with one worker for each of ``environments``, which are added to ours.

    Yields an outcome for every job, as they end. A worker that dies takes its job with it: that job is
    marked as killed and a new worker takes the next. If the sweep is cancelled, the jobs that wait count as stopped.

    Raises:
        Failed: if a worker cannot start at all.
    """
    threads_each = os.environ.get("OMP_NUM_THREADS") or str(
        max(1, usable_cpus() // max(1, len(environments)))
    )
    waiting = deque(jobs)
    outcomes: queue.Queue[Outcome | Exception] = queue.Queue()
    slots = [
        _Slot(
            waiting,
            outcomes,
            options,
            {**os.environ, "OMP_NUM_THREADS": threads_each, **environment},
        )
        for environment in environments
    ]
    seen = cancellation.stamp(options.folder) if options.folder else 0
    try:
        for slot in slots:
            slot.thread.start()
        for _ in jobs:
            while True:
                with contextlib.suppress(queue.Empty):
                    outcome = outcomes.get(timeout=_LOOK_S)
                    break
                if options.folder and cancellation.stamp(options.folder) != seen:
                    for slot in slots:
                        slot.ask()
                    for job in _emptied(waiting):
                        outcomes.put(Outcome(job, STOPPED))
            if isinstance(outcome, Exception):
                raise outcome
            yield outcome
    finally:
        _stop(slots, options.grace_s)


def _emptied(waiting: deque) -> Iterator[Job]:
    with contextlib.suppress(IndexError):
        while True:
            yield waiting.popleft()


def _stop(slots: Sequence[_Slot], grace_s: float) -> None:
    """Ask every worker's job to stop, and end what still runs after ``grace_s`` seconds, or at a second Ctrl-C."""
    try:
        n_busy = sum(slot.is_busy for slot in slots)
        if n_busy:
            print(
                f"\nAsked {n_busy} running jobs for a checkpoint; Ctrl-C ends them at once.",
                file=sys.stderr,
            )
        for slot in slots:
            slot.ask()
        deadline = time.monotonic() + grace_s
        for slot in slots:
            slot.thread.join(max(0.0, deadline - time.monotonic()))
    finally:
        for slot in slots:
            slot.end()
        for slot in slots:
            slot.thread.join()


class _Slot:
    """A place for one worker process, and the thread that feeds it."""

    def __init__(self, waiting: deque, outcomes: queue.Queue, options: Options, environment: dict[str, str]):
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self._waiting, self._outcomes = waiting, outcomes
        self._options, self._environment = options, environment
        self._worker: subprocess.Popen | None = None
        self._lock = threading.Lock()
        self._stopping = False
        self.is_busy = False  # a job runs

    def ask(self) -> None:
        """Ask the worker's job to stop; the worker and its thread end after it."""
        with self._lock:
            self._stopping = True
            if self._worker is not None:
                with contextlib.suppress(OSError):
                    self._worker.terminate()

    def end(self) -> None:
        """End the worker and whatever it runs; its thread follows."""
        with self._lock:
            self._stopping = True
            if self._worker is not None:
                end_group(self._worker)

    def _serve(self) -> None:
        try:
            while not self._stopping:
                try:
                    job = self._waiting.popleft()
                except IndexError:
                    break
                self.is_busy = True
                outcome = self._run(job)
                self.is_busy = False
                self._outcomes.put(outcome)
        except Exception as error:
            self._outcomes.put(error)
        finally:
            self._retire()

    def _retire(self) -> int | None:
        """End the worker from the thread that reads it; its exit code."""
        with self._lock:
            if self._worker is None:
                return None
            worker, self._worker = self._worker, None
            end_group(worker)
            worker.stdout.close()
            return worker.returncode

    def _run(self, job: Job) -> Outcome:
        if self._worker is None and not self._start():
            return Outcome(job, STOPPED)
        request = {"argv": job.argv, "output_dir": job.output_dir, "retry": job.retry}
        try:
            self._worker.stdin.write(json.dumps(request) + "\n")
            self._worker.stdin.flush()
            answer = self._worker.stdout.readline()
        except OSError:
            answer = ""
        if answer:
            fields = json.loads(answer)
            if fields.get("skipped"):
                return Outcome(job, None, note="another launch of this sweep has it", skipped=True)
            if "error" in fields:
                return Outcome(job, None, note=fields["error"])
            return Outcome(job, fields["exit_code"])
        code = self._retire()
        if not self._stopping:
            _mark_killed(job.output_dir, code)
        return Outcome(job, None, note=f"its worker process {describe_exit(code)}")

    def _start(self) -> bool:
        command = [sys.executable, "-m", "roga_domainbed.launch.worker", "--entry", self._options.entry]
        command += ["--owner", self._options.owner, "--preload", *self._options.preload]
        with self._lock:
            if self._stopping:
                return False
            self._worker = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                env=self._environment,
                start_new_session=True,
            )
        if not self._worker.stdout.readline():
            code = self._retire()
            if self._stopping:
                return False
            raise Failed(f"a worker process could not start: it {describe_exit(code)}; its message is above")
        return True


def end_group(worker: subprocess.Popen) -> None:
    """End a worker, its job and that job's children, at once; do nothing if all are gone."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(worker.pid, signal.SIGKILL)
    else:
        worker.kill()
    worker.wait()
    # Its stdout is closed by the thread that may be reading it now.
    with contextlib.suppress(OSError):
        worker.stdin.close()


def _mark_killed(output_dir: str, code: int | None) -> None:
    """Write how the job of a worker that died ended, unless another process has taken it over."""
    number = attempts(output_dir)
    deadline = time.monotonic() + 1.0
    while is_live(output_dir, number) and time.monotonic() < deadline:  # the kernel takes its time
        time.sleep(0.01)
    job = read_job_file(output_dir, number)
    is_ours = job is not None and job.host == socket.gethostname() and not is_live(output_dir, number)
    if is_ours and job.exit_code is None:
        with contextlib.suppress(OSError):
            write_job_file(output_dir, replace(job, exit_code=code or -signal.SIGKILL), number)
