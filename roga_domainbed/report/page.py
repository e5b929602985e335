"""The report: one self-contained HTML file, and its figures as files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from roga_domainbed.report import page_tables
from roga_domainbed.report.against import AgainstTable
from roga_domainbed.report.figures.detection import detection_figures
from roga_domainbed.report.figures.drawing import file_name, save_figure
from roga_domainbed.report.figures.environments import by_environment
from roga_domainbed.report.figures.figure import MOST_LINES, Figure, Line, lines_for
from roga_domainbed.report.figures.search import search_figures
from roga_domainbed.report.figures.training import training_figures
from roga_domainbed.report.health import RunHealth
from roga_domainbed.report.html import render
from roga_domainbed.report.intervals import cell_intervals
from roga_domainbed.report.page_tables import PageTable
from roga_domainbed.report.scores import Scores, StoredScores, read_stored
from roga_domainbed.report.sizes import with_sizes
from roga_domainbed.report.study import Study
from roga_domainbed.report.summary import Sentence, ranking, summary
from roga_domainbed.results.records import SCORES
from roga_domainbed.results.selected import JudgedRun


@dataclass(frozen=True)
class Block:
    """A figure on the page, with the tables that belong to it."""

    figure: Figure
    tables: tuple[PageTable, ...] = ()


@dataclass(frozen=True)
class Report:
    """Everything on the page, before it is drawn.

    Attributes:
        study: the sweep.
        health: the state of every run folder.
        sentences: the summary.
        results: the tables of each rule, the comparison with the baseline, and those with a paper.
        blocks: dataset → figures in the order of the page.
        problems: one sentence for each thing that could not be read.
    """

    study: Study
    health: Sequence[RunHealth]
    sentences: tuple[Sentence, ...]
    results: tuple[PageTable, ...]
    blocks: dict[str, list[Block]]
    problems: tuple[str, ...]


def make_report(study: Study, health: Sequence[RunHealth], against: Sequence[AgainstTable] = ()) -> Report:
    """Read the stored scores of the chosen steps and make tables and figures; nothing is drawn yet."""
    stored, score_problems = read_stored(chosen for own in study.selected for chosen in own.chosen)
    sized = with_sizes(study.tables, study.loaded.runs, study.selected, stored)
    study = replace(study, tables=sized)
    intervals_of = {own.rule.name: cell_intervals(own, stored) for own in study.selected}
    intervals = intervals_of[study.rule.name]
    # averages over one dataset would repeat its table
    tables = [table for table in study.tables.shown if table.dataset is not None or len(table.columns) > 1]
    results = [page_tables.result_table(table, intervals_of[table.rule.name]) for table in tables]
    results += page_tables.comparisons(study)
    results += map(page_tables.against_table, against)
    blocks = {}
    for dataset in study.datasets:
        lines = _lines(study, dataset)
        tables = {
            "environments": page_tables.intervals_table(study, dataset, intervals),
            "hparams": page_tables.chosen_table(study, dataset),
            "cost": page_tables.cost_table(study, dataset),
        }
        figures = [
            by_environment(study, dataset, intervals),
            *detection_figures(
                study.dataset_of[dataset],
                _by_cell(study, dataset, stored),
                lines,
                _whose(study, dataset, stored),
                _without_scores(score_problems),
            ),
            *training_figures(study, dataset, lines),
            *search_figures(study, dataset, lines),
        ]
        blocks[dataset] = [
            Block(figure, tuple(tables[name] for name in names if tables.get(name)))
            for figure, names in _merge_missing(figures)
        ]
    return Report(
        study,
        health,
        tuple(summary(study, health)),
        tuple(results),
        blocks,
        (*study.loaded.problems, *study.loaded.notes, *score_problems),
    )


def save_figures(report: Report, folder: Path, suffix: str) -> list[Path]:
    """Write every figure that has panels to a file; its name has *oracle* where test data decided.

    Args:
        report: from ``make_report``.
        folder: made if it is not there.
        suffix: one of ``drawing.FORMATS``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for dataset, blocks in report.blocks.items():
        for block in blocks:
            if block.figure.panels:
                name = file_name(block.figure, dataset, report.study.datasets, oracle=bool(report.study.mark))
                paths.append(folder / f"{name}.{suffix}")
                save_figure(block.figure, paths[-1])
    return paths


def render_page(report: Report, tick: Callable[[], object] = lambda: None) -> str:
    """The page.

    Args:
        report: from ``make_report``.
        tick: called after each of the ``n_panels`` panels; for a progress bar.
    """
    study = report.study
    datasets = dict.fromkeys(study.dataset_of.values())
    return render(
        "report.html",
        tick,
        report=report,
        study=study,
        title=f"{', '.join(datasets)}: {study.metric.title}" + " (oracle)" * study.has_oracle,
        health_table=page_tables.health_table(report.health, study.rows),
        n_rows={dataset: len(_rows_in(study, dataset)) for dataset in study.datasets},
        most_lines=MOST_LINES,
        troubled=[
            run
            for run in report.health
            if run.state not in (page_tables.State.DONE, page_tables.State.DROPPED) or not run.has_records
        ],
        missing=[(table.name, line) for table in study.tables_of(study.rule) for line in table.missing],
        provenance=page_tables.provenance_table(study),
        unknown_origin=sum(not run.provenance for run in study.folder_of.values()),
        has_data_hash=any("hash" in name for name in page_tables.recorded_facts(study)),
        reproductions=_reproductions(study),
    )


def n_panels(report: Report) -> int:
    """How many panels the page has."""
    return sum(len(block.figure.panels) for blocks in report.blocks.values() for block in blocks)


def _merge_missing(figures: Sequence[Figure]) -> list[tuple[Figure, list[str]]]:
    """Figures with their names; neighbours that are missing for the same reason become one with several names."""
    kept: list[tuple[Figure, list[str]]] = []
    for figure in figures:
        if kept and figure.missing and figure.missing == kept[-1][0].missing:
            before, names = kept.pop()
            kept.append((replace(before, title=f"{before.title} · {figure.title}"), [*names, figure.name]))
        else:
            kept.append((figure, [figure.name]))
    return kept


def _lines(study: Study, dataset: str) -> tuple[Line, ...]:
    averages = {name: study.metric.rank(value) for name, value in ranking(study.table(dataset))}
    return lines_for(_rows_in(study, dataset), averages, study.baseline)


def _rows_in(study: Study, dataset: str) -> list[str]:
    return [row for row in study.rows if study.chosen_in(dataset, row=row)]


def _by_cell(study: Study, dataset: str, stored: StoredScores) -> dict[tuple[str, int], list[Scores]]:
    found: dict[tuple[str, int], list[Scores]] = {}
    for c in study.chosen_in(dataset):
        if (c.source, c.env, c.step) in stored:
            found.setdefault((c.row, c.env), []).append(stored[c.source, c.env, c.step])
    return found


def _whose(study: Study, dataset: str, stored: StoredScores) -> str:
    chosen = study.chosen_in(dataset)
    without = sum((c.source, c.env, c.step) not in stored for c in chosen)
    if not without:
        return "Scores of the chosen runs at the step that the rule chose."
    return (
        f"Scores of the chosen runs at the step that the rule chose; {without} of {len(chosen)} runs have none of that "
        "step and are not in the figure."
    )


def _without_scores(problems: Sequence[str]) -> str:
    if problems:
        return f"The stored scores cannot be used: {problems[0]}."
    return (
        f"The chosen runs have no stored scores ({SCORES} in the run's folder) of the chosen step: version 0.1.0 "
        "stored those of the last step alone, DomainBed's own scripts write none, and only tasks of two classes have "
        "any."
    )


def _reproductions(study: Study) -> list[tuple[str, list[tuple[JudgedRun, str]]]]:
    """For each row of the tables the chosen runs with their commands."""
    rows = []
    for dataset in study.datasets:
        for row in study.rows:
            chosen = study.chosen_in(dataset, row=row)
            if chosen:
                commands = [
                    (c, page_tables.reproduction(c, study))
                    for c in chosen
                    if study.folder_of[c.source].records
                ]
                rows.append((f"{row} on {dataset}{study.mark}", commands))
    return rows
