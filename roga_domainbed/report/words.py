"""A sweep in sentences: what is best, whether that is more than noise, and what is missing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from roga_domainbed.report.comparison import verdicts
from roga_domainbed.report.health import RunHealth
from roga_domainbed.report.study import Study
from roga_domainbed.report.tables import Table
from roga_domainbed.results.statistics import compare
from roga_domainbed.sweep.jobs import State


@dataclass(frozen=True)
class Sentence:
    """A sentence of the summary; a warning is marked as one."""

    text: str
    is_warning: bool = False


def summary(study: Study, health: Sequence[RunHealth]) -> list[Sentence]:
    """The sentences at the head of a report."""
    sentences = [Sentence(_what(study)), Sentence(_how(study), study.is_oracle)]
    for dataset in study.datasets:
        sentences += _best(study, dataset)
    sentences += _against_baseline(study)
    sentences += _missing(study, health)
    caveats = dict.fromkeys(caveat for table in study.tables.tables for caveat in table.caveats)
    sentences += [Sentence(f"{caveat[0].upper()}{caveat[1:]}.", True) for caveat in caveats]
    return sentences


def _what(study: Study) -> str:
    args = [run.args for run in study.loaded.runs]
    trials = len({a["trial_seed"] for a in args})
    draws = len({a["hparams_seed"] for a in args})
    datasets = study.datasets
    algorithms = _count(len(study.algorithms), "algorithm")
    runs = len({run.source for run in study.loaded.runs})
    return (
        f"{algorithms[0].upper()}{algorithms[1:]} on {_listed(datasets)}, {_count(trials, 'trial')}, "
        f"{_count(draws, 'draw')} of hyper-parameters a cell, {_count(runs, 'run')}."
    )


def _how(study: Study) -> str:
    metric = study.metric
    better = "lower is better" if metric.lower_is_better else "higher is better"
    oracle = (
        " Test data decided: an oracle's numbers, not to be compared with any others."
        if "oracle" in study.rule.title
        else ""
    )
    return (
        f"Numbers are the {metric.title} of the held-out environment in {metric.unit} ({better}); model "
        f"selection: {study.rule.title} ({study.rule.summary}).{oracle}"
    )


def _best(study: Study, dataset: str) -> list[Sentence]:
    ranked = _ranked(study, dataset)
    if not ranked:
        return [
            Sentence(
                f"{dataset}: no algorithm has a number in every environment, so none is called best.", True
            )
        ]
    (best, value), others = ranked[0], ranked[1:]
    title = study.metric.title
    if not others:
        return [
            Sentence(
                f"{dataset}: {best} has an average {title} of {value:.1f}; there is nothing to compare it with."
            )
        ]
    most = "lowest" if study.metric.lower_is_better else "highest"
    second, next_value = others[0]
    text = f"{dataset}: {best} has the {most} average {title}, {value:.1f}, before {second} with {next_value:.1f}."
    found = compare(study.values(dataset), best, lower_is_better=study.metric.lower_is_better)
    return [Sentence(text), *(Sentence(f"{dataset}: {said}") for said in verdicts(found, best, study.metric))]


def _ranked(study: Study, dataset: str) -> list[tuple[str, float]]:
    (table,) = [table for table in study.tables_of(study.rule) if table.dataset == dataset]
    return ranking(table)


def ranking(table: Table) -> list[tuple[str, float]]:
    """Algorithms that have a number everywhere with their average, best first."""
    rows = [(row.algorithm, row.average) for row in table.rows if row.average is not None]
    rows = [(name, value) for name, value in rows if not math.isnan(value)]
    return sorted(rows, key=lambda row: table.metric.rank(row[1]), reverse=True)


def _against_baseline(study: Study) -> list[Sentence]:
    values = study.values()
    if len(values) < 2 or study.baseline not in values:
        return []
    if len(study.datasets) == 1 and [name for name, _ in _ranked(study, study.datasets[0])][:1] == [
        study.baseline
    ]:
        return []  # said already
    found = compare(values, study.baseline, lower_is_better=study.metric.lower_is_better)
    return [Sentence(text) for text in verdicts(found, study.baseline, study.metric)]


def _missing(study: Study, health: Sequence[RunHealth]) -> list[Sentence]:
    sentences = []
    gaps = [(table.dataset, gap) for table in study.tables_of(study.rule) for gap in table.gaps]
    if gaps:
        shown = "; ".join(f"{dataset}: {gap}" for dataset, gap in gaps[:3])
        more = f"; and {len(gaps) - 3} more, listed below" if len(gaps) > 3 else ""
        sentences.append(Sentence(f"Runs are missing in {_count(len(gaps), 'cell')}: {shown}{more}.", True))
    else:
        sentences.append(Sentence("No cell lacks a run that other cells have."))
    for state, text in (
        (State.FAILED, "failed"),
        (State.INCOMPLETE, "did not finish"),
        (State.RUNNING, "are still running"),
    ):
        count = sum(run.state is state for run in health)
        if count:
            sentences.append(Sentence(f"{count} of {len(health)} runs {text}.", True))
    if study.loaded.problems:
        sentences.append(
            Sentence(f"{_count(len(study.loaded.problems), 'line')} of records could not be read.", True)
        )
    return sentences


def _count(number: int, noun: str) -> str:
    return f"{'one' if number == 1 else number} {noun}{'s' * (number != 1)}"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
