"""A sweep of 100,000 jobs and 1,000 workers over a slow shared folder, simulated: does its cost stay linear?

    python benchmarks/sweep_scale.py [--jobs 1000 10000 100000] [--workers 1000] [--delay_ms 1]

The code is the real one, from the plan to the workers' claims, notes and markers, on real files. Only the jobs are
pretended: each writes its marker ``done`` and ends. Every call that a network folder would answer (stat, open, listdir,
mkdir, link, rename, unlink, utime) is counted and takes --delay_ms of pretended time. The workers take turns in one
process; each calls itself another machine.

    list       what 'sweep launch' does before the first job: the plan's jobs, their folders' names, their states
    run        two launches at once, with half of the workers each; one worker of a hundred dies in every second job
    status     'sweep status' when that is over
    take over  the next launch, with the leases of the dead expired

A line has the calls for each job of the sweep, the time of all calls with nobody waiting for another (a process looks
at several jobs at a time, workers share theirs), and the processor time of this process for each job.
What stays the same from line to line grows linearly. Exit status 1 if calls for each job grow by more than a tenth.
"""

from __future__ import annotations

import argparse
import builtins
import contextlib
import io
import itertools
import os
import socket
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from roga_domainbed.launch import Job
from roga_domainbed.launch.job import State
from roga_domainbed.launch.jobfile import attempt_name, attempts
from roga_domainbed.launch.worker import _Worker
from roga_domainbed.results.records import is_done, mark_done
from roga_domainbed.sweep.jobs import train_job
from roga_domainbed.sweep.plan import Plan
from roga_domainbed.sweep.status import AT_ONCE, job_states

_CALLS = "stat lstat open listdir scandir mkdir link rename replace unlink remove utime rmdir".split()
_LONG_AGO_S = 1000.0


class Calls:
    """Counts calls of the file system while the block runs."""

    def __init__(self) -> None:
        self._numbers = itertools.count()  # whose next() is one step also for threads

    @property
    def n(self) -> int:
        """How many there were; asked once."""
        return next(self._numbers)

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """Count."""
        with contextlib.ExitStack() as stack:
            for module, name in [(os, name) for name in _CALLS] + [(builtins, "open"), (io, "open")]:
                stack.enter_context(mock.patch.object(module, name, self._counting(getattr(module, name))))
            yield

    def _counting(self, call):
        def counting(*args, **kwargs):
            next(self._numbers)
            return call(*args, **kwargs)

        return counting


class Pretended:
    """A worker of a machine of its own, whose jobs end at once."""

    def __init__(self, number: int):
        self.host, self.n_jobs, self.is_mortal = f"node{number}.invalid", 0, number % 100 == 0
        self.is_dead = False
        self._worker = _Worker("", "", self._start)

    def run(self, job: Job, retry: bool) -> bool:
        """Run one job as a warm worker does; False if another one has it."""
        with mock.patch.object(socket, "gethostname", return_value=self.host):
            try:
                return "skipped" not in self._worker.run(list(job.argv), job.output_dir, retry)
            except _Died:
                self.is_dead = True
                return True

    def _start(self, lease, argv, log):
        self.n_jobs += 1
        if self.is_mortal and self.n_jobs % 2 == 0:
            os.close(log)
            raise _Died
        mark_done(lease.folder)
        return os.getpid(), lambda: 0


class _Died(Exception):
    pass


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--delay_ms", type=float, default=1.0)
    args = parser.parse_args()
    waiting = f"at {args.delay_ms:g} ms a call"
    print(f"{'jobs':>7}  {'phase':<9}  {'calls a job':>11}  {waiting:>15}  ms a job")
    found: dict[str, list[float]] = {}
    for n_jobs in args.jobs:
        # In memory: the disk of this machine is not what is measured.
        memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
        with tempfile.TemporaryDirectory(dir=memory) as folder:
            for phase, calls, seconds, share in simulate(Path(folder, "sweep"), n_jobs, args.workers):
                found.setdefault(phase, []).append(calls / n_jobs)
                waited = calls * args.delay_ms / 1000 / share
                line = f"{n_jobs:>7,}  {phase:<9}  {calls / n_jobs:>11.2f}  {waited:>13.1f} s"
                print(f"{line}  {1000 * seconds / n_jobs:>8.3f}", flush=True)
    grew = [phase for phase, per_job in found.items() if max(per_job[1:], default=0) > 1.1 * per_job[0]]
    print(f"not linear: {', '.join(grew)}" if grew else "linear: calls a job do not grow")
    return int(bool(grew))


def simulate(folder: Path, n_jobs: int, n_workers: int) -> Iterator[tuple[str, int, float, int]]:
    """Phase, calls, processor seconds, and how many share the calls."""
    plan = Plan(
        datasets=["Debug28"], algorithms=["ERM"], test_envs=[0], n_hparams=20, n_trials=-(-n_jobs // 20)
    )

    def listed() -> list[tuple[Job, State]]:
        jobs = [train_job(train_args, str(folder)) for train_args in plan.train_args()]
        return job_states(jobs, folder)

    calls, start = Calls(), time.process_time()
    with calls.counted():
        jobs = listed()
    yield "list", calls.n, time.process_time() - start, AT_ONCE
    assert all(state is State.NOT_LAUNCHED for _, state in jobs)

    workers = [Pretended(number) for number in range(n_workers)]
    calls, start = Calls(), time.process_time()
    with calls.counted():
        run(jobs, workers, n_launches=2)
    yield "run", calls.n, time.process_time() - start, n_workers
    died = sum(worker.is_dead for worker in workers)

    calls, start = Calls(), time.process_time()
    with calls.counted():
        jobs = listed()
    yield "status", calls.n, time.process_time() - start, AT_ONCE
    left = [(job, state) for job, state in jobs if state is not State.DONE]
    assert len(left) == died, (len(left), died)
    assert all(state is State.RUNNING for _, state in left), "their leases are not over yet"

    for job, _ in left:  # time goes by
        path = os.path.join(job.output_dir, attempt_name(1))
        os.utime(path, (time.time() - _LONG_AGO_S,) * 2)
    calls, start = Calls(), time.process_time()
    with calls.counted():
        left = [(job, state) for job, state in listed() if state is not State.DONE]
        assert all(state is State.INTERRUPTED for _, state in left)
        run(left, [Pretended(number) for number in range(1, 99)], n_launches=2)
    yield "take over", calls.n, time.process_time() - start, AT_ONCE
    assert all(is_done(job.output_dir) for job, _ in jobs)
    assert all(attempts(job.output_dir) == 2 for job, _ in left), "each was taken over once"


def run(jobs: list[tuple[Job, State]], workers: list[Pretended], n_launches: int) -> None:
    """Launches that hand out the same jobs at the same time, each to workers of its own."""
    launches = [
        (deque((job, state is not State.NOT_LAUNCHED) for job, state in jobs), workers[number::n_launches])
        for number in range(n_launches)
    ]
    while any(waiting for waiting, _ in launches):
        for waiting, own in launches:
            for worker in own:
                if waiting and not worker.is_dead:
                    worker.run(*waiting.popleft())


if __name__ == "__main__":
    sys.exit(main())
