"""Where a sweep stands: jobs counted by dataset, algorithm and state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from roga_domainbed.sweep.jobs import UNFINISHED, Job, State

_COLUMNS = (State.DONE, State.RUNNING, State.FAILED, State.INCOMPLETE, State.NOT_LAUNCHED)


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
    """A row for each dataset and algorithm, in the order of the jobs, then the totals."""
    counts: dict[tuple[str, str], Counter] = {}
    for job, state in jobs:
        key = (job.train_args["dataset"], job.train_args["algorithm"])
        counts.setdefault(key, Counter())[state] += 1
    total = sum(counts.values(), Counter())
    rows = [["Dataset", "Algorithm", *(state.value.lower() for state in _COLUMNS), "jobs"]]
    for names, count in [*counts.items(), (("total", ""), total)]:
        rows.append([*names, *(str(count[state]) for state in _COLUMNS), str(count.total())])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "".join(
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        + "\n"
        for row in rows
    )
