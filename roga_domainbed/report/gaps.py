"""What a sweep lacks: runs that other cells of the same table have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from roga_domainbed.records import Record
from roga_domainbed.selection import held_out


def missing_runs(
    records: Iterable[Record], algorithms: Sequence[str], columns: Mapping[str, tuple[int, ...] | None]
) -> tuple[str, ...]:
    """One line for every cell that lacks runs, such as ``SAM, Art: trial 2 has 18 of 20 hparams``.

    A sweep is a grid, so every cell should have the trials and hparams seeds that any cell has.

    Args:
        records: all records of one dataset.
        algorithms: those that should be there.
        columns: environment name → the environments held out in the runs that count for it.
    """
    runs: dict[tuple, set[int]] = {}
    trials, seeds = set(), set()
    for record in records:
        args = record["args"]
        runs.setdefault((args["algorithm"], held_out(record), args["trial_seed"]), set()).add(
            args["hparams_seed"]
        )
        trials.add(args["trial_seed"])
        seeds.add(args["hparams_seed"])
    lines = []
    for algorithm in algorithms:
        for name, tested in columns.items():
            found = {trial: len(runs.get((algorithm, tested, trial), ())) for trial in sorted(trials)}
            lacking = [
                f"trial {trial} has {count or 'none'} of {len(seeds)} hparams"
                for trial, count in found.items()
                if count < len(seeds)
            ]
            if not any(found.values()):
                lacking = ["no run"]
            if lacking:
                lines.append(f"{algorithm}, {name}: {', '.join(lacking)}")
    return tuple(lines)
