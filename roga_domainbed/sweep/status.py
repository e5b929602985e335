"""Where a sweep stands: jobs counted by dataset, algorithm and state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from roga_domainbed.launch import Job
from roga_domainbed.launch.job import UNFINISHED, State
from roga_domainbed.results.text_table import text_table

_COLUMNS = (State.DONE, State.RUNNING, State.FAILED, State.INTERRUPTED, State.NOT_LAUNCHED)


def summary_line(states: Iterable[State]) -> str:
    """Upstream's count, such as ``6 jobs: 0 done, 0 incomplete, 6 not launched.``, as one line.

    What runs now or has failed is incomplete to upstream; their numbers follow in parentheses if there are any.
    """
    count = Counter(states)
    incomplete = sum(count[state] for state in UNFINISHED)
    parts = [
        f"{count[state]} {state.value.lower()}" for state in (State.RUNNING, State.FAILED) if count[state]
    ]
    detail = f" ({', '.join(parts)})" if parts else ""
    return (
        f"{count.total()} jobs: {count[State.DONE]} done, {incomplete} incomplete{detail}, "
        f"{count[State.NOT_LAUNCHED]} not launched."
    )


def status_table(jobs: Iterable[tuple[Job, State]]) -> str:
    """A row for each dataset and row of the plan, in the order of the jobs, then the totals."""
    jobs = list(jobs)
    counts: dict[tuple[str, str], Counter] = {}
    for job, state in jobs:
        counts.setdefault((job.train_args["dataset"], job.row), Counter())[state] += 1
    total = sum(counts.values(), Counter())
    named = any("row" in job.train_args for job, _ in jobs)
    rows = [
        ["Dataset", "Row" if named else "Algorithm", *(state.value.lower() for state in _COLUMNS), "jobs"]
    ]
    for names, count in [*counts.items(), (("total", ""), total)]:
        rows.append([*names, *(str(count[state]) for state in _COLUMNS), str(count.total())])
    return text_table(rows, n_left=2)
