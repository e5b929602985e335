"""A paper's numbers beside ours: one line for each cell of its table."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from roga_domainbed.catalog import DATASETS
from roga_domainbed.errors import Problems, RogaError
from roga_domainbed.metrics import Metric, get_metric
from roga_domainbed.report.intervals import OVER, Interval, cell_intervals, trial_means
from roga_domainbed.report.scores import read_stored
from roga_domainbed.results.rows import name_variants, rows_of
from roga_domainbed.results.runs import Run, load_sweeps
from roga_domainbed.results.selected import Selected, select_each
from roga_domainbed.results.selection import Rule
from roga_domainbed.sweep.folder import stored_plans
from roga_domainbed.sweep.paper import PaperColumn, PaperTable
from roga_domainbed.sweep.plan import load_preset

#: What ``--against`` calls the tables that the plan of the sweep itself has.
PAPER = "paper"
PAPER_ONLY = "paper only"
NO_RUN = "no run"


@dataclass(frozen=True)
class AgainstCell:
    """A number of the paper and ours.

    Attributes:
        row: its name.
        column: of the paper's table.
        paper: the paper's number in the unit of our tables; None where it prints none.
        ours: mean over trials in the unit of our tables; None where there is none.
        interval: 95 %, as fractions.
        trials: how many ``ours`` is the mean of.
        absent: why there is none of ours: ``PAPER_ONLY``, ``NO_RUN`` or ``X``; empty where there is one.
    """

    row: str
    column: PaperColumn
    paper: float | None
    ours: float | None
    interval: Interval
    trials: int
    absent: str

    @property
    def difference(self) -> float | None:
        """Ours minus the paper's; None without either."""
        return None if self.ours is None or self.paper is None else self.ours - self.paper

    @property
    def is_inside(self) -> bool | None:
        """Whether the paper's number lies in our interval, its limits included; None without either."""
        if self.paper is None or not self.interval.over:
            return None
        return 100 * self.interval.low <= self.paper <= 100 * self.interval.high


@dataclass(frozen=True)
class AgainstTable:
    """A paper's table beside ours, for one selection rule.

    Attributes:
        paper: the paper's table.
        rule: the selection rule of our numbers.
        cells: row by row, the paper's rows first; those that neither has are left out.
        splits: how the training environments of our runs were split.
    """

    paper: PaperTable
    rule: Rule
    cells: tuple[AgainstCell, ...]
    splits: tuple[str, ...]

    labels = ("Row", "Column", "Paper", "Ours", "95 % interval", "Difference", "Paper inside")
    n_left = 2  # columns that are aligned to the left

    @property
    def title(self) -> str:
        """The line above the table: it names what differs from the paper's protocol."""
        split = f", split: {' and '.join(self.splits)}" if self.splits else ""
        return f"Against {self.paper.source}, model selection method of ours: {self.rule.title}{split}"

    def rows(self) -> list[list[str]]:
        """The texts below ``labels``, in the units of our tables."""
        return [self._texts(cell) for cell in self.cells]

    def notes(self) -> list[str]:
        """What differs from the paper's protocol, what the intervals are over, and how many cells agree."""
        judged = [cell.is_inside for cell in self.cells if cell.is_inside is not None]
        counts = sorted({cell.trials for cell in self.cells if cell.ours is not None})
        kinds = [over for over in OVER if any(cell.interval.over == over for cell in self.cells)]
        reasons = dict.fromkeys(
            cell.interval.note for cell in self.cells if cell.ours is not None and not cell.interval.over
        )
        return [
            *([self.paper.note] if self.paper.note else []),
            *([f"Trials: {' or '.join(map(str, counts))}"] if counts else []),
            *(f"95 % interval over {over}: {OVER[over]}" for over in kinds),
            *(f"No interval: {reason}" for reason in reasons),
            *(
                [f"The paper's number, of which no interval is known, is inside ours in {sum(judged)} of {len(judged)}"]
                if judged
                else []
            ),
            *(
                [f"{PAPER_ONLY}: the sweep has no such row"]
                if any(cell.absent == PAPER_ONLY for cell in self.cells)
                else []
            ),
        ]  # fmt: skip

    def _texts(self, cell: AgainstCell) -> list[str]:
        decimals = 2 if cell.column.times == 1 else 1  # 0.877 is 87.7
        paper = "" if cell.paper is None else f"{cell.paper:.{decimals}f}"
        if cell.ours is None:
            return [cell.row, cell.column.name, paper, cell.absent, "", "", ""]
        low, high = (f"{100 * limit:.1f}" for limit in (cell.interval.low, cell.interval.high))
        difference, inside = cell.difference, cell.is_inside
        return [
            cell.row,
            cell.column.name,
            paper,
            f"{cell.ours:.1f}",
            f"{low} to {high}" if cell.interval.over else "",
            "" if difference is None else f"{difference:+.1f}",
            "" if inside is None else "yes" if inside else "no",
        ]


def paper_tables(folders: Sequence[str], wanted: str) -> list[PaperTable]:
    """The tables that ``--against`` names.

    Args:
        folders: of the sweeps.
        wanted: ``paper`` for those of the sweeps' own plans; else a preset or YAML file with a ``paper`` block.

    Raises:
        RogaError: there is none, or it is not allowed.
    """
    problems = Problems()
    if wanted == PAPER:
        plans = [plan for folder in folders for plan in stored_plans(folder)]
        found = [plan.paper for plan in plans if plan.paper is not None]
        found = [table for place, table in enumerate(found) if table not in found[:place]]
        if not found:
            raise RogaError(
                f"--against {PAPER}: the plan of {', '.join(map(repr, folders))} has no numbers of a paper; those of "
                "the presets table1_… to table6_… have. Give such a preset, or a YAML file with a 'paper' block"
            )
    else:
        table = load_preset(wanted, problems, "--against").get("paper")
        problems.check()
        if table is None:
            raise RogaError(f"--against {wanted}: it has no 'paper' block")
        found = [table]
    for table in found:
        table.check(problems)
    problems.check()
    return found


def against_tables(
    folders: Sequence[str], papers: Sequence[PaperTable], rules: Sequence[Rule]
) -> list[AgainstTable]:
    """Each of the paper's tables beside what each rule chooses. A column's metric selects its own numbers.

    Args:
        folders: of the sweeps; read once for each metric.
        papers: from ``paper_tables``.
        rules: entries of ``selection.RULES``.
    """
    metrics = dict.fromkeys(column.metric for table in papers for column in table.columns)
    found = {name: _of_metric(folders, get_metric(name), rules) for name in metrics}
    planned = {str(row): None for folder in folders for plan in stored_plans(folder) for row in plan.all_rows}
    tables = []
    for table in papers:
        own = [found[column.metric] for column in table.columns]
        runs = own[0].runs if own else []
        ours = dict.fromkeys([*planned, *(row for each in own for row in rows_of(each.runs))])
        names = dict.fromkeys([*table.rows, *ours])
        for place, rule in enumerate(rules):
            cells = tuple(
                cell
                for row in names
                for column, each in zip(table.columns, own, strict=True)
                if (cell := _cell(table, column, row, row in ours, each, place)) is not None
            )
            tables.append(AgainstTable(table, rule, cells, _splits(runs, table)))
    return tables


@dataclass(frozen=True)
class _OfMetric:
    """What each rule chooses by one metric, and the intervals of its cells."""

    runs: Sequence[Run]
    selected: Sequence[Selected]
    intervals: Sequence[Mapping[tuple[str, str, int], Interval]]


def _of_metric(folders: Sequence[str], metric: Metric, rules: Sequence[Rule]) -> _OfMetric:
    runs = load_sweeps(folders, metric.name).runs
    name_variants(runs)  # runs of other settings must not pass for the row's
    selected = select_each(runs, rules, metric)
    stored, _ = read_stored(run for own in selected for run in own.chosen)
    return _OfMetric(runs, selected, [cell_intervals(own, stored) for own in selected])


def _cell(
    table: PaperTable, column: PaperColumn, row: str, is_ours: bool, found: _OfMetric, rule: int
) -> AgainstCell | None:
    paper = table.number(row, column)
    env = DATASETS.get(column.dataset).environments.index(column.env)
    key = (column.dataset, row, env)
    trials = found.selected[rule].trials.get(key, [])
    if trials:
        means = trial_means(trials)
        ours = 100 * sum(means) / len(means)
        return AgainstCell(row, column, paper, ours, found.intervals[rule][key], len(means), "")
    if not is_ours:
        absent = PAPER_ONLY
    else:
        absent = "X" if _has_run(found.runs, key) else NO_RUN
    return None if paper is None else AgainstCell(row, column, paper, None, Interval(), 0, absent)


def _has_run(runs: Sequence[Run], key: tuple[str, str, int]) -> bool:
    dataset, row, env = key
    return any(
        run.args["dataset"] == dataset
        and env in run.held_out
        and run.args.get("row", run.args["algorithm"]) == row
        for run in runs
    )


def _splits(runs: Sequence[Run], table: PaperTable) -> tuple[str, ...]:
    datasets = {column.dataset for column in table.columns}
    used = (run.provenance.get("split") for run in runs if run.args["dataset"] in datasets)
    return tuple(dict.fromkeys(split for split in used if isinstance(split, str) and split))


FIELDS = (
    "source", "row", "column", "dataset", "env", "metric", "selection", "oracle", "split", "paper", "ours", "low",
    "high", "over", "difference", "inside", "trials", "absent",
)  # fmt: skip


def against_values(tables: Sequence[AgainstTable]) -> Iterator[dict[str, object]]:
    """One dict of ``FIELDS`` for each cell; numbers in the units of our tables, None where there is none."""
    for table in tables:
        for cell in table.cells:
            column, has = cell.column, bool(cell.interval.over)
            limits = [
                100 * limit if has and math.isfinite(limit) else None
                for limit in (cell.interval.low, cell.interval.high)
            ]
            values = (
                table.paper.source, cell.row, column.name, column.dataset, column.env, column.metric, table.rule.title,
                "oracle" in table.rule.title, "; ".join(table.splits), cell.paper, cell.ours, *limits,
                cell.interval.over, cell.difference, cell.is_inside, cell.trials, cell.absent,
            )  # fmt: skip
            yield dict(zip(FIELDS, values, strict=True))
