"""What a table lacks: runs that are missing, and runs that have not finished."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from roga_domainbed.results.rows import row_name
from roga_domainbed.results.runs import Run, RunKey, is_number

MOST_NAMED = 5


@dataclass(frozen=True)
class UnfinishedRun:
    """A run folder with records and without the marker ``done``.

    Attributes:
        dataset: its name.
        algorithm: its name.
        row: the row of the tables that it counts in.
        test_envs: indices of the environments held out.
        trial_seed: of the run.
        hparams_seed: of the run.
        last_step: the highest step that it has a record of.
        folder: its path.
    """

    dataset: str
    algorithm: str
    row: str
    test_envs: tuple[int, ...]
    trial_seed: int
    hparams_seed: int
    last_step: int
    folder: str

    def __str__(self) -> str:
        key = RunKey(self.dataset, self.row, self.test_envs, self.trial_seed, self.hparams_seed)
        return f"{key}: last record at step {self.last_step}"


def missing_runs(
    runs: Iterable[Run], rows: Iterable[str], columns: Mapping[str, Collection[tuple[int, ...]]]
) -> tuple[str, ...]:
    """One line for every cell that lacks runs, such as ``SAM, Art: trial 2 has 18 of 20 runs``.

    A sweep is a grid: every cell should have the trials and hparams seeds that any cell has.

    Args:
        runs: all runs of one dataset.
        rows: the rows of its table.
        columns: environment name → the sets of environments held out in the runs that count for it.
    """
    present: dict[tuple, set[int]] = {}
    trials, seeds = set(), set()
    for run in runs:
        args = run.args
        cell = row_name(args), run.held_out, args["trial_seed"]
        present.setdefault(cell, set()).add(args["hparams_seed"])
        trials.add(args["trial_seed"])
        seeds.add(args["hparams_seed"])
    lines = []
    for row in rows:
        for name, sets in columns.items():
            found = {
                trial: sum(len(present.get((row, tested, trial), ())) for tested in sets)
                for trial in sorted(trials)
            }
            expected = len(seeds) * max(1, len(sets))
            lacking = [
                f"trial {trial} has {f'{count} of {expected} runs' if count else 'no run'}"
                for trial, count in found.items()
                if count < expected
            ]
            if not any(found.values()):
                lacking = ["no run"]
            if lacking:
                lines.append(f"{row}, {name}: {', '.join(lacking)}")
    return tuple(lines)


def search_note(runs: Iterable[Run]) -> str:
    """How successive halving cut the search short, where it did: ``… 14 of 20 runs a group were stopped early …``.

    A group has the runs that differ in their hyper-parameters alone. Groups of which no run was stopped are left out.

    Args:
        runs: all runs of one dataset.
    """
    stopped: dict[tuple, set[int]] = {}
    every: dict[tuple, set[int]] = {}
    etas = set()
    for run in runs:
        args = run.args
        group = row_name(args), run.held_out, args["trial_seed"]
        every.setdefault(group, set()).add(args["hparams_seed"])
        if run.dropped is not None:
            stopped.setdefault(group, set()).add(args["hparams_seed"])
            etas.add(run.dropped.get("eta"))
    if not stopped:
        return ""
    known = sorted(eta for eta in etas if is_number(eta))
    how = f" (η = {', '.join(map(str, known))})" if known else ""
    counts = [{len(found[group]) for group in stopped} for found in (stopped, every)]
    n_stopped, n_every = ("-".join(map(str, sorted({min(found), max(found)}))) for found in counts)
    return (
        f"Hyper-parameters searched by successive halving{how}: {n_stopped} of {n_every} runs a group were stopped "
        "early, by validation"
    )


def unfinished_runs(runs: Iterable[Run], folders: Collection[str]) -> tuple[UnfinishedRun, ...]:
    """Those of ``runs`` whose folder is one of ``folders``, in their order; one entry for each run and folder.

    Args:
        runs: what the tables are made of.
        folders: paths of run folders, as ``LoadedRuns.unfinished`` has them.
    """
    folders = set(folders)
    last_steps: dict[tuple, int] = {}
    for run in runs:
        if run.source in folders:
            a = run.args
            seeds = a["trial_seed"], a["hparams_seed"]
            key = (a["dataset"], a["algorithm"], row_name(a), tuple(a["test_envs"]), *seeds, run.source)
            last_steps[key] = max([*run.steps, last_steps.get(key, 0)])
    return tuple(UnfinishedRun(*key[:-1], step, key[-1]) for key, step in last_steps.items())


def count_unfinished(unfinished: Sequence[UnfinishedRun]) -> str:
    """How many of a table's runs have not finished, as the beginning of a sentence."""
    return f"{len(unfinished)} {'runs have' if len(unfinished) > 1 else 'run has'} not finished"


def unfinished_notes(unfinished: Sequence[UnfinishedRun]) -> list[str]:
    """How many there are, then the first few of them, one on a line; empty if there are none."""
    if not unfinished:
        return []
    lines = [f"{count_unfinished(unfinished)} and count up to the last record:"]
    if len(unfinished) == 1:
        lines = [f"{count_unfinished(unfinished)} and counts up to its last record:"]
    lines += [f"  {run}" for run in unfinished[:MOST_NAMED]]
    if len(unfinished) > MOST_NAMED:
        lines.append(f"  and {len(unfinished) - MOST_NAMED} more; collect-results --format json lists all")
    return lines
