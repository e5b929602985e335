"""What a sweep lacks: runs that other cells of the same table have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from roga_domainbed.results.runs import Run


def missing_runs(
    runs: Iterable[Run], algorithms: Sequence[str], columns: Mapping[str, tuple[int, ...] | None]
) -> tuple[str, ...]:
    """One line for every cell that lacks runs, such as ``SAM, Art: trial 2 has 18 of 20 hparams``.

    A sweep is a grid, so every cell should have the trials and hparams seeds that any cell has.

    Args:
        runs: all runs of one dataset.
        algorithms: those that should be there.
        columns: environment name → the environments held out in the runs that count for it.
    """
    present: dict[tuple, set[int]] = {}
    trials, seeds = set(), set()
    for run in runs:
        args = run.args
        cell = args["algorithm"], run.held_out, args["trial_seed"]
        present.setdefault(cell, set()).add(args["hparams_seed"])
        trials.add(args["trial_seed"])
        seeds.add(args["hparams_seed"])
    lines = []
    for algorithm in algorithms:
        for name, tested in columns.items():
            found = {trial: len(present.get((algorithm, tested, trial), ())) for trial in sorted(trials)}
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
