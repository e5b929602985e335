"""Where a sweep stands: the jobs' states, as a table of rows by test environments, and why jobs did not finish."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from roga_domainbed.catalog import DATASETS
from roga_domainbed.launch import Job, submissions
from roga_domainbed.launch.job import UNFINISHED, State
from roga_domainbed.launch.jobfile import INTERRUPTED, STOPPED, describe_exit
from roga_domainbed.results.text_table import text_table

Listed = tuple[Job, State]

MOST_LINES = 10  # about jobs that did not finish
_LONGEST_COLUMN = 18  # letters of a column's head
#: Folders that are looked at at the same time: a network file system takes a millisecond for each.
AT_ONCE = 8
_CHUNK = 64  # jobs that a thread takes in turn

#: What a cell shows beside its numbers.
_MARKS = {
    State.RUNNING: ">",
    State.FAILED: "!",
    State.INTERRUPTED: "~",
    State.WAITING: ":",
    State.DROPPED: "-",
}
#: States of which there is a line that says why.
_TROUBLE = (State.FAILED, State.INTERRUPTED)
#: States that most sweeps never have: their column of the totals is left out where it is empty.
_RARE = (State.WAITING, State.DROPPED)


def job_states(jobs: Iterable[Job], folder: str | os.PathLike) -> list[Listed]:
    """Each job once, with its state, and whether it waits in a cluster's queue.

    Of jobs without a folder in the sweep's ``folder`` nothing more is looked at.
    """
    try:
        with os.scandir(folder) as entries:
            present = {entry.name for entry in entries}
    except OSError:
        present = set()
    jobs = list({job.output_dir: job for job in jobs}.values())
    queued = submissions.waiting(folder)

    def with_state(job: Job) -> Listed:
        state = job.state if job.id in present else State.NOT_LAUNCHED
        is_next = state in (State.NOT_LAUNCHED, State.INTERRUPTED)
        return job, State.WAITING if is_next and job.id in queued else state

    chunks = [jobs[start : start + _CHUNK] for start in range(0, len(jobs), _CHUNK)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return [
            pair for pairs in pool.map(lambda chunk: list(map(with_state, chunk)), chunks) for pair in pairs
        ]


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
    rare = "".join(f", {count[state]} {state.value.lower()}" for state in _RARE if count[state])
    return (
        f"{count.total()} jobs: {count[State.DONE]} done, {incomplete} incomplete{detail}, "
        f"{count[State.NOT_LAUNCHED]} not launched{rare}."
    )


def status_table(listed: Iterable[Listed]) -> str:
    """For each dataset, rows by test environments, a cell as ``12/20!``: done of all, and marks; then the totals.

    Jobs that hold out a pair, beside those that hold out each alone, are in one column; jobs of a training set, in
    one that is called after it. Jobs that halving dropped count in no cell: nothing of them is left to do.
    """
    cells: dict[str, dict[str, dict[str, Counter]]] = {}  # dataset → row → column → states
    jobs = list(listed)
    columns = _columns(jobs)
    for job, state in jobs:
        dataset, envs = job.train_args["dataset"], tuple(job.train_args["test_envs"])
        of_row = cells.setdefault(dataset, {}).setdefault(job.row, {})
        of_row.setdefault(columns[dataset][envs], Counter())[state] += 1
    named = any("row" in job.train_args for job, _ in jobs)
    blocks = [
        f"{dataset}\n" + _grid(rows, list(dict.fromkeys(columns[dataset].values())), named)
        for dataset, rows in cells.items()
    ]
    present = {state for _, state in jobs}
    marks = [
        f"{mark} {state.value.lower()}{' (not counted)' * (state is State.DROPPED)}"
        for state, mark in _MARKS.items()
        if state in present
    ]
    legend = f"done/all jobs{'; some are: ' * bool(marks)}{', '.join(marks)}\n"
    counts = {
        dataset: sum((count for row in rows.values() for count in row.values()), Counter())
        for dataset, rows in cells.items()
    }
    return "\n".join([*blocks, legend]) + "\n" + _totals(counts)


def _grid(rows: dict[str, dict[str, Counter]], columns: Sequence[str], named: bool) -> str:
    """One dataset's table. The numbers are aligned to the right, the marks stand beyond them."""
    table = [["Row" if named else "Algorithm", *columns]]
    marks = [max(len(_marks_of(row[column])) for row in rows.values() if column in row) for column in columns]
    for name, row in rows.items():
        cells = []
        for column, width in zip(columns, marks, strict=True):
            count = row.get(column)
            text = "" if count is None else f"{count[State.DONE]}/{_to_do(count)}{_marks_of(count):<{width}}"
            cells.append(text)
        table.append([name, *cells])
    table[0][1:] = [column + " " * width for column, width in zip(columns, marks, strict=True)]
    return text_table(table)


def _totals(counts: dict[str, Counter]) -> str:
    """The jobs of each dataset by state, and of all."""
    total = sum(counts.values(), Counter())
    states = [state for state in State if total[state] or state not in _RARE]
    rows = [["", *(state.value.lower() for state in states), "jobs"]]
    every = {**counts, "total": total} if len(counts) > 1 else counts
    for name, count in every.items():
        rows.append([name, *(str(count[state]) for state in states), str(count.total())])
    return text_table(rows)


def _marks_of(count: Counter) -> str:
    return "".join(mark for state, mark in _MARKS.items() if count[state])


def _to_do(count: Counter) -> int:
    return count.total() - count[State.DROPPED]


def _columns(jobs: Iterable[Listed]) -> dict[str, dict[tuple[int, ...], str]]:
    """Dataset → test environments of a job → the column that it counts in, in the order of the columns."""
    found: dict[str, dict[tuple[int, ...], str]] = {}
    for job, _ in jobs:
        found.setdefault(job.train_args["dataset"], {})[tuple(job.train_args["test_envs"])] = ""
    for dataset, sets in found.items():
        names = _environments(dataset)
        single = {
            envs: names[envs[0]] if envs[0] < len(names) else f"env{envs[0]}"
            for envs in sorted(sets)
            if len(envs) == 1
        }
        pairs = [envs for envs in sets if len(envs) == 2 and any((env,) in single for env in envs)]
        others = {envs: _training_set(dataset, envs) for envs in sets if envs not in {*single, *pairs}}
        found[dataset] = single | dict.fromkeys(pairs, "pairs") | others
    return found


def _training_set(dataset: str, test_envs: Sequence[int]) -> str:
    """``on DF``, ``on DF+F2F``: the environments that are not held out; one that the catalog lacks has no names."""
    names = enumerate(_environments(dataset))
    trained = "+".join(name for env, name in names if env not in test_envs)
    text = f"on {trained}" if trained else f"not {'+'.join(map(str, test_envs))}"
    return text if len(text) <= _LONGEST_COLUMN else f"{text[: _LONGEST_COLUMN - 1]}…"


def _environments(dataset: str) -> tuple[str, ...]:
    return DATASETS.get(dataset).environments if dataset in DATASETS else ()


# --- what went wrong --------------------------------------------------------------------------------------


def trouble_lines(
    listed: Iterable[Listed],
    exit_code: Callable[[Job], int | None] = lambda job: job.exit_code,
    *,
    every: bool = False,
) -> list[str]:
    """A line for each reason why jobs failed or were interrupted, with the log of the first; failed jobs come first.

    Args:
        listed: jobs and states.
        exit_code: of a job that did not finish.
        every: one line for each job, however many there are.
    """
    alike: dict[tuple, list[tuple[Job, str]]] = {}
    for job, state in listed:
        if state not in _TROUBLE:
            continue
        code = exit_code(job)
        text = _how_it_ended(code, state) + _reason(job, code)
        # Jobs fail alike at other steps and sizes: 'step 3: loss is nan', 'step 7: loss is nan'.
        kind = job.id if every else _NUMBER.sub("0", text)
        alike.setdefault((state is not State.FAILED, kind), []).append((job, text))
    groups = [alike[key] for key in sorted(alike, key=lambda key: key[0])]
    shown = groups if every else groups[:MOST_LINES]
    lines = []
    for (job, text), *others in shown:
        if others:
            lines.append(f"{1 + len(others)} jobs {text}; first: {job.label}{job.where_to_read}")
        else:
            lines.append(f"Job {job.label} {text}{job.where_to_read}")
    more = sum(map(len, groups[len(shown) :]))
    return [*lines, f"… and {more} more; --all shows them"] if more else lines


_NUMBER = re.compile(r"\d+(\.\d+)?")


def _how_it_ended(code: int | None, state: State) -> str:
    if state is State.FAILED or (code or 0) < 0:
        return describe_exit(code)
    if code == STOPPED:
        return "told to stop"
    if code == INTERRUPTED:
        return "stopped by Ctrl-C"
    # A job of DomainBed's own train, or one whose machine went down, left none.
    return "ended without the marker 'done'" if code is not None else "ended without an exit status"


def _reason(job: Job, code: int | None) -> str:
    has_one = code is not None and code > 0 and code not in (STOPPED, INTERRUPTED)
    reason = job.reason if has_one else ""
    return f" ({reason})" if reason else ""
