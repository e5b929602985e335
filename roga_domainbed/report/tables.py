"""Result tables as values: what upstream's ``collect_results`` prints, before it is printed.

For each selection rule: one table a dataset (rows by environments), then one of averages (rows by datasets). Numbers
are percentages. A cell is mean and error over trials; the error is the population standard deviation divided by the
square root of the number of trials, as upstream defines it.

Two behaviours, as in ``results.selection``. By default an average over trials takes complete trials only, a dataset
that the catalog does not know is shown after those it knows, a single trial has no error, and a table says why a cell
has no number. With ``compat="upstream"`` a trial's average is over whatever test environments it has, unknown datasets
are dropped, the error of a single trial is 0, and what is missing is not listed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import product
from typing import NamedTuple

import numpy as np

from datasets_ext.training_options import said_of_share
from roga_domainbed.catalog import DATASETS
from roga_domainbed.errors import shortened
from roga_domainbed.metrics import Metric
from roga_domainbed.report.against import AgainstTable
from roga_domainbed.report.comparison import ComparisonTable
from roga_domainbed.report.incomplete import UnfinishedRun, missing_runs
from roga_domainbed.report.interval_table import IntervalTable
from roga_domainbed.report.without_number import NO_RUN, why_no_number
from roga_domainbed.results.records import DATA_OPTIONS
from roga_domainbed.results.rows import rows_of
from roga_domainbed.results.runs import Run
from roga_domainbed.results.selected import Selected, environment_name
from roga_domainbed.results.selection import (
    UPSTREAM,
    GroupKey,
    Rule,
    environments_in,
    group_by_test_env,
    held_out_with,
)

MOST_MISSING = 12  # lines below a table
NO_COMPLETE_TRIAL = "no trial has a number in every environment of the dataset"
AVERAGE_OF_ALL = "a cell of the row has no number"


@dataclass(frozen=True)
class Cell:
    """Mean and error over ``n`` trials, in percent; the error of a single trial is not known: None."""

    mean: float
    error: float | None
    n: int

    def text(self, plus_minus: str) -> str:
        """Mean and error with one decimal each."""
        return f"{self.mean:.1f}" + ("" if self.error is None else f" {plus_minus} {self.error:.1f}")


class Lack(NamedTuple):
    """Why a trial has no number in a cell, or the whole cell (``trial`` None): the end of a sentence."""

    row: str
    column: str
    trial: int | None
    reason: str


@dataclass(frozen=True)
class Row:
    """The cells of one row; None where there is no run. ``average`` is None if any cell is."""

    name: str
    algorithm: str
    cells: tuple[Cell | None, ...]
    average: float | None


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        dataset: whose environments the columns are; None for the averages over datasets.
        rule: the selection rule.
        metric: what the cells show.
        columns: environment names, or dataset names.
        rows: one for every algorithm of the sweep, or for every row that its plan or ``--rows`` names.
        caveats: how the runs were made, where it is not the default; printed in the title.
        trials: for every column the number of trials the sweep has there; empty if not to be checked.
        missing: the missing runs, one line a cell; empty for upstream's tables.
        lacks: why cells have no number though there are runs; empty for upstream's tables.
        remark: how numbers came about, where runs hold out several environments in different combinations.
        absent: a sentence in the place of a table without a number; None if the table is shown.
        unfinished: runs that count and have not finished; empty for upstream's tables.
    """

    dataset: str | None
    rule: Rule
    metric: Metric
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    caveats: tuple[str, ...] = ()
    trials: tuple[int, ...] = ()
    missing: tuple[str, ...] = ()
    unfinished: tuple[UnfinishedRun, ...] = ()
    lacks: tuple[Lack, ...] = ()
    remark: str = ""
    absent: str | None = None

    @property
    def is_oracle(self) -> bool:
        """Whether test data chose what the cells show."""
        return "oracle" in self.rule.title

    @property
    def title(self) -> str:
        """Dataset and rule, then metric and caveats where they are not upstream's default."""
        name = "Averages" if self.dataset is None else f"Dataset: {self.dataset}"
        return f"{name}, model selection method: {self.rule.title}{self.remarks}"

    @property
    def remarks(self) -> str:
        """Metric and caveats, each after a comma; empty for plain accuracy."""
        found = list(self.caveats)
        if self.metric.name != "acc":
            unit = f", {self.metric.unit}" * (self.metric.unit != "%")
            lower = " (lower is better)" * self.metric.lower_is_better
            found.insert(0, f"metric: {self.metric.name}{lower}{unit}")
        return "".join(f", {remark}" for remark in found)

    @property
    def labels(self) -> tuple[str, ...]:
        """The head of every column."""
        return "Algorithm", *self.columns, "Avg"

    def is_short(self, row: Row, column: int) -> bool:
        """Whether a cell is the mean of fewer trials than the sweep has; column −1 is the row's average."""
        if not self.trials:
            return False
        columns = range(len(row.cells)) if column < 0 else [column]
        cells = [(row.cells[index], self.trials[index]) for index in columns]
        return any(cell is not None and cell.n < trials for cell, trials in cells)

    def texts(self, row: Row, plus_minus: str) -> list[str]:
        """A row's cells and its average; ``X`` for None, ``*`` after the mean of fewer trials than the sweep has."""
        texts = ["X" if cell is None else cell.text(plus_minus) for cell in row.cells]
        texts.append("X" if row.average is None else f"{row.average:.1f}")
        columns = [*range(len(row.cells)), -1]
        return [
            text + "*" * (text != "X" and self.is_short(row, column))
            for text, column in zip(texts, columns, strict=True)
        ]

    def reason(self, row: Row, column: int) -> str:
        """Why a cell has no number; column −1 is the row's average. Empty if it has one."""
        if column < 0:
            return AVERAGE_OF_ALL if row.average is None else ""
        if row.cells[column] is not None:
            return ""
        if self.dataset is None:
            return NO_COMPLETE_TRIAL
        place = (row.name, self.columns[column], None)
        return next((lack.reason for lack in self.lacks if lack[:3] == place), NO_RUN)

    def notes(self) -> list[str]:
        """The lines below the table: what ``*`` means, which runs are missing, and why an X is no number."""
        notes = [self.remark] if self.remark else []
        if any(self.is_short(row, -1) for row in self.rows):
            trials = " or ".join(map(str, sorted(set(self.trials))))
            notes.append(f"* mean of fewer trials than the sweep has ({trials})")
        if self.missing:
            notes.append(f"Missing runs in {len(self.missing)} cell{'s' * (len(self.missing) > 1)}:")
            notes += [f"  {line}" for line in self.missing[:MOST_MISSING]]
            more = len(self.missing) - MOST_MISSING
            if more > 0:
                notes.append(f"  and in {more} more; collect-results --format json lists all")
        if self.trials:
            notes += self._about_x()
        return notes

    def _about_x(self) -> list[str]:
        lines = reason_lines(self.lacks)
        found = [cell is None for row in self.rows for cell in row.cells]
        if self.dataset is None and any(found):
            lines.append(f"X: {NO_COMPLETE_TRIAL}")
        elif any(row.average is None for row in self.rows):
            lines.append(f"X under Avg: {AVERAGE_OF_ALL}")
        return lines


def reason_lines(lacks: Iterable[Lack]) -> list[str]:
    """A line for each reason, with the cells that it is the reason for."""
    cells: dict[str, list[str]] = {}
    for row, column, trial, reason in lacks:
        place = f"{row}, {column}" + (f" (trial {trial})" if trial is not None else "")
        cells.setdefault(reason, []).append(place)
    lines = []
    for reason, places in cells.items():
        more = f"; {len(places) - 4} more" if len(places) > 4 else ""
        lines.append(f"No number for {'; '.join(places[:4])}{more}: {reason}")
    if len(lines) > MOST_MISSING:
        lines[MOST_MISSING:] = [
            f"and {len(lines) - MOST_MISSING} more reasons; collect-results --format json has all"
        ]
    return lines


@dataclass(frozen=True)
class Tables:
    """All tables of a sweep: for each rule those of the datasets, then the averages; and comparisons, if wanted.

    Attributes:
        n_records: what they were made from.
        tables: in the order of printing.
        intervals: of the cells, if wanted.
        comparisons: of the rows with one of them, if wanted.
        against: a paper's numbers beside ours, if wanted.
        problems: a sentence for everything that could not be read, or that the numbers should not be read without.
    """

    n_records: int
    tables: tuple[Table, ...]
    intervals: tuple[IntervalTable, ...] = ()
    comparisons: tuple[ComparisonTable, ...] = ()
    against: tuple[AgainstTable, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def more(self) -> tuple[IntervalTable | ComparisonTable | AgainstTable, ...]:
        """The tables that follow those of the rules."""
        return *self.intervals, *self.comparisons, *self.against

    @property
    def shown(self) -> list[Table]:
        """Those to print, a sentence in the place of a table without a number."""
        return [table for table in self.tables if table.absent != ""]


def build_tables(
    runs: Sequence[Run],
    selected: Sequence[Selected],
    *,
    compat: str | None = None,
    n_records: int | None = None,
    unfinished: Sequence[UnfinishedRun] = (),
    planned: Mapping[str, Collection[int]] | None = None,
) -> Tables:
    """Tables of what the rules selected.

    Args:
        runs: all runs of a sweep.
        selected: of ``runs``, with the same ``compat``, in the order in which the tables shall come.
        compat: None or ``"upstream"``.
        n_records: the number of records to show, where ``runs`` were merged; their number by default.
        unfinished: those of the runs that have not finished.
        planned: dataset → environments that the sweep holds out, where its plan tells: the others get no column.
    """
    rows = rows_of(runs)
    present = dict.fromkeys(run.args["dataset"] for run in runs if run.args["test_envs"])
    datasets = [name for name in DATASETS.names() if name in present]
    if compat != UPSTREAM:
        datasets += [name for name in present if name not in DATASETS]
    layouts = [
        _layout(runs, dataset, rows, unfinished, compat, None if planned is None else planned.get(dataset))
        for dataset in datasets
    ]
    groups = cache(lambda: group_by_test_env(runs))
    tables = []
    for own in selected:
        averages: dict[str, list[Cell | None]] = {name: [] for name in rows}
        of_datasets = []
        for layout in layouts:
            found = []
            for name, algorithm in rows.items():
                by_env = _by_env(own.values.get(name, {}), layout)
                cells = [_cell(list(trials.values()), compat) for trials in by_env]
                found.append(_row(name, algorithm, cells))
                averages[name].append(_average_cell(by_env, compat))
            table = Table(
                layout.dataset, own.rule, own.metric, layout.columns, tuple(found), layout.caveats,
                (len(layout.trials),) * len(layout.columns) if layout.trials else (), layout.missing, layout.unfinished,
                () if compat == UPSTREAM else _lacks(own, layout, found, groups), layout.remark,
            )  # fmt: skip
            of_datasets.append(table if compat == UPSTREAM else _without_table(table))
        found = [_row(name, rows[name], cells) for name, cells in averages.items()]
        caveats = tuple(dict.fromkeys(caveat for layout in layouts for caveat in layout.caveats))
        trials = () if compat == UPSTREAM else tuple(len(layout.trials) for layout in layouts)
        table = Table(None, own.rule, own.metric, tuple(datasets), tuple(found), caveats, trials)
        if compat != UPSTREAM and all(shown.absent is not None for shown in of_datasets):
            table = replace(table, absent="")  # it has been said
        elif compat != UPSTREAM:
            table = _without_table(table)
        tables += [*of_datasets, table]
    return Tables(sum(map(len, runs)) if n_records is None else n_records, tuple(tables))


def _without_table(table: Table) -> Table:
    """With a sentence in its place if no cell has a number."""
    if any(cell is not None for row in table.rows for cell in row.cells):
        return table
    default = NO_COMPLETE_TRIAL if table.dataset is None else NO_RUN
    reasons = list(dict.fromkeys(lack.reason for lack in table.lacks)) or [default]
    name = "Averages" if table.dataset is None else table.dataset
    sentence = f"{name}, {table.rule.title}{table.remarks}: no table, because {'; '.join(reasons[:3])}."
    return replace(table, absent=sentence)


def _lacks(
    own: Selected,
    layout: _Layout,
    rows: Sequence[Row],
    grouped: Callable[[], Mapping[GroupKey, Sequence[Run]]],
) -> tuple[Lack, ...]:
    """Why trials that have runs give no number."""
    lacking = {
        (trial, layout.dataset, row.name, env)
        for row, env, trial in product(rows, layout.test_envs, layout.trials)
        if (layout.dataset, env, trial) not in own.values.get(row.name, {})
    }
    groups = grouped() if lacking else {}
    lacks = []
    for row in rows:
        for env, column, cell in zip(layout.test_envs, layout.columns, row.cells, strict=True):
            reasons = {}
            for trial in layout.trials:
                place = (trial, layout.dataset, row.name, env)
                if place in lacking and place in groups:
                    sets = layout.sets[env]
                    reasons[trial] = why_no_number(groups[place], env, sets, own.rule, own.metric)
            if cell is None:
                lacks += [Lack(row.name, column, None, reason) for reason in dict.fromkeys(reasons.values())]
            else:
                lacks += [Lack(row.name, column, trial, reason) for trial, reason in reasons.items()]
    return tuple(lacks)


@dataclass(frozen=True)
class _Layout:
    """What the tables of one dataset share, whatever the rule."""

    dataset: str
    columns: tuple[str, ...]
    test_envs: tuple[int, ...]
    caveats: tuple[str, ...] = ()
    trials: tuple[int, ...] = ()
    missing: tuple[str, ...] = ()
    unfinished: tuple[UnfinishedRun, ...] = ()
    sets: Mapping[int, tuple[tuple[int, ...], ...]] = field(default_factory=dict)
    remark: str = ""


def _layout(
    runs: Sequence[Run],
    dataset: str,
    rows: Iterable[str],
    unfinished: Sequence[UnfinishedRun],
    compat: str | None,
    planned: Collection[int] | None,
) -> _Layout:
    runs = [run for run in runs if run.args["dataset"] == dataset]
    n_known = len(DATASETS.get(dataset).environments) if dataset in DATASETS else 0
    if compat == UPSTREAM:
        test_envs = range(n_known)
        return _Layout(dataset, tuple(environment_name(dataset, env) for env in test_envs), tuple(test_envs))
    every_env = sorted(environments_in(runs).union(range(n_known)))
    together = {run.held_out for run in runs}
    held_out = {env for envs in together for env in envs}
    # An environment that the sweep never tests on lacks no run, so it gets no column. The plan tells which these are.
    # Without one they are known only where no run held out one environment alone: the sweep tests on some at once.
    if planned is not None:
        test_envs = [env for env in every_env if env in held_out.union(planned)]
    elif not any(len(envs) == 1 for envs in together):
        test_envs = [env for env in every_env if env in held_out]
    else:
        test_envs = every_env
    sets = {env: held_out_with(runs, env) for env in test_envs}
    # Where runs hold an environment out, and it has no number whatever they are, no run is missing.
    judged = {
        environment_name(dataset, env): found for env, found in sets.items() if found or env not in held_out
    }
    return _Layout(
        dataset,
        tuple(environment_name(dataset, env) for env in test_envs),
        tuple(test_envs),
        _caveats(runs, dataset),
        tuple(sorted({run.args["trial_seed"] for run in runs})),
        missing_runs(runs, rows, judged),
        tuple(run for run in unfinished if run.dataset == dataset),
        sets,
        _remark(dataset, sets, len(every_env)),
    )


def _remark(dataset: str, sets: Mapping[int, tuple[tuple[int, ...], ...]], n_envs: int) -> str:
    if all(len(found) < 2 for found in sets.values()):
        if len(sets) < n_envs and all(found in ((), ((env,),)) for env, found in sets.items()):
            return f"The sweep holds out {len(sets)} of the {n_envs} environments: an average is over these"
        return ""
    every = sorted({envs for found in sets.values() for envs in found})
    names = [" + ".join(environment_name(dataset, env) for env in envs) for envs in every]
    return (
        f"No run holds out one environment alone: a number is the mean over the runs that hold the environment out "
        f"together with others ({shortened(names, 6)})"
    )


def _caveats(runs: Sequence[Run], dataset: str) -> tuple[str, ...]:
    """How the data of the runs were made up, where it is not the default, and whether all runs have it."""
    plugin = dataset in DATASETS and DATASETS.get(dataset).plugin
    frame = {"frame": "frame split: frames of one video on both sides"} if plugin else {}
    words = {
        "split": {**frame, "group": "group split"},
        "reals": {"partitioned": "reals partitioned"},
        "strict": {"True": "strict"},
        "allow_leakage": {"True": "leakage allowed"},
    }
    caveats = []
    for name in DATA_OPTIONS if any(run.data for run in runs) else ():
        values = [str(run.data.get(name, "")) for run in runs]  # records of others may hold anything
        for value in dict.fromkeys(values):
            said = words.get(name, {}).get(value) or (value and said_of_share(name, value))
            said = f"real:fake {value}" if name == "balance" and value else said
            if said:
                caveats.append(said + " (in some of the runs)" * (values.count(value) < len(values)))
    return tuple(caveats)


def _by_env(values: Mapping[tuple[str, int, int], float], layout: _Layout) -> list[dict[int, float]]:
    """For every column of the table trial → value."""
    by_env: dict[int, dict[int, float]] = {env: {} for env in layout.test_envs}
    for dataset, env, trial in sorted(values, key=lambda key: key[2]):
        if dataset == layout.dataset and env in by_env:
            by_env[env][trial] = values[dataset, env, trial]
    return list(by_env.values())


def _average_cell(by_env: list[dict[int, float]], compat: str | None) -> Cell | None:
    trials = sorted({trial for values in by_env for trial in values})
    means = []
    for trial in trials:
        values = [values[trial] for values in by_env if trial in values]
        if compat == UPSTREAM or len(values) == len(by_env):
            means.append(np.mean(values))
    return _cell(means, compat)


def _cell(values: Sequence[float], compat: str | None) -> Cell | None:
    if not values:
        return None
    mean = 100 * np.mean(list(values))
    if len(values) == 1 and compat != UPSTREAM:
        return Cell(float(mean), None, 1)
    error = 100 * np.std(list(values)) / np.sqrt(len(values))
    return Cell(float(mean), float(error), len(values))


def _row(name: str, algorithm: str, cells: Sequence[Cell | None]) -> Row:
    means = [cell.mean for cell in cells if cell is not None]
    complete = bool(cells) and len(means) == len(cells)
    return Row(name, algorithm, tuple(cells), float(np.mean(means)) if complete else None)
