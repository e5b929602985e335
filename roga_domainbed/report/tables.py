"""Result tables as values: what upstream's ``collect_results`` prints, before it is printed.

For each selection rule: one table a dataset (rows by environments), then one of averages (rows by datasets). Where
runs hold out several environments together, one table a training set, then one of averages (rows by training sets).
Numbers are percentages. A cell is mean and error over trials; the error is the population standard deviation divided
by the square root of the number of trials, as upstream defines it.

Two behaviours, as in ``results.selection``. By default an average over trials takes complete trials only, a dataset
that the catalog does not know is shown after those it knows, a single trial has no error, and a table says why a cell
has no number. With ``compat="upstream"`` a trial's average is over whatever test environments it has, unknown datasets
are dropped, the error of a single trial is 0, and what is missing is not listed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import NamedTuple

import numpy as np

from datasets_ext.training_options import said_of_share
from roga_domainbed.catalog import DATASETS
from roga_domainbed.errors import shortened
from roga_domainbed.metrics import Metric
from roga_domainbed.report.against import AgainstTable
from roga_domainbed.report.comparison import ComparisonTable
from roga_domainbed.report.incomplete import UnfinishedRun, missing_runs, search_note
from roga_domainbed.report.interval_table import IntervalTable
from roga_domainbed.report.sizes import FEW, size_notes
from roga_domainbed.report.without_number import NO_FURTHER_RUNS, NO_RUN, why_no_number
from roga_domainbed.results.protocols import (
    Group,
    Protocol,
    environment_name,
    environments_of,
    table_name,
)
from roga_domainbed.results.records import DATA_OPTIONS
from roga_domainbed.results.rows import rows_of
from roga_domainbed.results.runs import Run
from roga_domainbed.results.sample_size import SampleSize
from roga_domainbed.results.selected import Selected
from roga_domainbed.results.selection import UPSTREAM, GroupKey, Rule, group_by_test_env

MOST_MISSING = 12  # lines below a table
NO_COMPLETE_TRIAL = "no trial has a number in every environment of the dataset"
AVERAGE_OF_ALL = "a cell of the row has no number"


@dataclass(frozen=True)
class Cell:
    """Mean and error over ``n`` trials, in percent; the error of a single trial is not known: None.

    ``tested_on`` has what the trials were tested on, each once; empty where that is not asked for.
    """

    mean: float
    error: float | None
    n: int
    tested_on: tuple[SampleSize, ...] = ()

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
        dataset: whose environments the columns are; None for averages.
        rule: the selection rule.
        metric: what the cells show.
        columns: environment names; of averages, datasets or training sets.
        rows: one for every algorithm of the sweep, or for every row that its plan or ``--rows`` names.
        caveats: how the runs were made, where it is not the default; printed in the title.
        trials: for every column the number of trials the sweep has there; empty if not to be checked.
        missing: the missing runs, one line a cell; empty for upstream's tables.
        lacks: why cells have no number though there are runs; empty for upstream's tables.
        remark: how numbers came about, where runs hold out several environments in different combinations.
        search: how the search for hyper-parameters was cut short; empty if it was not.
        absent: a sentence in the place of a table without a number; None if the table is shown.
        unfinished: runs that count and have not finished; empty for upstream's tables.
        trained_on: the training environments, where the table is of one training set; else empty.
        averages_of: the dataset, of averages over training sets; else empty.
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
    search: str = ""
    absent: str | None = None
    trained_on: str = ""
    averages_of: str = ""

    @property
    def is_oracle(self) -> bool:
        """Whether test data chose what the cells show."""
        return "oracle" in self.rule.title

    @property
    def title(self) -> str:
        """Dataset and rule, then metric and caveats where they are not upstream's default."""
        name = f"{'Dataset: ' * (self.dataset is not None)}{self.name}"
        return f"{name}, model selection method: {self.rule.title}{self.remarks}"

    @property
    def name(self) -> str:
        """The dataset, with the training set where the table is of one; or what averages are over."""
        if self.dataset is not None:
            return table_name(self.dataset, self.trained_on)
        return f"Averages of {self.averages_of} by training set" if self.averages_of else "Averages"

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
        """A row's cells and its average; ``X`` for None.

        ``*`` follows the mean of fewer trials than the sweep has, ``†`` what was tested on few videos or people.
        """
        texts = ["X" if cell is None else cell.text(plus_minus) for cell in row.cells]
        texts.append("X" if row.average is None else f"{row.average:.1f}")
        few = [cell is not None and any(own.is_few for own in cell.tested_on) for cell in row.cells]
        return [
            text + "*" * (text != "X" and self.is_short(row, column)) + FEW * is_few
            for text, column, is_few in zip(texts, [*range(len(row.cells)), -1], [*few, False], strict=True)
        ]

    @property
    def sizes(self) -> dict[str, list[SampleSize]]:
        """Column → what its cells were tested on, each once."""
        found: dict[str, dict[SampleSize, None]] = {}
        for row in self.rows:
            for column, cell in zip(self.columns, row.cells, strict=True):
                found.setdefault(column, {}).update(dict.fromkeys(cell.tested_on if cell else ()))
        return {column: list(own) for column, own in found.items()}

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
        """The lines below the table: what it was tested on, what marks mean, missing runs, and why there is an X."""
        notes = [text for text in (self.search, self.remark) if text] + size_notes(self.sizes)
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
) -> Tables:
    """Tables of what the rules selected.

    Args:
        runs: all runs of a sweep.
        selected: of ``runs``, with the same ``compat`` and groups, in the order in which the tables shall come.
        compat: None or ``"upstream"``.
        n_records: the number of records to show, where ``runs`` were merged; their number by default.
        unfinished: those of the runs that have not finished.
    """
    groups = [_of_group(group, unfinished, compat) for group in (selected[0].groups if selected else ())]
    tables = [table for own in selected for group in groups for table in _tables(own, group, compat)]
    return Tables(sum(map(len, runs)) if n_records is None else n_records, tuple(tables))


@dataclass(frozen=True)
class _OfGroup:
    """What the tables of one group share, whatever the rule."""

    rows: Mapping[str, str]
    layouts: Sequence[_Layout]
    training_sets_of: str


def _of_group(group: Group, unfinished: Sequence[UnfinishedRun], compat: str | None) -> _OfGroup:
    rows = rows_of(group.runs)
    order = {name: place for place, name in enumerate(DATASETS.names())}
    protocols = sorted(group.protocols, key=lambda protocol: order.get(protocol.dataset, len(order)))
    layouts = [
        _layout(protocol, rows, unfinished, compat)
        for protocol in protocols
        if compat != UPSTREAM or protocol.dataset in order
    ]
    return _OfGroup(rows, layouts, group.training_sets_of)


def _tables(own: Selected, group: _OfGroup, compat: str | None) -> list[Table]:
    """Those of one rule: one for each protocol, then their averages; of a single training set there are none."""
    averages: dict[str, list[Cell | None]] = {name: [] for name in group.rows}
    tables = []
    for layout in group.layouts:
        found = []
        for name, algorithm in group.rows.items():
            by_env = _by_env(own.values.get(name, {}), layout)
            cells = [_cell(list(trials.values()), compat) for trials in by_env]
            found.append(_row(name, algorithm, cells))
            averages[name].append(_average_cell(by_env, compat))
        table = Table(
            layout.protocol.dataset, own.rule, own.metric, layout.columns, tuple(found), layout.caveats,
            (len(layout.trials),) * len(layout.columns) if layout.trials else (), layout.missing, layout.unfinished,
            () if compat == UPSTREAM else _lacks(own, layout, found), layout.remark,
            layout.search, trained_on=layout.protocol.trained_on,
        )  # fmt: skip
        tables.append(table)
    of = group.training_sets_of
    if of and len(tables) < 2:
        return _without_numbers(tables)
    found = [_row(name, group.rows[name], cells) for name, cells in averages.items()]
    caveats = tuple(dict.fromkeys(caveat for layout in group.layouts for caveat in layout.caveats))
    trials = () if compat == UPSTREAM else tuple(len(layout.trials) for layout in group.layouts)
    columns = tuple(f"trained on {table.trained_on}" if of else table.dataset for table in tables)
    table = Table(None, own.rule, own.metric, columns, tuple(found), caveats, trials, averages_of=of)
    if compat == UPSTREAM:
        return [*tables, table]
    tables = _without_numbers(tables)
    if all(shown.absent is not None for shown in tables):
        return [*tables, replace(table, absent="")]  # it has been said
    return tables + _without_numbers([table])


def _without_numbers(tables: Sequence[Table]) -> list[Table]:
    """With a sentence in the place of those without a number; one for all training sets, if the reason is the same."""
    reasons = {
        place: tuple(dict.fromkeys(lack.reason for lack in table.lacks))
        or (NO_COMPLETE_TRIAL if table.dataset is None else NO_RUN,)
        for place, table in enumerate(tables)
        if all(cell is None for row in table.rows for cell in row.cells)
    }
    found = list(tables)
    said: dict[tuple, list[int]] = {}
    for place, why in reasons.items():
        table = tables[place]
        said.setdefault((table.dataset, why) if table.trained_on else (place, why), []).append(place)
    for (_, why), places in said.items():
        first = tables[places[0]]
        name = "; ".join([first.name, *(tables[place].trained_on for place in places[1:])])
        for place in places:
            found[place] = replace(tables[place], absent="")
        sentence = f"{name}, {first.rule.title}{first.remarks}: no table, because {'; '.join(why[:3])}."
        found[places[0]] = replace(first, absent=sentence)
    return found


def _lacks(own: Selected, layout: _Layout, rows: Sequence[Row]) -> tuple[Lack, ...]:
    """Why trials that have runs give no number."""
    protocol = layout.protocol
    lacking = {
        (trial, protocol.dataset, row.name, env)
        for row, env, trial in product(rows, layout.test_envs, layout.trials)
        if (protocol.name, env, trial) not in own.values.get(row.name, {})
    }
    groups = layout.groups if lacking else {}
    lacks = []
    for row in rows:
        for env, column, cell in zip(layout.test_envs, layout.columns, row.cells, strict=True):
            reasons = {}
            for trial in layout.trials:
                place = (trial, protocol.dataset, row.name, env)
                if place in lacking and place in groups:
                    if protocol.held_out and own.rule.name == "loo":
                        reasons[trial] = NO_FURTHER_RUNS
                        continue
                    sets = protocol.sets(env)
                    reasons[trial] = why_no_number(groups[place], env, sets, own.rule, own.metric)
            if cell is None:
                lacks += [Lack(row.name, column, None, reason) for reason in dict.fromkeys(reasons.values())]
            else:
                lacks += [Lack(row.name, column, trial, reason) for trial, reason in reasons.items()]
    return tuple(lacks)


@dataclass(frozen=True)
class _Layout:
    """What the tables of one protocol share, whatever the rule."""

    protocol: Protocol
    columns: tuple[str, ...]
    test_envs: tuple[int, ...]
    caveats: tuple[str, ...] = ()
    trials: tuple[int, ...] = ()
    missing: tuple[str, ...] = ()
    unfinished: tuple[UnfinishedRun, ...] = ()
    remark: str = ""
    search: str = ""

    @cached_property
    def groups(self) -> dict[GroupKey, list[Run]]:
        """The runs by cell and trial."""
        return group_by_test_env(self.protocol.runs)


def _layout(
    protocol: Protocol, rows: Iterable[str], unfinished: Sequence[UnfinishedRun], compat: str | None
) -> _Layout:
    dataset, runs = protocol.dataset, protocol.runs
    if compat == UPSTREAM:
        test_envs = range(len(DATASETS.get(dataset).environments) if dataset in DATASETS else 0)
        return _Layout(protocol, tuple(environment_name(dataset, env) for env in test_envs), tuple(test_envs))
    every_env = environments_of(dataset, runs)
    together = {run.held_out for run in runs}
    held_out = {env for envs in together for env in envs}
    # An environment that the sweep never tests on lacks no run, so it gets no column. The plan tells which these are.
    # Without one they are known only where no run held out one environment alone: the sweep tests on some at once.
    if protocol.held_out:
        test_envs = list(protocol.held_out)
    elif protocol.planned is not None:
        test_envs = [env for env in every_env if env in held_out.union(protocol.planned)]
    elif not any(len(envs) == 1 for envs in together):
        test_envs = [env for env in every_env if env in held_out]
    else:
        test_envs = every_env
    sets = {env: protocol.sets(env) for env in test_envs}
    # Where runs hold an environment out, and it has no number whatever they are, no run is missing.
    judged = {
        environment_name(dataset, env): found for env, found in sets.items() if found or env not in held_out
    }
    return _Layout(
        protocol,
        tuple(environment_name(dataset, env) for env in test_envs),
        tuple(test_envs),
        _caveats(runs, dataset),
        tuple(sorted({run.args["trial_seed"] for run in runs})),
        missing_runs(runs, rows, judged),
        tuple(
            run for run in unfinished if run.dataset == dataset and tuple(sorted(run.test_envs)) in together
        ),
        "" if protocol.held_out else _remark(dataset, sets, len(every_env)),
        search_note(runs),
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
    own = layout.protocol.name
    by_env: dict[int, dict[int, float]] = {env: {} for env in layout.test_envs}
    for name, env, trial in sorted(values, key=lambda key: key[2]):
        if name == own and env in by_env:
            by_env[env][trial] = values[name, env, trial]
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
