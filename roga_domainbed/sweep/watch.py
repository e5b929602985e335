"""``sweep watch``: the status again and again, with how fast the jobs are done and how long the rest will take."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from roga_domainbed.launch import Job
from roga_domainbed.launch.job import State
from roga_domainbed.launch.jobfile import read_job_file
from roga_domainbed.results.records import DONE
from roga_domainbed.sweep.status import Listed, status_table, trouble_lines

EVERY_S = 10.0
_HOUR = 3600.0
#: States in which nothing is left to run, unless somebody asks for it.
_ENDED = (State.DONE, State.FAILED, State.DROPPED)


class Finished(NamedTuple):
    """When a job was done, in Unix time, and how many seconds it took; None where no launcher of ours noted it."""

    at: float
    seconds: float | None


def watch(look: Callable[[], Sequence[Listed]], every_s: float = EVERY_S) -> None:
    """Print the status every ``every_s`` seconds until nothing is left to run; Ctrl-C ends it, too.

    On a terminal the new status takes the place of the old one; elsewhere blocks follow each other, each after a blank
    line, without control codes.

    Args:
        look: gives all jobs with their states now.
        every_s: seconds.
    """
    terminal = sys.__stdout__ if sys.stdout.isatty() else None
    pace, n_shown = Pace(), 0
    try:
        while True:
            listed = look()
            now = time.time()
            lines = [time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))]
            lines += [*status_table(listed).splitlines(), *pace.lines(listed, now), *trouble_lines(listed)]
            if terminal is not None:
                lines = _fitted(lines)
                if n_shown:
                    # Past sys.stdout, which would write the code out. Up to the first line, and clear from there.
                    sys.stdout.flush()
                    terminal.write(f"\x1b[{n_shown}F\x1b[J")
            elif n_shown:
                print()
            print("\n".join(lines), flush=True)
            n_shown = len(lines)
            if all(state in _ENDED for _, state in listed):
                return
            time.sleep(every_s)
    except KeyboardInterrupt:
        return


class Pace:
    """How fast a sweep goes. It remembers what it has read of jobs that are done."""

    def __init__(self) -> None:
        self._finished: dict[str, Finished] = {}

    def lines(self, listed: Sequence[Listed], now: float) -> list[str]:
        """What was done in the last hour, and the time left.

        Args:
            listed: jobs and states.
            now: Unix time.
        """
        seconds: dict[tuple[str, str], list[float]] = {}
        finished, left = [], []
        for job, state in listed:
            row = job.train_args["dataset"], job.row
            if state is State.DONE:
                found = self._finished.get(job.id) or self._finished.setdefault(job.id, _finished(job))
                finished.append(found)
                if found.seconds is not None:
                    seconds.setdefault(row, []).append(found.seconds)
            elif state not in _ENDED:
                file = read_job_file(job.output_dir) if state is State.RUNNING else None
                left.append((row, now - file.started if file else 0.0))
        means = {row: sum(own) / len(own) for row, own in seconds.items()}
        n_running = sum(state is State.RUNNING for _, state in listed)
        return [throughput(finished, now), time_left(left, means, n_running)]


def throughput(finished: Iterable[Finished], now: float) -> str:
    """How many jobs were done in the last hour, or since the first of these began.

    Jobs of which the seconds are not known count for the whole hour.
    """
    recent = [job for job in finished if now - job.at < _HOUR]
    if not recent:
        return "No job was done in the last hour."
    begun = min(job.at - (_HOUR if job.seconds is None else job.seconds) for job in recent)
    span = min(_HOUR, now - begun)
    if span == _HOUR:
        return f"{len(recent)} jobs were done in the last hour."
    return f"{len(recent)} jobs were done in the last {spoken(span)}: {len(recent) * _HOUR / max(span, 1):.1f} an hour."


def time_left(
    left: Sequence[tuple[tuple[str, str], float]], means: dict[tuple[str, str], float], n_running: int
) -> str:
    """How long what is left will take.

    Args:
        left: (dataset, row) of every job that is left, and the seconds that it has been running.
        means: (dataset, row) → mean seconds of its done jobs; a row without one takes the mean of the others.
        n_running: jobs at a time.
    """
    if not left:
        return "Nothing is left to run."
    if not n_running:
        return f"{len(left)} jobs are left, and none is running."
    if not means:
        return f"{len(left)} jobs are left; how long they take is known when the first is done."
    mean = sum(means.values()) / len(means)
    seconds = sum(max(0.0, means.get(row, mean) - elapsed) for row, elapsed in left)
    unknown = sorted({", ".join(row) for row, _ in left if row not in means})
    said = f"; {'; '.join(unknown)}: taken for the mean of the others" if unknown else ""
    return f"{len(left)} jobs are left: about {spoken(seconds / n_running)} with {n_running} at a time{said}."


def spoken(seconds: float) -> str:
    """``45 s``, ``2 min 30 s``, ``12 min``, ``3 h 05 min``, ``2 d 03 h``."""
    if seconds < 600:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    hours = round(minutes / 60)
    return f"{hours // 24} d {hours % 24:02d} h"


def _finished(job: Job) -> Finished:
    file = read_job_file(job.output_dir)
    try:
        at = os.stat(os.path.join(job.output_dir, DONE)).st_mtime
    except OSError:  # deleted meanwhile
        at = 0.0
    return Finished(at, None if file is None else file.seconds)


def _fitted(lines: Sequence[str]) -> list[str]:
    """``lines`` cut to the size of the terminal: one that wraps, or scrolls away, could not be replaced."""
    columns, rows = shutil.get_terminal_size()
    return [line[: columns - 1] for line in lines[: rows - 1]]
