"""Rows of a table: which runs belong together, what the row is called, and where it stands.

A row is an algorithm, unless the plan of a sweep named its rows (``args["row"]`` of the records) or ``--rows`` names
the arguments and hyper-parameters that tell rows apart. Runs of other settings are never in one row unless ``--rows``
asks for it: they get rows of their own, named after what differs.
"""

from __future__ import annotations

import contextlib
import json
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from roga_domainbed.catalog import ALGORITHMS
from roga_domainbed.errors import Problems, RogaError, shortened, unknown_name
from roga_domainbed.foreign import Malformed, parse_json
from roga_domainbed.results.records import DATA_OPTIONS

if TYPE_CHECKING:
    from roga_domainbed.results.runs import Run

#: Arguments that differ between the runs of one row as they should, and those that change no number.
_NO_SETTINGS = frozenset(
    "dataset algorithm row test_envs trial_seed hparams_seed seed hparams data_dir output_dir skip_model_save "
    "save_model_every_checkpoint".split()
)
_HPARAM = "hparams."
_MADE_BY = ("backend", "split")  # of the provenance: what was used, also where nothing was asked for

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
    settings = [run.args | {_HPARAM + name: value for name, value in run.hparams.items()} for run in runs]
    known = dict.fromkeys(name for own in settings for name in own if name != "hparams")
    problems = Problems()
    for key in keys:
        if key not in known:
            problems.add(unknown_name("key of --rows", key, known))
    problems.check()
    for run, own in zip(runs, settings, strict=True):
        _name(run, ", ".join(_part(key, own[key]) for key in keys if own.get(key) is not None))
    rows_of(runs)


def name_variants(runs: Sequence[Run]) -> tuple[list[str], list[str]]:
    """Give the runs of a row that differ in their settings rows of their own: ``RoGA, rho 0.1``.

    Returns:
        A sentence for each row that was divided; the sentences of ``mixed_hparams`` for the rows there are now.
    """
    sentences = []
    variants, is_mixed = _variants(runs)
    for row, (own, settings, keys) in variants.items():
        for run, values in zip(own, settings, strict=True):
            _name(run, ", ".join([row, *(_part(key, values[key]) for key in keys if key in values)]))
        names = sorted({row_name(run.args) for run in own}, key=_natural)
        sentences.append(
            f"{row} has runs with different settings, each in a row of its own: {'; '.join(names)}"
        )
    return sentences, mixed_hparams(runs) if is_mixed else []


def variants_in_rows(runs: Sequence[Run]) -> list[str]:
    """A sentence for each row that holds runs with different settings."""
    return [
        f"{row} holds runs with different settings: {_described(settings, keys)}"
        for row, (_, settings, keys) in _variants(runs)[0].items()
    ]


def mixed_hparams(runs: Sequence[Run]) -> list[str]:
    """A sentence for each row in which one draw of the random search stands for different hyper-parameters."""
    sentences = []
    for row, own in _by_row(runs).items():
        names = sorted({name for _, name, _ in _differing_draws(own)})
        if names:
            sentences.append(
                f"{row}: runs of one hparams_seed and trial have different hyper-parameters ({', '.join(names)}), of "
                "which one is chosen; keep their folders apart, or make rows with --rows"
            )
    return sentences


def _by_row(runs: Sequence[Run]) -> dict[str, list[Run]]:
    of_row: dict[str, list[Run]] = {}
    for run in runs:
        of_row.setdefault(row_name(run.args), []).append(run)
    return of_row


def _variants(
    runs: Sequence[Run],
) -> tuple[dict[str, tuple[list[Run], list[dict[str, Any]], list[str]]], bool]:
    """Row → its runs, their settings, and the names of the settings that differ; rows without any are left out.

    Settings are compared among the runs of one dataset: another dataset may need other steps. The second value says
    whether hyper-parameters differ in one draw of a random search.
    """
    is_mixed = False
    found = {}
    suspected = _rows_that_may_differ(runs)
    for row, own in _by_row(runs).items() if suspected else ():
        if row not in suspected:
            continue
        settings = [_settings(run) for run in own]
        first: dict[str, tuple[Run, dict[str, Any]]] = {}
        keys: set[str] = set()
        for run, values in zip(own, settings, strict=True):
            before, theirs = first.setdefault(run.args["dataset"], (run, values))
            if values != theirs:
                unknown = _is_of_unknown_origin(run) or _is_of_unknown_origin(before)
                keys |= _differing(theirs, values).difference(_MADE_BY if unknown else ())
        draws = _differing_draws(own)
        if draws:
            is_mixed = True
            keys |= _add_differing_hparams(own, settings, draws)
        if keys:
            found[row] = own, settings, sorted(keys)
    return found, is_mixed


def _rows_that_may_differ(runs: Sequence[Run]) -> set[str]:
    """The rows in which runs were told different things: a quick look, as most sweeps have none."""
    found: set[str] = set()
    told_first: dict[tuple[str, str], tuple] = {}
    drawn_first: dict[tuple, Mapping[str, Any]] = {}
    names: tuple[str, ...] = ()
    pick: Callable[[Mapping[str, Any]], tuple] = operator.itemgetter("dataset", "dataset")
    for run in runs:
        args, made_by = run.args, run.provenance
        if tuple(args) != names:
            names = tuple(args)
            may_be_settings = [name for name in names if name == "hparams" or name not in _NO_SETTINGS]
            # the dataset twice, because with one name it would give no tuple
            pick = operator.itemgetter("dataset", "dataset", *may_be_settings)
        told = names, pick(args), run.data, made_by and (made_by.get("backend"), made_by.get("split"))
        dataset, row, seed = args["dataset"], row_name(args), args["hparams_seed"]
        draw = dataset, row, seed, seed and args["trial_seed"]
        if told_first.setdefault((dataset, row), told) != told or (
            drawn_first.setdefault(draw, run.hparams) != run.hparams
        ):
            found.add(row)
    return found


def _settings(run: Run) -> dict[str, Any]:
    """What a run was told, beside what identifies it in its sweep; without what is the default."""
    args = run.args
    own = {
        key: value for key, value in args.items() if key not in _NO_SETTINGS and value not in (None, False)
    }
    own |= run.data
    own |= {_HPARAM + name: value for name, value in _overrides(run).items()}
    if run.provenance:
        own |= {key: run.provenance[key] for key in _MADE_BY if run.provenance.get(key)}
    elif not _is_of_unknown_origin(run):
        own["backend"] = "DomainBed's train"
    return own


def _is_of_unknown_origin(run: Run) -> bool:
    """Whether its records have lost their provenance: DomainBed's own have none, and no number of samples either."""
    return not run.provenance and ("n", "in") in run.metrics


def _add_differing_hparams(
    runs: Sequence[Run], settings: list[dict[str, Any]], draws: Sequence[tuple[tuple, str, set[str]]]
) -> set[str]:
    """Add to the settings the hyper-parameters that code or another tool set; their names.

    Such a setting has its few values in every draw of the random search. What was drawn has others in each.
    """
    values: dict[str, list[set[str]]] = {}
    for _, name, found in draws:
        values.setdefault(name, []).append(found)
    every = {name: {repr(run.hparams[name]) for run in runs if name in run.hparams} for name in values}
    keys = {name for name, found in values.items() if every[name] in found}
    for place, run in enumerate(runs) if keys else ():
        settings[place] = settings[place] | {
            _HPARAM + name: run.hparams[name] for name in keys if name in run.hparams
        }
    return {_HPARAM + name for name in keys}


def _differing_draws(runs: Sequence[Run]) -> list[tuple[tuple, str, set[str]]]:
    """(draw, hyper-parameter, its values) where runs of one draw differ, though they were told the same.

    The draws differ by ``hparams_seed`` and trial; those of seed 0 are the defaults in every trial. A hyper-parameter
    that some of the runs do not have came with another version.
    """
    draws: dict[tuple, list[Run]] = {}
    for run in runs:
        args = run.args
        draw = args["dataset"], args["hparams_seed"], args["hparams_seed"] and args["trial_seed"]
        draws.setdefault(draw, []).append(run)
    differing = []
    for draw, own in draws.items():
        first = own[0].hparams
        others = [run.hparams for run in own if run.hparams != first]
        for name in {name for other in others for name in _differing(first, other)}.difference(DATA_OPTIONS):
            values = {
                repr(run.hparams[name]) for run in own if name in run.hparams and name not in _overrides(run)
            }
            if len(values) > 1:
                differing.append((draw, name, values))
    return differing


def _overrides(run: Run) -> dict[str, Any]:
    """What ``--hparams`` of the run set; empty if it is no JSON object."""
    given = run.args.get("hparams")
    if given and isinstance(given, str):
        with contextlib.suppress(Malformed):
            given = parse_json(given)
    return given if isinstance(given, dict) else {}


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> set[str]:
    return {key for key in one.keys() | other.keys() if one.get(key) != other.get(key)}


def _described(settings: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> str:
    """``rho 0.05, 0.1; steps 100, default``."""
    parts = []
    for key in keys:
        values = dict.fromkeys(_text(own[key]) if key in own else "default" for own in settings)
        parts.append(f"{key.removeprefix(_HPARAM)} {shortened(values, 6)}")
    return "; ".join(parts)


def _name(run: Run, row: str) -> None:
    run.args = {**run.args, "row": row}


def _part(key: str, value: object) -> str:
    return _text(value) if key in ("algorithm", "row") else f"{key.removeprefix(_HPARAM)} {_text(value)}"


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _natural(name: str) -> tuple[str | float, ...]:
    """Sorts as people do: by text and numbers in turn."""
    return tuple(float(part) if place % 2 else part for place, part in enumerate(_NUMBER.split(name)))
