"""Short jobs of a sweep, DomainBed's own launcher against ours: seconds a job, and where those of ours go.

    DOMAINBED_HOME=… python benchmarks/sweep_overhead.py [--jobs 48] [--upstream_jobs 6]
        [--rounds 1] [--sides upstream ours engine]

Jobs are ERM on Debug28, 20 steps of 8 images of each of two environments, as a sweep's command launches them: with the
launcher ``local`` and its defaults. The sides take turns, a whole sweep each:

    upstream   python -m domainbed.scripts.sweep launch   the checkout's unmodified scripts
    ours       roga-domainbed sweep launch                on the same checkout: the same classes and data set
    engine     roga-domainbed sweep launch                without a checkout

A job's seconds are those of the command, divided by its jobs: start, imports and all. Upstream's jobs, which share
nothing, cost the same in a sweep of any length: fewer of them are timed. CPU is processor time, of all
processes of the command that were waited for. "further job" leaves out what a sweep has once: the time from the start
of its first job to the end of its last, divided by their number. The bound is on the whole command.

Then one warm worker runs jobs of ours alone, and each part of a job is timed in its process: wall seconds, processor
seconds. "process" is what the launcher adds: fork, job file and exit. What is neither steps nor evaluation is overhead.
The first job's are not counted: memory that the worker shares with its jobs is not resident yet.
"""

from __future__ import annotations

import argparse
import builtins
import contextlib
import functools
import importlib
import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from roga_domainbed.cli.sweep import launching
from roga_domainbed.launch import Job, Options
from roga_domainbed.launch.jobfile import read_job_file
from roga_domainbed.launch.local import run_in_pool

SIDES = ("upstream", "ours", "engine")
STEPS = 20
RATIO = 1 / 8  # of upstream's seconds a job
OVERHEAD_S = 0.3  # of a warm job

#: What the three environments' jobs have in common. DomainBed waits for ever where a minibatch is larger than a split.
HPARAMS = json.dumps({"batch_size": 8})
PARTS_FILE = "parts.json"
TITLES = ("wall, s a job", "of upstream", "CPU, s a job", "of upstream", "further job, s", "of upstream")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=48, help="of each sweep of ours; a multiple of 3")
    parser.add_argument("--upstream_jobs", type=int, default=6, help="of each of upstream's, likewise")
    parser.add_argument("--rounds", type=int, default=1, help="sweeps of each side")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    args = parser.parse_args()
    sides = args.sides
    if "DOMAINBED_HOME" not in os.environ:
        sides = [side for side in sides if side == "engine"]
        print("DOMAINBED_HOME is not set: only the engine is measured")
    print(
        f"{platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}; Python "
        f"{platform.python_version()}; {args.jobs} jobs of {STEPS} steps in each sweep of ours, "
        f"{args.upstream_jobs} in upstream's"
    )
    met = True
    with tempfile.TemporaryDirectory(prefix="sweep-overhead-") as scratch:
        met = compare(sides, args.jobs, args.upstream_jobs, args.rounds, Path(scratch))
        for side in sides:
            if side != "upstream":
                met = anatomy(side, min(args.jobs, 12), Path(scratch)) and met
    return 0 if met else 1


# --- the sweeps ---------------------------------------------------------------------------------------------


def compare(sides: Sequence[str], n_ours: int, n_upstreams: int, rounds: int, scratch: Path) -> bool:
    """Print the seconds a job of each side; whether the bound on ours is met."""
    whole, processor, further = ({side: [] for side in sides} for _ in range(3))
    for number in range(rounds):
        for side in sides:
            folder = scratch / f"{side}-{number}"
            n_jobs = n_upstreams if side == "upstream" else n_ours
            before = processor_seconds()
            whole[side].append(timed_sweep(side, n_jobs, folder) / n_jobs)
            processor[side].append((processor_seconds() - before) / n_jobs)
            if side != "upstream":  # whose jobs share nothing
                further[side].append(busy_seconds(folder) / n_jobs)
    print(f"\n{'':12}" + "".join(f"{title:>16}" for title in TITLES) + "   each sweep's s a job")
    upstreams = [statistics.mean(of.get("upstream") or [math.nan]) for of in (whole, processor)]
    base, met = upstreams[0], True
    for side in sides:
        wall, busy, alone = (statistics.mean(of[side] or [math.nan]) for of in (whole, processor, further))
        values = (wall, wall / base, busy, busy / upstreams[1], alone, alone / base)
        cells = ["–" if value != value else f"{value:.3f}" for value in values]
        each = ", ".join(f"{value:.2f}" for value in whole[side])
        print(f"{side:<12}" + "".join(f"{cell:>16}" for cell in cells) + f"   {each}", flush=True)
        if side != "upstream" and base == base:
            met = met and wall / base <= RATIO
    if base == base:
        print(f"bound on ours and the engine: {RATIO:.3f} of upstream: {'met' if met else 'MISSED'}")
    return met


def environment_of(side: str) -> dict[str, str]:
    """The environment variables of a side's commands."""
    environment = dict(os.environ)
    if side == "engine":
        environment.pop("DOMAINBED_HOME", None)
    # DomainBed's launcher starts "python": it shall be this one.
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
    return environment


def timed_sweep(side: str, n_jobs: int, folder: Path) -> float:
    """Launch a sweep of ``n_jobs`` into ``folder``; wall seconds of the command."""
    upstream = side == "upstream"
    script = ["domainbed.scripts.sweep"] if upstream else ["roga_domainbed", "sweep"]
    command = [sys.executable, "-m", *script, "launch", "--command_launcher", "local", "--skip_confirmation"]
    command += ["--datasets", "Debug28", "--algorithms", "ERM", "--n_hparams", "1", "--single_test_envs"]
    command += ["--n_trials", str(n_jobs // 3), "--steps", str(STEPS), "--hparams", HPARAMS]
    command += ["--output_dir", str(folder), "--data_dir", str(folder.parent)]
    home = os.environ["DOMAINBED_HOME"] if upstream else None
    start = time.perf_counter()
    done = subprocess.run(
        command, cwd=home, env=environment_of(side), capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - start
    made = len(list(folder.glob("*/done")))
    if done.returncode or made != n_jobs:
        sys.exit(f"{side}: {made} of {n_jobs} jobs are done\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}")
    return seconds


def processor_seconds() -> float:
    """Of all processes that were waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def busy_seconds(folder: Path) -> float:
    """From the start of the first job in ``folder`` to the end of the last."""
    files = [read_job_file(path.parent) for path in folder.glob("*/done")]
    return max(file.started + file.seconds for file in files) - min(file.started for file in files)


# --- the parts of a job -------------------------------------------------------------------------------------


class Clock:
    """Attributes wall and processor seconds of this process to the innermost part that is open."""

    def __init__(self) -> None:
        self.wall: Counter[str] = Counter()
        self.processor: Counter[str] = Counter()
        self._open = ["rest"]
        self._last = time.perf_counter(), time.process_time()

    def settle(self) -> None:
        """Give the time since the last call to the part that is open."""
        wall, processor = time.perf_counter(), time.process_time()
        self.wall[self._open[-1]] += wall - self._last[0]
        self.processor[self._open[-1]] += processor - self._last[1]
        self._last = wall, processor

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Inside, time is of the part ``name``, but for what is inside another one there."""
        self.settle()
        self._open.append(name)
        try:
            yield
        finally:
            self.settle()
            self._open.pop()

    def watch(self, name: str, owner: Any, *functions: str) -> None:
        """Let calls of ``functions`` of the module or class ``owner`` be of the part ``name``."""
        for function in functions:
            setattr(owner, function, self._timed(name, getattr(owner, function)))

    def watch_imports(self) -> None:
        """Let what is imported for the first time be of the part ``imports``."""
        known, timed = builtins.__import__, self._timed("imports", builtins.__import__)

        def imported(name: str, *args: Any, **more: Any) -> Any:
            return (known if name in sys.modules else timed)(name, *args, **more)

        builtins.__import__ = imported
        self.watch("imports", importlib, "import_module")

    def _timed(self, name: str, function: Any) -> Any:
        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            if self._open[-1] == name:
                return function(*args, **kwargs)
            with self.part(name):
                return function(*args, **kwargs)

        return timed


def timed_job(argv: Sequence[str]) -> int:
    """Run a job, as its worker does, and write the seconds of its parts into its folder."""
    clock = Clock()
    clock.watch_imports()
    from roga_domainbed.cli import main
    from roga_domainbed.input.prefetch import Prefetcher
    from roga_domainbed.trainer import experiment, loop, run

    clock.watch("arguments", run, "resolve_hparams")
    clock.watch("arguments", run.TrainConfig, "check")
    clock.watch("dataset", experiment, "open_splits", "audited")
    clock.watch("network", run.Experiment, "__init__")
    clock.watch("readers", Prefetcher, "_started")
    clock.watch("steps", loop.TrainingLoop, "_update")
    clock.watch("evaluation", loop, "evaluate", "record_values")
    clock.watch("records", loop.TrainingLoop, "_store")
    clock.watch("checkpoint", loop.TrainingLoop, "_write_checkpoint")
    clock.watch("model", loop.TrainingLoop, "_of_detector")
    clock.watch("model", loop, "save_model")
    code = main(argv)
    clock.settle()
    folder = Path(argv[argv.index("--output_dir") + 1])
    (folder / PARTS_FILE).write_text(json.dumps([clock.wall, clock.processor]))
    return code


def anatomy(side: str, n_jobs: int, scratch: Path) -> bool:
    """Print the mean seconds of each part of a job in a warm worker; whether the bound on the overhead is met."""
    jobs = []
    for number in range(n_jobs + 1):
        folder = str(scratch / f"parts-{side}" / str(number))
        argv = ["train", "--dataset", "Debug28", "--algorithm", "ERM", "--test_envs", str(number % 3)]
        argv += ["--steps", str(STEPS), "--hparams", HPARAMS, "--output_dir", folder]
        jobs.append(Job(tuple(argv), folder))
    # The worker imports this file by its name, once, as it does the entry of real jobs.
    environment = {**environment_of(side), "PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    preload = (*launching.PRELOAD, "sweep_overhead")
    options = Options(1, entry="sweep_overhead:timed_job", preload=preload)
    with without(os.environ, "DOMAINBED_HOME" if side == "engine" else ""):
        outcomes = list(run_in_pool(jobs, options, [environment]))
    for outcome in outcomes:
        if outcome.exit_code:
            sys.exit(
                f"a job failed: {outcome.job.log_path}\n{Path(outcome.job.log_path).read_text()[-3000:]}"
            )
    wall, processor = Counter(), Counter()
    for job in jobs[1:]:
        of_wall, of_processor = json.loads(Path(job.output_dir, PARTS_FILE).read_text())
        wall.update(of_wall)
        processor.update(of_processor)
        wall["process"] += read_job_file(job.output_dir).seconds - sum(of_wall.values())
    n = len(jobs) - 1
    work = ("steps", "evaluation")
    print(f"\n{side}: a job in a warm worker, one thread\n{'':12}{'wall, s':>10}{'CPU, s':>10}")
    for part in (*work, *sorted(set(wall) - set(work), key=wall.get, reverse=True)):
        spent = f"{processor[part] / n:10.3f}" if part in processor else f"{'–':>10}"
        print(f"{part:<12}{wall[part] / n:10.3f}{spent}")
    overhead = [sum(part.values()) - sum(part[name] for name in work) for part in (wall, processor)]
    met = overhead[0] / n <= OVERHEAD_S
    print(f"{'job':<12}{wall.total() / n:10.3f}{processor.total() / n:10.3f}")
    print(f"{'overhead':<12}{overhead[0] / n:10.3f}{overhead[1] / n:10.3f}")
    print(f"bound on the overhead: {OVERHEAD_S} s: {'met' if met else 'MISSED'}")
    return met


@contextlib.contextmanager
def without(environment: Any, name: str) -> Iterator[None]:
    """Inside, the environment variable ``name`` is not set."""
    value = environment.pop(name, None)
    try:
        yield
    finally:
        if value is not None:
            environment[name] = value


if __name__ == "__main__":
    sys.exit(main())
