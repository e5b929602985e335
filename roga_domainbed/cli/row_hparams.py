"""Checks the hyper-parameters of a sweep's rows before the first job."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from roga_domainbed.catalog import ALGORITHMS, DATASETS
from roga_domainbed.catalog.hparams import parse_overrides
from roga_domainbed.errors import Problems, RogaError, shortened
from roga_domainbed.sweep.plan import Plan, Row


def check_hparams(plan: Plan, problems: Problems) -> None:
    """Add everything that is wrong with the hyper-parameters that are given, each with the rows that it is wrong for.

    Every row's algorithm must have them, and may have their values. Unknown algorithms and datasets, and hparams that
    are no JSON, are left to other checks.
    """
    try:
        shared = parse_overrides(plan.hparams)
    except RogaError:
        return
    rows = [row for row in plan.all_rows if row.algorithm in ALGORITHMS and (shared or row.hparams)]
    datasets = [name for name in dict.fromkeys(plan.datasets or ()) if name in DATASETS]
    if not rows or not datasets:
        return
    misplaced = _misplaced(rows, shared, datasets)
    concerned: dict[str, list[str]] = {}
    for row, elsewhere in zip(rows, misplaced, strict=True):
        given = {name: value for name, value in {**shared, **row.hparams}.items() if name not in elsewhere}
        for message in dict.fromkeys([*_sentences(elsewhere), *_faults(plan, row, given, datasets)]):
            concerned.setdefault(message, []).append(str(row))
    for message, names in concerned.items():
        problems.add(f"{', '.join(names)}: {message}")


def _misplaced(
    rows: Sequence[Row], shared: Iterable[str], datasets: Sequence[str]
) -> list[dict[str, list[str]]]:
    """For each row, the hparams of the plan that its algorithm lacks, with the rows whose algorithms have them."""
    # All of these load torch: a launch needs it anyway, and a dry run only where hparams are given.
    from roga_domainbed.trainer.config import TrainConfig
    from roga_domainbed.trainer.hyperparameters import declared_hparams
    from roga_domainbed.upstream import bridge

    host = bridge.register()
    has: dict[str, set[str]] = {row.algorithm: set() for row in rows}
    for algorithm, names in has.items():
        for dataset in datasets:
            names |= set(declared_hparams(TrainConfig(algorithm=algorithm, dataset=dataset), host))
    found = []
    for row in rows:
        lacking = [name for name in shared if name not in {*has[row.algorithm], *row.hparams}]
        others = {name: [str(other) for other in rows if name in has[other.algorithm]] for name in lacking}
        found.append({name: having for name, having in others.items() if having})
    return found


def _sentences(elsewhere: dict[str, list[str]]) -> Iterator[str]:
    for name, others in elsewhere.items():
        yield (
            f"no hparam {name!r}; --hparams, and the hparams of a preset, are for every row: give it in the row of "
            f"{shortened(others)} ('rows' of a preset)"
        )


def _faults(plan: Plan, row: Row, given: dict[str, Any], datasets: Sequence[str]) -> Iterator[str]:
    from roga_domainbed.host.backend import host
    from roga_domainbed.trainer.config import TrainConfig
    from roga_domainbed.trainer.hyperparameters import resolve_hparams

    found = Problems()
    for dataset in datasets:
        config = TrainConfig(
            algorithm=row.algorithm, dataset=dataset, hparams=json.dumps(given), steps=plan.steps
        )
        resolve_hparams(config, host(), found)
    # Each algorithm knows other names; one line a misspelt one is enough.
    yield from (message.partition("; known:")[0] for message in found.messages)
