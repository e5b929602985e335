"""Rows of a table: which runs belong together, what the row is called, and where it stands.

A row is an algorithm, unless the plan of a sweep named its rows (``args["row"]`` of the records) or ``--rows`` names
the arguments and hyper-parameters that tell rows apart.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from roga_domainbed.catalog import ALGORITHMS
from roga_domainbed.errors import Problems, RogaError, unknown_name

if TYPE_CHECKING:
    from roga_domainbed.results.runs import Run

_NUMBER = re.compile(r"(\d+(?:\.\d+)?(?:e[-+]?\d+)?)")


def row_name(args: Mapping[str, Any]) -> str:
    """The row that a run with these arguments belongs to."""
    name = args.get("row")
    return name if isinstance(name, str) and name else args["algorithm"]


def rows_of(runs: Iterable[Run]) -> dict[str, str]:
    """Row → algorithm of all runs that have a test environment, in the order of the tables.

    Algorithms come in the catalog's order, then those it does not know as they come; the rows of one algorithm in
    natural order: ρ 0.05 before ρ 0.1, 9 before 10.

    Raises:
        RogaError: runs of two algorithms are in one row.
    """
    found: dict[str, str] = {}
    for run in runs:
        name, algorithm = row_name(run.args), run.args["algorithm"]
        if run.args["test_envs"] and found.setdefault(name, algorithm) != algorithm:
            raise RogaError(
                f"row {name!r} would hold runs of {found[name]} and of {algorithm}; add algorithm to --rows to keep "
                "them apart"
            )
    algorithms = list(dict.fromkeys([*ALGORITHMS.names(), *found.values()]))
    return dict(sorted(found.items(), key=lambda row: (algorithms.index(row[1]), _natural(row[0]))))


def name_rows(runs: Sequence[Run], keys: Sequence[str]) -> None:
    """Name the row of every run after some of its arguments and hyper-parameters: ``ERM, backbone resnet34``.

    A run without a value for a key goes without it in its name.

    Args:
        runs: their ``args`` get the name as ``row``.
        keys: such as ``algorithm``, ``steps`` or ``hparams.backbone``.

    Raises:
        RogaError: no run has one of the keys, or two algorithms are in one row.
    """
    settings = [run.args | {f"hparams.{name}": value for name, value in run.hparams.items()} for run in runs]
    known = dict.fromkeys(name for own in settings for name in own if name != "hparams")
    problems = Problems()
    for key in keys:
        if key not in known:
            problems.add(unknown_name("key of --rows", key, known))
    problems.check()
    for run, own in zip(runs, settings, strict=True):
        run.args = {
            **run.args,
            "row": ", ".join(_part(key, own[key]) for key in keys if own.get(key) is not None),
        }
    rows_of(runs)


def _part(key: str, value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if key in ("algorithm", "row") else f"{key.removeprefix('hparams.')} {text}"


def _natural(name: str) -> tuple[str | float, ...]:
    """Sorts as people do: by text and numbers in turn."""
    return tuple(float(part) if place % 2 else part for place, part in enumerate(_NUMBER.split(name)))
