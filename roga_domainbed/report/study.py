"""A sweep as a report shows it: what each rule chose, the tables, and what the run folders hold beside the metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

from roga_domainbed.errors import RogaError
from roga_domainbed.metrics import Metric
from roga_domainbed.report.incomplete import unfinished_runs
from roga_domainbed.report.tables import Table, Tables, build_tables
from roga_domainbed.results.packed import read_run
from roga_domainbed.results.protocols import Group, environment_name
from roga_domainbed.results.records import Record
from roga_domainbed.results.rows import rows_of
from roga_domainbed.results.runs import LoadedRuns
from roga_domainbed.results.selected import JudgedRun, Selected, select_each
from roga_domainbed.results.selection import Rule


@dataclass(frozen=True)
class RunFolder:
    """What a run's folder holds beside its metrics.

    Attributes:
        provenance: of the first record that has one; empty for runs of DomainBed's own scripts.
        records: all of them, for the runs that a rule chose; otherwise none.
    """

    provenance: Mapping[str, Any]
    records: tuple[Record, ...]


@dataclass(frozen=True)
class Study:
    """Everything a report is made of.

    Attributes:
        folders: the sweeps that were read.
        loaded: their runs and the problems of reading them.
        selected: what each rule chose; figures and sentences follow the first rule.
        baseline: the row that others are compared with.
        tables: as ``collect-results`` prints them.
        folder_of: path of a run folder → what it holds beside its metrics.
    """

    folders: tuple[str, ...]
    loaded: LoadedRuns
    selected: tuple[Selected, ...]
    baseline: str
    tables: Tables
    folder_of: Mapping[str, RunFolder]

    @property
    def first(self) -> Selected:
        """What the rule chose that figures and sentences follow."""
        return self.selected[0]

    @property
    def rule(self) -> Rule:
        """The rule that figures and sentences follow."""
        return self.first.rule

    @property
    def metric(self) -> Metric:
        """What is selected by and shown."""
        return self.first.metric

    @cached_property
    def datasets(self) -> list[str]:
        """What has a table, in their order: datasets, and training sets of a dataset with a name of both."""
        return list(self.dataset_of)

    @cached_property
    def dataset_of(self) -> dict[str, str]:
        """The dataset of each of ``datasets``."""
        return {table.name: table.dataset for table in self.tables_of(self.rule) if table.dataset is not None}

    def environment_name(self, dataset: str, env: int) -> str:
        """The name of an environment of one of ``datasets``."""
        return environment_name(self.dataset_of[dataset], env)

    @cached_property
    def rows(self) -> dict[str, str]:
        """Row → algorithm, in the order of the tables."""
        return rows_of(self.loaded.runs)

    @property
    def mark(self) -> str:
        """What follows a name where test data chose what figures and sentences show: `` (oracle)``; else empty."""
        return " (oracle)" * ("oracle" in self.rule.title)

    @property
    def has_oracle(self) -> bool:
        """Whether test data chose anything in this report."""
        return any(table.is_oracle for table in self.tables.tables)

    def tables_of(self, rule: Rule) -> list[Table]:
        """The tables of one rule, averages after the datasets, or training sets, that they are of."""
        return [table for table in self.tables.tables if table.rule is rule]

    def table(self, dataset: str) -> Table:
        """The first rule's table of a dataset."""
        return next(table for table in self.tables_of(self.rule) if table.name == dataset)

    def chosen_in(self, dataset: str, env: int | None = None, row: str | None = None) -> list[JudgedRun]:
        """What the first rule chose in a part of the sweep, by row of the tables, environment and trial."""
        found = [
            c
            for c in self.first.chosen
            if c.table == dataset and env in (None, c.env) and row in (None, c.row)
        ]
        place = {name: index for index, name in enumerate(self.rows)}
        return sorted(found, key=lambda c: (place[c.row], c.env, c.trial))

    def test_envs(self, dataset: str) -> list[int]:
        """The environments for which the first rule chose anything."""
        return sorted({run.env for run in self.first.chosen if run.table == dataset})


def study(
    folders: Sequence[str],
    loaded: LoadedRuns,
    rules: Sequence[Rule],
    metric: Metric,
    baseline: str,
    groups: Sequence[Group] | None = None,
) -> Study:
    """Apply the rules, then read the folders of the judged runs once more, for what tables do not need.

    Args:
        folders: the sweeps' folders, to be named in the report.
        loaded: their runs, from ``runs.load_runs``.
        rules: entries of ``selection.RULES``.
        metric: one that the records have.
        baseline: a row of the tables.
        groups: see ``select_each``.
    """
    selected = tuple(select_each(loaded.runs, rules, metric, groups=groups))
    chosen = {c.source for own in selected for c in own.chosen}
    sources = dict.fromkeys(c.source for own in selected for c in own.judged)
    unfinished = unfinished_runs(loaded.runs, loaded.unfinished)
    return Study(
        tuple(map(str, folders)),
        loaded,
        selected,
        baseline,
        build_tables(loaded.runs, selected, unfinished=unfinished),
        {source: _read_folder(source, keep_records=source in chosen) for source in sources},
    )


def _read_folder(source: str, *, keep_records: bool) -> RunFolder:
    try:
        found = read_run(source).records
    except (OSError, RogaError):  # gone since they were read for the tables
        found = []
    provenance = (record["provenance"] for record in found if isinstance(record.get("provenance"), dict))
    return RunFolder(next(provenance, {}), tuple(_by_step(found)) if keep_records else ())


def _by_step(found: Sequence[Record]) -> list[Record]:
    """In the order of steps; of a step that was recorded twice the later record."""
    ordered = sorted(found, key=lambda record: record["step"])
    return [list(same)[-1] for _, same in groupby(ordered, key=lambda record: record["step"])]
