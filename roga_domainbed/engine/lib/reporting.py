"""Reading the records of a sweep, under upstream's names."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

from roga_domainbed.engine.lib.query import Q
from roga_domainbed.results import records as records_file
from roga_domainbed.results.records import Record
from roga_domainbed.results.selection import group_by_test_env


def load_records(path: str | os.PathLike) -> Q:
    """The records of every ``<path>/<job>/results.jsonl``, folders in sorted order.

    A line that is no record is skipped and named on stderr; upstream stops at it.
    """
    loaded = records_file.load(path)
    for problem in loaded.problems:
        print(problem, file=sys.stderr)
    return Q(loaded.records)


def get_grouped_records(records: Iterable[Record]) -> Q:
    """Dicts of ``trial_seed, dataset, algorithm, test_env, records``; a record joins a group a test env."""
    return Q(
        [
            {
                "trial_seed": trial,
                "dataset": dataset,
                "algorithm": algorithm,
                "test_env": env,
                "records": Q(group),
            }
            for (trial, dataset, algorithm, env), group in group_by_test_env(records).items()
        ]
    )
