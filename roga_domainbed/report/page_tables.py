"""The tables of the page as values: what a cell says, and what it is sorted by."""

from __future__ import annotations

import json
import math
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from roga_domainbed.catalog import ALGORITHMS, DATASETS
from roga_domainbed.launch.job import State
from roga_domainbed.report.comparison import LABELS, ComparisonTable
from roga_domainbed.report.figures.training import step_seconds
from roga_domainbed.report.health import RunHealth
from roga_domainbed.report.intervals import OVER, Interval
from roga_domainbed.report.study import Candidate, CellKey, Study, environment_name
from roga_domainbed.report.tables import Table
from roga_domainbed.report.text import footnotes, format_cells, header
from roga_domainbed.report.unfinished import headline
from roga_domainbed.results.statistics import average_ranks, compare
from roga_domainbed.sweep.jobs import train_job

_STATES = (State.DONE, State.RUNNING, State.FAILED, State.INCOMPLETE)


@dataclass(frozen=True)
class Value:
    """One cell.

    Attributes:
        text: what it says.
        sort: what it is sorted by; None is last in either direction.
        below: a smaller second line.
        strong: whether it stands out.
    """

    text: str
    sort: float | str | None = None
    below: str = ""
    strong: bool = False


@dataclass(frozen=True)
class PageTable:
    """A table.

    Attributes:
        caption: what it is; names the rule, and *oracle* where test data decided.
        columns: their heads; the first is the row's head.
        rows: a value a column.
        notes: below it.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]
    notes: tuple[str, ...] = ()

    @property
    def is_numeric(self) -> tuple[bool, ...]:
        """For each column whether its cells are numbers, and belong on the right."""
        found = []
        for cells in zip(*self.rows, strict=True):
            keys = [cell.sort for cell in cells if cell.sort is not None]
            found.append(bool(keys) and not any(isinstance(key, str) for key in keys))
        return tuple(found) or (False,) * len(self.columns)

    def without_empty_columns(self) -> PageTable:
        """Without columns that say nothing in any row."""
        kept = [i for i in range(len(self.columns)) if any(row[i].text for row in self.rows)]
        columns = tuple(self.columns[i] for i in kept)
        return replace(self, columns=columns, rows=tuple(tuple(row[i] for i in kept) for row in self.rows))


def text(value: str, **kwargs: object) -> Value:
    """A cell sorted by what it says."""
    return Value(value, value, **kwargs)


def number(value: float, form: str = ".1f", *, absent: str = "–") -> Value:
    """A cell sorted by its number; ``absent`` for NaN."""
    return Value(absent) if math.isnan(value) else Value(format(value, form), value)


def result_table(table: Table, study: Study, intervals: Mapping[CellKey, Interval]) -> PageTable:
    """A table of ``collect-results``, with intervals below the numbers where it is of the first rule."""
    best = [_best(table, column) for column in range(len(table.columns) + 1)]
    rows = []
    for row in table.rows:
        numbers = [None if cell is None else cell.mean for cell in row.cells] + [row.average]
        cells = [text(row.algorithm + " (oracle)" * table.is_oracle)]
        for column, (shown, value) in enumerate(zip(format_cells(table, row, "±"), numbers, strict=True)):
            below = ""
            if table.rule is study.rule and table.dataset is not None and column < len(table.columns):
                below = _interval_text(
                    intervals.get((table.dataset, row.algorithm, _env(study, table, column)))
                )
            strong = value is not None and len(table.rows) > 1 and value == best[column]
            cells.append(Value(shown, value, below, strong))
        rows.append(tuple(cells))
    marks = sorted({cell.below[-1] for row in rows for cell in row if cell.below})
    legend = {mark: f"{mark}: 95 % interval over {over}, {OVER[over]}" for over, mark in _MARKS.items()}
    notes = [f"{legend[mark]}." for mark in marks] + [note.strip() for note in footnotes(table)]
    if table.unfinished:
        notes.append(f"{headline(table.unfinished)}: see Sweep health.")
    return PageTable(header(table), ("Algorithm", *table.columns, "Avg"), tuple(rows), tuple(notes))


_MARKS = {"videos": "v", "samples": "s", "trials": "t"}


def comparison_table(study: Study) -> PageTable | None:
    """Every algorithm against the baseline, and average ranks; None with fewer than two algorithms."""
    values = study.values()
    if len(values) < 2 or study.baseline not in values:
        return None
    lower = study.metric.lower_is_better
    found = compare(values, study.baseline, lower_is_better=lower)
    ranks, blocks = average_ranks(values, lower_is_better=lower)
    table = ComparisonTable(study.baseline, study.rule, study.metric, tuple(found), ranks, blocks)
    keys = [(study.baseline, *[None] * 5, ranks[study.baseline])]
    keys += [
        (
            row.algorithm,
            row.difference,
            row.interval[0],
            row.p_value,
            row.wins - row.losses,
            row.pairs,
            ranks[row.algorithm],
        )
        for row in found
    ]
    rows = [
        tuple(Value(said, None if key != key else key) for said, key in zip(texts, own, strict=True))
        for texts, own in zip(table.rows(), keys, strict=True)
    ]
    return PageTable(table.header, LABELS, tuple(rows), tuple(table.notes()))


def chosen_table(study: Study, dataset: str) -> PageTable:
    """Every chosen run of a data set with its hyper-parameters; those that never differ are in the note."""
    chosen = study.chosen_in(dataset)
    hparams = [study.folder_of[c.source].hparams for c in chosen]
    names = sorted({name for own in hparams for name in own})
    values = {name: {json.dumps(own[name], default=str) for own in hparams if name in own} for name in names}
    varied = [name for name in names if len(values[name]) > 1]
    same = [f"{name} = {_short(json.loads(*values[name]))}" for name in names if name not in varied]
    rows = [
        (
            text(c.algorithm + " (oracle)" * ("oracle" in study.rule.title)),
            text(c.env_name),
            Value(str(c.trial), c.trial),
            Value(str(c.hparams_seed), c.hparams_seed),
            Value(str(c.step), c.step),
            number(100 * c.val),
            number(100 * c.test),
            *(_hparam(own, name) for name in varied),
        )
        for c, own in zip(chosen, hparams, strict=True)
    ]
    notes = [f"The same in all that have it: {', '.join(same)}."] if same else []
    if not names:
        notes = ["The records carry no hyper-parameters."]
    return PageTable(
        f"{dataset}: what was chosen, model selection method: {study.rule.title}",
        ("Algorithm", "Held out", "Trial", "hparams seed", "Step", "As the rule saw it", "Test", *varied),
        tuple(rows),
        tuple(notes),
    )


def cells_table(study: Study, dataset: str, intervals: Mapping[CellKey, Interval]) -> PageTable | None:
    """The interval of every cell, over what, or why there is none; None if the same holds for all of them."""
    own = {(i.over, i.note) for cell, i in intervals.items() if cell[0] == dataset}
    if len(own) <= 1 and not any(over for over, _ in own):
        return None
    rows = []
    cells: dict[tuple[str, int], list[Candidate]] = {}
    for c in study.chosen_in(dataset):
        if not math.isnan(c.test):
            cells.setdefault((c.algorithm, c.env), []).append(c)
    for (algorithm, env), trials in cells.items():
        interval = intervals[dataset, algorithm, env]
        values = [100 * c.test for c in trials]
        rows.append(
            (
                text(algorithm + " (oracle)" * ("oracle" in study.rule.title)),
                text(environment_name(dataset, env)),
                number(sum(values) / len(values), ".2f"),
                Value(f"{100 * interval.low:.2f} to {100 * interval.high:.2f}" if interval.over else "–",
                      interval.low if interval.over else None),
                text(interval.over or "–"),
                Value(str(len(trials)), len(trials)),
                text(interval.note),
            )
        )  # fmt: skip
    return PageTable(
        f"{dataset}: 95 % intervals of the cells, model selection method: {study.rule.title}",
        ("Algorithm", "Held out", "Mean", "95 % interval", "Over", "Trials", "Why so"),
        tuple(rows),
        (
            "An interval of no width, as of an AUC of 100, means that no mistake was seen, not that none can be made.",
        ),
    ).without_empty_columns()


def cost_table(study: Study, dataset: str) -> PageTable:
    """Median step time, its ratio to the baseline's, and peak memory, a row an algorithm."""
    seconds = {a: step_seconds(study, study.chosen_in(dataset, algorithm=a)) for a in study.algorithms}
    base = seconds.get(study.baseline, math.nan)
    rows = []
    for algorithm, own in seconds.items():
        memory = [
            record["mem_gb"]
            for c in study.chosen_in(dataset, algorithm=algorithm)
            for record in study.folder_of[c.source].records
            if isinstance(record.get("mem_gb"), float)
        ]
        peak = max(memory, default=0.0)
        rows.append(
            (
                text(algorithm),
                number(1000 * own),
                number(own / base, ".2f"),
                number(peak or math.nan, ".2f"),
            )
        )
    return PageTable(
        f"{dataset}: cost of a step",
        ("Algorithm", "ms a step (median)", f"Relative to {study.baseline}", "Peak GPU memory (GiB)"),
        tuple(rows),
    )


def health_table(health: Sequence[RunHealth]) -> PageTable:
    """Runs by data set, algorithm and state."""
    counts: dict[tuple[str, str], Counter] = {}
    for run in health:
        count = counts.setdefault((run.dataset, run.algorithm), Counter())
        count[run.state] += 1
        count["without"] += not run.has_records
    rows = [
        (
            text(algorithm),
            text(dataset),
            *(Value(str(count[state]), count[state]) for state in _STATES),
            Value(str(count["without"]), count["without"]),
        )
        for (dataset, algorithm), count in counts.items()
    ]
    columns = ("Algorithm", "Dataset", "Finished", "Running", "Failed", "Unfinished", "Without a record")
    return PageTable("Runs by state", columns, tuple(rows))


def provenance_table(study: Study) -> PageTable | None:
    """What runs recorded of where they come from: a row a kind of fact, a column a distinct answer; None if nothing."""
    kinds: Counter[str] = Counter(
        json.dumps(_flat(run.provenance), sort_keys=True, default=str)
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
        "What the runs recorded about themselves",
        ("", *(f"{count} runs" for _, count in answers)),
        tuple(rows),
        (f"{more} further combinations are not shown.",) if more else (),
    )


def recorded_facts(study: Study) -> set[str]:
    """The names of everything that any run recorded of where it comes from."""
    return {name for folder in study.folder_of.values() for name in _flat(folder.provenance)}


_MOST_ANSWERS = 6


def reproduction(candidate: Candidate, study: Study) -> str:
    """The command that trains a chosen run once more."""
    run = study.folder_of[candidate.source]
    args = {name: value for name, value in run.records[0]["args"].items() if name != "output_dir"}
    job = train_job(args, "reproduced")
    if not run.provenance:  # DomainBed's own script, with the plugin in it if a name is the plugin's
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
    return "–" if value is None else str(value)


def _hparam(own: Mapping, name: str) -> Value:
    if name not in own:
        return Value("–")
    value = own[name]
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return Value(_short(value), value if is_number else str(value))


def _interval_text(interval: Interval | None) -> str:
    if interval is None or not interval.over:
        return ""
    return f"{100 * interval.low:.1f} to {100 * interval.high:.1f} {_MARKS[interval.over]}"


def _env(study: Study, table: Table, column: int) -> int:
    name = table.columns[column]
    return next(
        (env for env in study.test_envs(table.dataset) if environment_name(table.dataset, env) == name), -1
    )


def _best(table: Table, column: int) -> float | None:
    values = [
        row.average if column == len(table.columns) else row.cells[column] and row.cells[column].mean
        for row in table.rows
    ]
    values = [value for value in values if value is not None]
    return max(values, key=table.metric.rank, default=None)
