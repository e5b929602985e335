"""A sweep as a report sees it: what each rule chose, out of which run folder, and what those runs recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from typing import Any

from roga_domainbed.catalog import DATASETS
from roga_domainbed.metrics import Metric
from roga_domainbed.report.tables import Table, Tables, build_tables
from roga_domainbed.report.unfinished import unfinished_runs
from roga_domainbed.results.records import RECORDS, Record, read_records
from roga_domainbed.results.runs import LoadedRuns, Run
from roga_domainbed.results.selection import (
    RankedRun,
    Rule,
    group_by_test_env,
    held_out_with,
    rank_runs,
)

CellKey = tuple[str, str, int]


@dataclass(frozen=True)
class Candidate:
    """A run as a rule judges it for one test environment.

    Attributes:
        dataset: its name.
        algorithm: its name.
        env: index of the test environment.
        trial: ``trial_seed``.
        hparams_seed: which hyper-parameters were drawn.
        step: the step the rule picked.
        last_step: of the run; the scores of ``scores.parquet`` are those of this step.
        val: what it was picked by, a fraction.
        test: the metric on the test environment, a fraction; may be NaN.
        source: the run's folder.
        is_chosen: whether the rule prefers it to all others of its cell and trial.
    """

    dataset: str
    algorithm: str
    env: int
    trial: int
    hparams_seed: int
    step: int
    last_step: int
    val: float
    test: float
    source: str
    is_chosen: bool

    @property
    def cell(self) -> CellKey:
        """Dataset, algorithm and test environment."""
        return self.dataset, self.algorithm, self.env

    @property
    def env_name(self) -> str:
        """The test environment's name, as tables have it."""
        return environment_name(self.dataset, self.env)


@dataclass(frozen=True)
class RunFolder:
    """What a run's folder holds beside its metrics.

    Attributes:
        hparams: of the first record; empty where records have none.
        provenance: of the first record that has one; empty for runs of DomainBed's own scripts.
        records: all of them, for the runs that a rule chose; otherwise none.
    """

    hparams: Mapping[str, Any]
    provenance: Mapping[str, Any]
    records: tuple[Record, ...]


@dataclass(frozen=True)
class Study:
    """Everything a report is made of.

    Attributes:
        folders: the sweeps that were read.
        loaded: their runs and what was wrong with them.
        metric: what is selected by and shown.
        rules: the first is the one that figures and sentences follow.
        baseline: the algorithm that others are compared with.
        tables: as ``collect-results`` prints them.
        candidates: rule name → every run the rule could judge, in the order of the records.
        folder_of: path of a run folder → what it holds beside its metrics.
    """

    folders: tuple[str, ...]
    loaded: LoadedRuns
    metric: Metric
    rules: tuple[Rule, ...]
    baseline: str
    tables: Tables
    candidates: Mapping[str, tuple[Candidate, ...]]
    folder_of: Mapping[str, RunFolder] = field(default_factory=dict)

    @property
    def rule(self) -> Rule:
        """The rule that figures and sentences follow."""
        return self.rules[0]

    @cached_property
    def chosen(self) -> tuple[Candidate, ...]:
        """What the first rule chose: one run a cell and trial."""
        return tuple(candidate for candidate in self.candidates[self.rule.name] if candidate.is_chosen)

    @cached_property
    def datasets(self) -> list[str]:
        """In the order of the tables."""
        return [table.dataset for table in self.tables_of(self.rule) if table.dataset is not None]

    @cached_property
    def algorithms(self) -> list[str]:
        """In the order of the tables."""
        return [row.algorithm for row in self.tables.tables[0].rows]

    @property
    def is_oracle(self) -> bool:
        """Whether test data chose anything in this report."""
        return any("oracle" in rule.title for rule in self.rules)

    def tables_of(self, rule: Rule) -> list[Table]:
        """The tables of one rule, datasets first, averages last."""
        return [table for table in self.tables.tables if table.rule is rule]

    def chosen_in(
        self, dataset: str, env: int | None = None, algorithm: str | None = None
    ) -> list[Candidate]:
        """What the first rule chose in a part of the sweep, by row of the tables, environment and trial."""
        found = [
            candidate
            for candidate in self.chosen
            if candidate.dataset == dataset
            and env in (None, candidate.env)
            and algorithm in (None, candidate.algorithm)
        ]
        rank = {algorithm: place for place, algorithm in enumerate(self.algorithms)}
        return sorted(found, key=lambda c: (rank[c.algorithm], c.env, c.trial))

    def test_envs(self, dataset: str) -> list[int]:
        """The environments for which the first rule chose anything."""
        return sorted({candidate.env for candidate in self.chosen if candidate.dataset == dataset})

    def values(self, dataset: str | None = None) -> dict[str, dict[tuple, float]]:
        """Algorithm → (dataset, test environment, trial) → test metric, for comparisons; NaN is left out."""
        values: dict[str, dict[tuple, float]] = {algorithm: {} for algorithm in self.algorithms}
        for c in self.chosen:
            if c.test == c.test and dataset in (None, c.dataset):
                values[c.algorithm][c.dataset, c.env, c.trial] = c.test
        return {algorithm: own for algorithm, own in values.items() if own}


def environment_name(dataset: str, env: int) -> str:
    """The name of an environment, as the tables' columns have it: the catalog's, else ``env<index>``."""
    names = DATASETS.get(dataset).environments if dataset in DATASETS else ()
    return names[env] if env < len(names) else f"env{env}"


def study(
    folders: Sequence[str], loaded: LoadedRuns, rules: Sequence[Rule], metric: Metric, baseline: str
) -> Study:
    """Apply the rules, then read the folders of the runs they judged once more, for what tables do not need.

    Args:
        folders: the sweeps' folders, to be named in the report.
        loaded: their runs, from ``runs.load_runs``.
        rules: entries of ``selection.RULES``.
        metric: one that the records have.
        baseline: an algorithm of the records.
    """
    candidates = {rule.name: tuple(_candidates(loaded.runs, rule, metric)) for rule in rules}
    chosen = {c.source for found in candidates.values() for c in found if c.is_chosen}
    sources = {c.source: c.source in chosen for found in candidates.values() for c in found}
    return Study(
        tuple(map(str, folders)),
        loaded,
        metric,
        tuple(rules),
        baseline,
        build_tables(loaded.runs, rules, metric, unfinished=unfinished_runs(loaded.runs, loaded.unfinished)),
        candidates,
        {source: _read_folder(source, keep_records=keep) for source, keep in sources.items()},
    )


def _candidates(runs: Sequence[Run], rule: Rule, metric: Metric) -> list[Candidate]:
    of_dataset: dict[str, list[Run]] = {}
    for run in runs:
        of_dataset.setdefault(run.args["dataset"], []).append(run)
    found = []
    for (trial, dataset, algorithm, env), group in group_by_test_env(runs).items():
        tested = held_out_with(of_dataset[dataset], env)
        if tested is None:
            continue
        for place, ranked in enumerate(rank_runs(group, rule, env, metric, tested=tested)):
            source, last_step = _origin(ranked, tested)
            found.append(
                Candidate(
                    dataset, algorithm, env, trial, ranked.hparams_seed, ranked.choice.step, last_step,
                    ranked.choice.val, ranked.choice.test, source, place == 0,
                )
            )  # fmt: skip
    return found


def _origin(ranked: RankedRun, tested: tuple[int, ...]) -> tuple[str, int]:
    """The folder of the picked record, and the last step there; of a step that is there twice the later folder."""
    own = [run for run in ranked.runs if run.held_out == tested]
    picked = [run.source for run in own if ranked.choice.step in run.steps][-1]
    return picked, max(step for run in own if run.source == picked for step in run.steps)


def _read_folder(source: str, *, keep_records: bool) -> RunFolder:
    found = read_records(f"{source}/{RECORDS}").records

    def first(key: str) -> Mapping[str, Any]:
        values = (record[key] for record in found if isinstance(record.get(key), dict))
        return next(values, {})

    return RunFolder(first("hparams"), first("provenance"), tuple(_by_step(found)) if keep_records else ())


def _by_step(found: Sequence[Record]) -> list[Record]:
    """In the order of steps; of a step that was recorded twice the later record."""
    ordered = sorted(found, key=lambda record: record["step"])
    return [list(same)[-1] for _, same in groupby(ordered, key=lambda record: record["step"])]
