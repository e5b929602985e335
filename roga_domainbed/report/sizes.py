"""What the cells of tables were tested on: put into the cells, and said below the table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from roga_domainbed.report.scores import StoredScores
from roga_domainbed.results.protocols import environment_name
from roga_domainbed.results.runs import Run
from roga_domainbed.results.sample_size import FEWEST_PEOPLE, FEWEST_VIDEOS, Pair, SampleSize, sample_size
from roga_domainbed.results.selected import JudgedRun, Selected

if TYPE_CHECKING:
    from roga_domainbed.report.tables import Tables

FEW = "†"

#: Column of a table → what its cells were tested on, each once.
Sizes = Mapping[str, Sequence[SampleSize]]


def with_sizes(
    tables: Tables, runs: Iterable[Run], selected: Sequence[Selected], stored: StoredScores | None = None
) -> Tables:
    """``tables`` with what each cell was tested on.

    Args:
        tables: of ``selected``.
        runs: those that were selected from.
        selected: what each rule chose.
        stored: the scores that were read anyway; they tell of videos what records of earlier versions do not.
    """
    by_source: dict[str, list[Run]] = {}
    for run in runs:
        by_source.setdefault(run.source, []).append(run)
    chosen = {own.rule.name: own.trials for own in selected}
    found = []
    for table in tables.tables:
        trials = chosen[table.rule.name]
        envs = {environment_name(table.dataset, env): env for name, _, env in trials if name == table.name}
        rows = []
        for row in table.rows if envs else ():
            cells = []
            for column, cell in zip(table.columns, row.cells, strict=True):
                own = trials.get((table.name, row.name, envs.get(column, -1)), ())
                sizes = dict.fromkeys(_tested_on(run, by_source, stored or {}) for run in own)
                cells.append(cell and replace(cell, tested_on=tuple(sizes)))
            rows.append(replace(row, cells=tuple(cells)))
        found.append(replace(table, rows=tuple(rows)) if rows else table)
    return replace(tables, tables=tuple(found))


def _tested_on(chosen: JudgedRun, by_source: Mapping[str, Sequence[Run]], stored: StoredScores) -> SampleSize:
    runs = [run for run in by_source.get(chosen.source, ()) if chosen.step in run.steps]
    found = sample_size(runs[-1], chosen.env, chosen.step) if runs else SampleSize()
    scores = stored.get((chosen.source, chosen.env, chosen.step))
    if found.samples is not None or scores is None:
        return found
    of_class = [scores.clusters[scores.labels == label] for label in (0, 1)]
    samples = len(of_class[0]), len(of_class[1])
    videos = (len(set(of_class[0].tolist())), len(set(of_class[1].tolist()))) if scores.has_videos else None
    return SampleSize(sum(samples), videos and sum(videos), samples, videos)


def size_notes(sizes: Sizes) -> list[str]:
    """What the columns were tested on, a line for videos, or samples where these are unknown, and one for people."""
    notes = []
    videos = {column: text for column, own in sizes.items() if (text := _videos(own))}
    samples = {
        column: text for column, own in sizes.items() if column not in videos and (text := _samples(own))
    }
    people = {column: text for column, own in sizes.items() if (text := _people(own))}
    for what, of_column in (("videos", videos), ("samples", samples), ("people", people)):
        if of_column:
            notes.append(f"Test {what}: {_by_column(of_column)}")
    few = {column: text for column, own in sizes.items() if (text := _few(own))}
    if few:
        columns: dict[str, list[str]] = {}
        for column, text in few.items():
            columns.setdefault(text, []).append(column)
        each = "; ".join(f"{', '.join(names)} ({text})" for text, names in columns.items())
        notes.append(
            f"{FEW} tested on fewer than {FEWEST_VIDEOS} videos or {FEWEST_PEOPLE} people of a class: {each}"
        )
    return notes


def _by_column(texts: Mapping[str, str]) -> str:
    alike = set(texts.values())
    if len(texts) > 1 and len(alike) == 1:
        return f"{alike.pop()}, in each environment"
    return "; ".join(f"{column} {text}" for column, text in texts.items())


def _videos(sizes: Sequence[SampleSize]) -> str:
    return _of_classes([own.videos for own in sizes]) or _range([own.n_videos for own in sizes])


def _samples(sizes: Sequence[SampleSize]) -> str:
    return _of_classes([own.samples for own in sizes]) or _range([own.n_samples for own in sizes])


def _people(sizes: Sequence[SampleSize]) -> str:
    return _of_classes([own.people for own in sizes], "{} in real and {} in fake videos")


def _few(sizes: Sequence[SampleSize]) -> str:
    videos = [own for own in sizes if own.has_few_videos]
    people = [own for own in sizes if own.has_few_people]
    parts = [f"{_videos(videos)} videos"] if videos else []
    parts += [f"people: {_people(people)}"] if people else []
    return "; ".join(parts)


def _of_classes(pairs: Sequence[Pair | None], form: str = "{} real and {} fake") -> str:
    """The numbers of reals and of fakes in a sentence; empty if some are not known."""
    if not pairs or None in pairs:
        return ""
    return form.format(*map(_range, zip(*pairs, strict=True)))


def _range(numbers: Sequence[int | None]) -> str:
    """``12``, or ``11 to 13`` where trials differ; empty if one is not known."""
    if not numbers or None in numbers:
        return ""
    low, high = min(numbers), max(numbers)
    return f"{low}" if low == high else f"{low} to {high}"
