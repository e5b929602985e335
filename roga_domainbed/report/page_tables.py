"""The tables of the page as values: the text of each cell, and what it is sorted by."""

from __future__ import annotations

import json
import math
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from roga_domainbed.catalog import ALGORITHMS, DATASETS
from roga_domainbed.launch.job import State
from roga_domainbed.report.against import AgainstTable
from roga_domainbed.report.comparison import can_compare, comparison_table
from roga_domainbed.report.figures.training import step_seconds
from roga_domainbed.report.health import RunHealth
from roga_domainbed.report.incomplete import count_unfinished
from roga_domainbed.report.intervals import OVER, Interval, trial_means
from roga_domainbed.report.study import Study
from roga_domainbed.report.tables import Table
from roga_domainbed.results.protocols import environment_name
from roga_domainbed.results.runs import as_number, is_number
from roga_domainbed.results.selected import CellKey, JudgedRun, Selected
from roga_domainbed.sweep.jobs import train_job

_STATES = {
    State.DONE: "Finished",
    State.DROPPED: "Dropped by halving",
    State.RUNNING: "Running",
    State.FAILED: "Failed",
    State.INTERRUPTED: "Unfinished",
}


@dataclass(frozen=True)
class Value:
    """One cell.

    Attributes:
        text: as shown.
        sort: what it is sorted by; None is last in either direction.
        below: a smaller second line.
        strong: whether it is bold.
    """

    text: str
    sort: float | str | None = None
    below: str = ""
    strong: bool = False


@dataclass(frozen=True)
class PageTable:
    """A table.

    Attributes:
        caption: above it; names the rule, with *oracle* where test data decided.
        columns: their heads; the first column names the row.
        rows: a value for each column.
        notes: lines below it.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]
    notes: tuple[str, ...] = ()

    @property
    def is_numeric(self) -> tuple[bool, ...]:
        """For each column whether its cells are numbers, which are aligned to the right."""
        found = []
        for cells in zip(*self.rows, strict=True):
            keys = [cell.sort for cell in cells if cell.sort is not None]
            found.append(bool(keys) and not any(isinstance(key, str) for key in keys))
        return tuple(found) or (False,) * len(self.columns)

    def without_empty_columns(self) -> PageTable:
        """Without the columns that are empty in every row."""
        kept = [i for i in range(len(self.columns)) if any(row[i].text for row in self.rows)]
        columns = tuple(self.columns[i] for i in kept)
        return replace(self, columns=columns, rows=tuple(tuple(row[i] for i in kept) for row in self.rows))


def text(value: str, **kwargs: object) -> Value:
    """A cell sorted by its text."""
    return Value(value, value, **kwargs)


def number(value: float, form: str = ".1f", *, absent: str = "–") -> Value:
    """A cell sorted by its number; ``absent`` for NaN."""
    return Value(absent) if math.isnan(value) else Value(format(value, form), value)


def result_table(table: Table, intervals: Mapping[CellKey, Interval]) -> PageTable:
    """A table of ``collect-results``, with the intervals of its rule below the numbers.

    A table without a number is a sentence: the caption of a table without rows.
    """
    if table.absent:
        return PageTable(table.absent, (), ())
    best = [_best(table, column) for column in range(len(table.columns) + 1)]
    envs = {environment_name(table.dataset, env): env for name, _, env in intervals if name == table.name}
    rows = []
    for row in table.rows:
        numbers = [None if cell is None else cell.mean for cell in row.cells] + [row.average]
        cells = [text(row.name + " (oracle)" * table.is_oracle)]
        for label, shown, value, highest in zip(
            table.labels[1:], table.texts(row, "±"), numbers, best, strict=True
        ):
            below = _interval_text(intervals.get((table.name, row.name, envs.get(label))))
            strong = value is not None and len(table.rows) > 1 and value == highest
            cells.append(Value(shown, value, below, strong))
        rows.append(tuple(cells))
    marks = sorted({cell.below[-1] for row in rows for cell in row if cell.below})
    legend = {mark: f"{mark}: 95 % interval over {over}: {OVER[over]}" for over, mark in _MARKS.items()}
    notes = [f"{legend[mark]}." for mark in marks] + [note.strip() for note in table.notes()]
    if table.unfinished:
        notes.append(f"{count_unfinished(table.unfinished)}: see Sweep health.")
    return PageTable(table.title, table.labels, tuple(rows), tuple(notes))


_MARKS = {"videos": "v", "samples": "s", "trials": "t"}


def comparisons(study: Study) -> list[PageTable]:
    """For each group of tables every row against the baseline, and average ranks; none if less than two have values."""
    of_groups = [study.first.within(group) for group in study.first.groups]
    return [_comparison(own, study.baseline) for own in of_groups if can_compare(own, study.baseline)]


def _comparison(selected: Selected, baseline: str) -> PageTable:
    table = comparison_table(selected, baseline)
    keys = [(baseline, *[None] * 5, table.ranks[baseline])]
    for row in table.found:
        numbers = (row.difference, row.interval[0], row.p_value, row.wins - row.losses, row.pairs)
        keys.append((row.name, *numbers, table.ranks[row.name]))
    rows = [
        tuple(Value(shown, None if key != key else key) for shown, key in zip(texts, own, strict=True))
        for texts, own in zip(table.rows(), keys, strict=True)
    ]
    return PageTable(table.title, table.labels, tuple(rows), tuple(table.notes()))


def against_table(table: AgainstTable) -> PageTable:
    """A paper's numbers beside ours."""
    rows = []
    for texts, cell in zip(table.rows(), table.cells, strict=True):
        low = 100 * cell.interval.low if cell.interval.over else None
        keys = (cell.row, cell.column.name, cell.paper, cell.ours, low, cell.difference, texts[-1] or None)
        rows.append(tuple(map(Value, texts, keys)))
    return PageTable(table.title, table.labels, tuple(rows), tuple(table.notes()))


def chosen_table(study: Study, dataset: str) -> PageTable:
    """Every chosen run of a dataset with its hyper-parameters; those that never differ are in the note."""
    chosen = study.chosen_in(dataset)
    hparams = [c.hparams for c in chosen]
    names = sorted({name for own in hparams for name in own})
    values = {name: {json.dumps(own[name], default=str) for own in hparams if name in own} for name in names}
    varied = [name for name in names if len(values[name]) > 1]
    same = [f"{name} = {_short(json.loads(*values[name]))}" for name in names if name not in varied]
    rows = [
        (
            text(c.row + study.mark),
            text(c.place),
            Value(str(c.trial), c.trial),
            Value(str(c.hparams_seed), c.hparams_seed),
            Value(str(c.step), c.step),
            number(100 * c.val),
            number(100 * c.test),
            *(_hparam(own, name) for name in varied),
        )
        for c, own in zip(chosen, hparams, strict=True)
    ]
    notes = [f"The same in all runs that have it: {', '.join(same)}."] if same else []
    if not names:
        notes = ["The records have no hyper-parameters."]
    return PageTable(
        f"{dataset}: chosen runs, model selection method: {study.rule.title}",
        ("Algorithm", "Held out", "Trial", "hparams seed", "Step", "Validation", "Test", *varied),
        tuple(rows),
        tuple(notes),
    )


def intervals_table(study: Study, dataset: str, intervals: Mapping[CellKey, Interval]) -> PageTable | None:
    """The interval of every cell, or why it has none; None if no cell has one, all for the same reason."""
    found = {(i.over, i.note) for cell, i in intervals.items() if cell[0] == dataset}
    if len(found) <= 1 and not any(over for over, _ in found):
        return None
    rows, reasons = [], {}
    for row, env in product(study.rows, study.test_envs(dataset)):
        trials = study.first.trials.get((dataset, row, env), [])
        if not trials:
            continue
        interval = intervals[dataset, row, env]
        values = [100 * value for value in trial_means(trials)]
        reason = reasons.setdefault(interval.note, len(reasons) + 1) if interval.note else None
        rows.append(
            (
                text(row + study.mark),
                text(study.environment_name(dataset, env)),
                number(sum(values) / len(values), ".2f"),
                Value(f"{100 * interval.low:.2f} to {100 * interval.high:.2f}" if interval.over else "–",
                      interval.low if interval.over else None),
                text(interval.over or "–"),
                Value(str(len(values)), len(values)),
                Value("", None) if reason is None else Value(f"note {reason}", reason),
            )
        )  # fmt: skip
    return PageTable(
        f"{dataset}: 95 % intervals, model selection method: {study.rule.title}",
        ("Algorithm", "Held out", "Mean", "95 % interval", "Over", "Trials", "Reason"),
        tuple(rows),
        (
            *(f"Note {place}: {reason}." for reason, place in reasons.items()),
            "An interval of zero width, as of an AUC of 100, says that no error was seen, not that there can be none.",
        ),
    ).without_empty_columns()


def cost_table(study: Study, dataset: str) -> PageTable:
    """For each row: median step time, its ratio to the baseline's, and peak memory."""
    seconds = {row: step_seconds(study, study.chosen_in(dataset, row=row)) for row in study.rows}
    base = seconds[study.baseline]
    rows = []
    for row, own in seconds.items():
        memory = [
            value
            for c in study.chosen_in(dataset, row=row)
            for record in study.folder_of[c.source].records
            if math.isfinite(value := as_number(record.get("mem_gb")))
        ]
        peak = max(memory, default=0.0) or math.nan
        rows.append(
            (text(row), number(1000 * own), number(own / base, ".2f"), number(peak, ".2f", absent=""))
        )
    return PageTable(
        f"{dataset}: cost of a step",
        ("Algorithm", "ms per step (median)", f"Relative to {study.baseline}", "Peak GPU memory (GiB)"),
        tuple(rows),
    ).without_empty_columns()


def health_table(health: Sequence[RunHealth], names: Sequence[str]) -> PageTable:
    """The number of runs in each state, by dataset and row, the rows in the order of ``names``; others come last."""
    place = {name: number for number, name in enumerate(names)}
    counts: dict[tuple[str, str], Counter] = {}
    for run in health:
        count = counts.setdefault((run.dataset, run.row), Counter())
        count[run.state] += 1
        count["without"] += not run.has_records
    halved = any(count[State.DROPPED] for count in counts.values())
    states = [state for state in _STATES if state is not State.DROPPED or halved]
    rows = [
        (
            text(row),
            text(dataset),
            *(Value(str(count[state]), count[state]) for state in states),
            Value(str(count["without"]), count["without"]),
        )
        for (dataset, row), count in sorted(
            counts.items(), key=lambda item: (item[0][0], place.get(item[0][1], len(place)), item[0][1])
        )
    ]
    columns = ("Algorithm", "Dataset", *(_STATES[state] for state in states), "Without records")
    return PageTable("Runs by state", columns, tuple(rows))


def provenance_table(study: Study) -> PageTable | None:
    """What the runs recorded of versions, backend and data: a column for each combination; None if there is none."""
    kinds: Counter[str] = Counter(
        json.dumps(
            # what was tested on is below the tables; it may differ from trial to trial
            _flat({name: value for name, value in run.provenance.items() if name != "counts"}),
            sort_keys=True,
            default=str,
        )
        for run in study.folder_of.values()
        if run.provenance
    )
    if not kinds:
        return None
    answers = [(json.loads(kind), count) for kind, count in kinds.most_common(_MOST_ANSWERS)]
    names = list(dict.fromkeys(name for answer, _ in answers for name in answer))
    rows = [(text(name), *(text(answer.get(name, "–")) for answer, _ in answers)) for name in names]
    more = len(kinds) - len(answers)
    return PageTable(
        "Versions, backend and data of the runs",
        ("", *(f"{count} run{'s' * (count > 1)}" for _, count in answers)),
        tuple(rows),
        (f"{more} more combinations are not shown.",) if more else (),
    )


def recorded_facts(study: Study) -> set[str]:
    """The names of everything in the provenance of any run."""
    return {name for folder in study.folder_of.values() for name in _flat(folder.provenance)}


_MOST_ANSWERS = 6


def reproduction(chosen: JudgedRun, study: Study) -> str:
    """The command that trains a chosen run again."""
    run = study.folder_of[chosen.source]
    args = {name: value for name, value in run.records[0]["args"].items() if name != "output_dir"}
    job = train_job(args, "reproduced")
    if not run.provenance:  # DomainBed's own script; with the plugin if it registers one of the names
        ours = [(ALGORITHMS, args["algorithm"]), (DATASETS, args["dataset"])]
        if any(name in registry and registry.get(name).plugin for registry, name in ours):
            return shlex.join(["roga-domainbed", "upstream", *job.argv])
        return job.text
    command = shlex.join(["roga-domainbed", *job.argv])
    if run.provenance.get("backend") == "upstream":
        commit = run.provenance.get("backend_commit")
        place = f"DomainBed-at-{commit[:12]}" if isinstance(commit, str) else "DomainBed"
        return f"DOMAINBED_HOME={place} {command}"
    return command


def _flat(values: Mapping, prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + str(name)] = _short(value)
    return flat


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    return "–" if value is None else str(value) or "none"


def _hparam(own: Mapping, name: str) -> Value:
    if name not in own:
        return Value("–")
    value = own[name]
    return Value(_short(value), value if is_number(value) else str(value))


def _interval_text(interval: Interval | None) -> str:
    if interval is None or not interval.over:
        return ""
    return f"{100 * interval.low:.1f} to {100 * interval.high:.1f} {_MARKS[interval.over]}"


def _best(table: Table, column: int) -> float | None:
    values = [
        row.average if column == len(table.columns) else row.cells[column] and row.cells[column].mean
        for row in table.rows
    ]
    values = [value for value in values if value is not None]
    return max(values, key=table.metric.rank, default=None)
