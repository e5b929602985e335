"""Result tables as values: what upstream's ``collect_results`` prints, before it is printed.

One table a dataset (algorithms by environments), then one of averages (algorithms by datasets), for each
selection rule. Numbers are percentages. A cell is mean and error over trials; the error is the population
standard deviation divided by the square root of the number of trials, as upstream defines it.

Two behaviours, as in ``selection``. By default an average over trials takes complete trials only, and a dataset
that the catalog does not know is shown after those it knows. With ``compat="upstream"`` a trial's average is
over whatever test environments it has, unknown datasets are dropped, and nothing is said of missing runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from roga_domainbed.catalog import ALGORITHMS, DATASETS
from roga_domainbed.metrics import ACCURACY, Metric
from roga_domainbed.report.comparison import ComparisonTable
from roga_domainbed.report.gaps import missing_runs
from roga_domainbed.report.unfinished import UnfinishedRun
from roga_domainbed.results.records import DATA_OPTIONS
from roga_domainbed.results.runs import Run
from roga_domainbed.results.selection import (
    UPSTREAM,
    Rule,
    environments_in,
    group_by_test_env,
    held_out_with,
    sweep_value,
)


@dataclass(frozen=True)
class Cell:
    """Mean and error over ``n`` trials, in percent."""

    mean: float
    error: float
    n: int


@dataclass(frozen=True)
class Row:
    """An algorithm's cells; None where there is no run. ``average`` is None if any cell is."""

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
        rows: one for every algorithm of the sweep.
        caveats: what a reader must know about how the runs were made; printed in the header.
        trials: for every column the number of trials the sweep has there; empty if not to be checked.
        gaps: runs that are missing, in words, one line a cell; empty for upstream's tables.
        unfinished: runs that count and have not finished; empty for upstream's tables.
    """

    dataset: str | None
    rule: Rule
    metric: Metric
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    caveats: tuple[str, ...] = ()
    trials: tuple[int, ...] = ()
    gaps: tuple[str, ...] = ()
    unfinished: tuple[UnfinishedRun, ...] = ()

    @property
    def is_oracle(self) -> bool:
        """Whether test data chose what the cells show."""
        return "oracle" in self.rule.title

    def is_short(self, row: Row, column: int) -> bool:
        """Whether a cell is made of fewer trials than the sweep has; column −1 is the row's average."""
        if not self.trials:
            return False
        columns = range(len(row.cells)) if column < 0 else [column]
        cells = [(row.cells[index], self.trials[index]) for index in columns]
        return any(cell is not None and cell.n < trials for cell, trials in cells)


@dataclass(frozen=True)
class Tables:
    """All tables of a sweep: for each rule those of the datasets, then the averages; and comparisons, if wanted."""

    n_records: int
    tables: tuple[Table, ...]
    comparisons: tuple[ComparisonTable, ...] = ()


def build_tables(
    runs: Sequence[Run],
    rules: Sequence[Rule],
    metric: Metric = ACCURACY,
    *,
    compat: str | None = None,
    n_records: int | None = None,
    unfinished: Sequence[UnfinishedRun] = (),
) -> Tables:
    """Apply every rule to every group of runs.

    Args:
        runs: all runs of a sweep.
        rules: in the order in which the tables shall come.
        metric: what to select by and to show.
        compat: None or ``"upstream"``.
        n_records: the number of records to report, where ``runs`` were merged; their number by default.
        unfinished: those of the runs that have not finished.
    """
    groups = group_by_test_env(runs)
    algorithms = _catalog_order(ALGORITHMS.names(), (key[2] for key in groups), keep_unknown=True)
    datasets = _catalog_order(DATASETS.names(), (key[1] for key in groups), keep_unknown=compat != UPSTREAM)
    layouts = [_layout(runs, dataset, algorithms, unfinished, compat) for dataset in datasets]
    tables = []
    for rule in rules:
        averages: dict[str, list[Cell | None]] = {algorithm: [] for algorithm in algorithms}
        for layout in layouts:
            rows = []
            for algorithm in algorithms:
                trials = _values(groups, layout, algorithm, rule, metric, compat)
                rows.append(_row(algorithm, [_cell(list(values.values())) for values in trials]))
                averages[algorithm].append(_average_cell(trials, compat))
            columns = tuple(layout.columns)
            trials = (layout.trials,) * len(columns) if layout.trials else ()
            notes = layout.caveats, trials, layout.gaps, layout.unfinished
            tables.append(Table(layout.dataset, rule, metric, columns, tuple(rows), *notes))
        rows = [_row(algorithm, cells) for algorithm, cells in averages.items()]
        caveats = tuple(dict.fromkeys(caveat for layout in layouts for caveat in layout.caveats))
        trials = () if compat == UPSTREAM else tuple(layout.trials for layout in layouts)
        tables.append(Table(None, rule, metric, tuple(datasets), tuple(rows), caveats, trials))
    return Tables(sum(map(len, runs)) if n_records is None else n_records, tuple(tables))


@dataclass(frozen=True)
class _Layout:
    dataset: str
    columns: tuple[str, ...]
    test_envs: tuple[int, ...]
    tested: dict[int, tuple[int, ...] | None]
    caveats: tuple[str, ...]
    trials: int = 0
    gaps: tuple[str, ...] = ()
    unfinished: tuple[UnfinishedRun, ...] = ()


def _layout(
    runs: Sequence[Run],
    dataset: str,
    algorithms: Sequence[str],
    unfinished: Sequence[UnfinishedRun],
    compat: str | None,
) -> _Layout:
    runs = [run for run in runs if run.args["dataset"] == dataset]
    names = list(DATASETS.get(dataset).environments) if dataset in DATASETS else []
    if compat == UPSTREAM:
        indices = range(len(names))
        tested = {index: (index,) for index in indices}
        return _Layout(dataset, tuple(names), tuple(indices), tested, ())
    names += [f"env{index}" for index in range(len(names), environments_in(runs))]
    # Where no run held out one environment alone, the protocol tests on some environments at once and never on
    # the others: those are no gaps, so they get no column.
    lists = {run.held_out for run in runs}
    if any(len(envs) == 1 for envs in lists):
        indices = range(len(names))
    else:
        indices = sorted({env for envs in lists for env in envs if env < len(names)})
    names = [names[index] for index in indices]
    tested = {index: held_out_with(runs, index) for index in indices}
    return _Layout(
        dataset,
        tuple(names),
        tuple(indices),
        tested,
        _caveats(runs, dataset),
        len({run.args["trial_seed"] for run in runs}),
        missing_runs(runs, algorithms, dict(zip(names, tested.values(), strict=True))),
        tuple(run for run in unfinished if run.dataset == dataset),
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
    for name in DATA_OPTIONS:
        values = [str(run.data.get(name, "")) for run in runs]  # records of others may hold anything
        for value in dict.fromkeys(values):
            said = f"real:fake {value}" if name == "balance" and value else words.get(name, {}).get(value)
            if said:
                caveats.append(said + " (in some of the runs)" * (values.count(value) < len(values)))
    return tuple(caveats)


def _values(
    groups: dict[tuple[int, str, str, int], list[Run]],
    layout: _Layout,
    algorithm: str,
    rule: Rule,
    metric: Metric,
    compat: str | None,
) -> list[dict[int, float]]:
    """For every test environment: trial → test metric of the best run, where there is one."""
    by_env: list[dict[int, float]] = []
    trials = sorted({key[0] for key in groups if key[1:3] == (layout.dataset, algorithm)})
    for env in layout.test_envs:
        values = {}
        for trial in trials:
            group = groups.get((trial, layout.dataset, algorithm, env))
            if group and layout.tested[env] is not None:
                value = sweep_value(group, rule, env, metric, tested=layout.tested[env], compat=compat)
                if value is not None:
                    values[trial] = value
        by_env.append(values)
    return by_env


def _average_cell(by_env: list[dict[int, float]], compat: str | None) -> Cell | None:
    trials = sorted({trial for values in by_env for trial in values})
    means = []
    for trial in trials:
        values = [values[trial] for values in by_env if trial in values]
        if compat == UPSTREAM or len(values) == len(by_env):
            means.append(np.mean(values))
    return _cell(means)


def _cell(values: Sequence[float]) -> Cell | None:
    if not values:
        return None
    mean = 100 * np.mean(list(values))
    error = 100 * np.std(list(values)) / np.sqrt(len(values))
    return Cell(float(mean), float(error), len(values))


def _row(algorithm: str, cells: Sequence[Cell | None]) -> Row:
    means = [cell.mean for cell in cells if cell is not None]
    complete = bool(cells) and len(means) == len(cells)
    return Row(algorithm, tuple(cells), float(np.mean(means)) if complete else None)


def _catalog_order(known: list[str], present: Iterable[str], *, keep_unknown: bool) -> list[str]:
    present = list(dict.fromkeys(present))
    ordered = [name for name in known if name in present]
    if keep_unknown:
        ordered += [name for name in present if name not in known]
    return ordered
