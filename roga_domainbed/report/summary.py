"""The sentences at the head of a report: what is best, whether the difference is significant, what is missing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from roga_domainbed.launch.job import State
from roga_domainbed.report.comparison import comparison_table, listed, too_few, verdicts
from roga_domainbed.report.health import RunHealth
from roga_domainbed.report.study import Study
from roga_domainbed.report.tables import Table
from roga_domainbed.results.protocols import Group
from roga_domainbed.results.statistics import compare


@dataclass(frozen=True)
class Sentence:
    """A sentence of the summary; the page marks a warning."""

    text: str
    is_warning: bool = False


def summary(study: Study, health: Sequence[RunHealth]) -> list[Sentence]:
    """The sentences at the head of a report."""
    sentences = [_size(study), _metric_and_rule(study)]
    for dataset in study.datasets:
        sentences += _best(study, dataset)
    sentences += _against_baseline(study)
    sentences += _missing(study)
    sentences += _not_finished(health)
    if study.loaded.problems:
        lines = _count(len(study.loaded.problems), "line")
        sentences.append(Sentence(f"{lines} of the records could not be read.", True))
    caveats = dict.fromkeys(caveat for table in study.tables.tables for caveat in table.caveats)
    sentences += [Sentence(f"{_capital(caveat)}.", True) for caveat in caveats]
    return sentences


def ranking(table: Table) -> list[tuple[str, float]]:
    """The rows that have a number in every column, with their average, best first."""
    rows = [
        (row.name, row.average)
        for row in table.rows
        if row.average is not None and not math.isnan(row.average)
    ]
    return sorted(rows, key=lambda row: table.metric.rank(row[1]), reverse=True)


def _size(study: Study) -> Sentence:
    args = [run.args for run in study.loaded.runs]
    trials = len({a["trial_seed"] for a in args})
    draws = len({a["hparams_seed"] for a in args})
    runs = len({run.source for run in study.loaded.runs})
    algorithms = list(study.rows.values())
    rows = _count(len(set(algorithms)), "algorithm")
    if len(set(algorithms)) < len(algorithms):
        rows += f" in {len(algorithms)} rows"
    tables = list(study.dataset_of.values())
    several = {name: tables.count(name) for name in tables}
    on = [name + f" ({count} tables)" * (count > 1) for name, count in several.items()]
    return Sentence(
        f"{_capital(rows)} on {listed(on)}: {_count(trials, 'trial')}, "
        f"{_count(draws, 'draw')} of hyper-parameters for each cell, {_count(runs, 'run')}."
    )


def _metric_and_rule(study: Study) -> Sentence:
    metric = study.metric
    better = "lower is better" if metric.lower_is_better else "higher is better"
    oracle = (
        " Test data chose these numbers: do not compare them with numbers of other rules."
        if study.mark
        else ""
    )
    text = (
        f"Numbers are the {metric.title} on the held-out environment in {metric.unit} ({better}). Model "
        f"selection: {study.rule.title} ({study.rule.summary}).{oracle}"
    )
    return Sentence(text, study.has_oracle)


def _best(study: Study, dataset: str) -> list[Sentence]:
    ranked = ranking(study.table(dataset))
    if not ranked:
        text = f"{dataset}: no algorithm has a number in every environment, so there is no best one."
        return [Sentence(text, True)]
    (best, value), *others = ranked
    title, lower = study.metric.title, study.metric.lower_is_better
    if not others:
        return [Sentence(f"{dataset}: {best} has an average {title} of {value:.1f}.")]
    second, next_value = others[0]
    text = (
        f"{dataset}: {best} has the {'lowest' if lower else 'highest'} average {title}, {value:.1f}; {second} is "
        f"second with {next_value:.1f}."
    )
    if any(dataset in {one.name for one in group.protocols} for group in _several_training_sets(study)):
        return [Sentence(text)]  # it is compared over all of them
    here = {
        row: own
        for row, values in study.first.values.items()
        if (own := {key: number for key, number in values.items() if key[0] == dataset})
    }
    found = compare(here, best, lower_is_better=lower)
    return [Sentence(text), *(Sentence(f"{dataset}: {said}") for said in verdicts(found, best, study.metric))]


def _several_training_sets(study: Study) -> list[Group]:
    return [group for group in study.first.groups if group.training_sets_of and len(group.protocols) > 1]


def _against_baseline(study: Study) -> list[Sentence]:
    """The rows against the baseline, for each group of tables; without what has been said of the best row."""
    sentences = []
    for group in study.first.groups:
        own = study.first.within(group)
        if not own.values.get(study.baseline):
            continue  # there is nothing to compare with
        compared = comparison_table(own, study.baseline)
        names = [name for name in study.datasets if name in {one.name for one in group.protocols}]
        best = ranking(study.table(names[0]))[:1] if len(names) == 1 else []
        if best and (best[0][0] == study.baseline or len(too_few(compared.found)) == len(compared.found)):
            continue  # it has been said of the best, or the pairs are as few as for the best
        over = f"Over training sets of {group.training_sets_of}: " if group.training_sets_of else ""
        found = verdicts(compared.found, study.baseline, study.metric)
        sentences += [Sentence(f"{over}{text[0].lower() + text[1:] if over else text}") for text in found]
    return sentences


def _missing(study: Study) -> list[Sentence]:
    lines = [(table.name, line) for table in study.tables_of(study.rule) for line in table.missing]
    if not lines:
        return [Sentence("No runs are missing.")]
    shown = "; ".join(f"{dataset}: {line}" for dataset, line in lines[:3])
    more = f"; {len(lines) - 3} more are listed below" if len(lines) > 3 else ""
    return [Sentence(f"Runs are missing in {_count(len(lines), 'cell')}: {shown}{more}.", True)]


def _not_finished(health: Sequence[RunHealth]) -> list[Sentence]:
    sentences = []
    for state, verb in (
        (State.FAILED, "failed"),
        (State.INTERRUPTED, "did not finish"),
        (State.RUNNING, "are still running"),
    ):
        count = sum(run.state is state for run in health)
        if count:
            sentences.append(Sentence(f"{count} of {len(health)} runs {verb}.", True))
    return sentences


def _count(number: int, noun: str) -> str:
    return f"{'one' if number == 1 else number} {noun}{'s' * (number != 1)}"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
