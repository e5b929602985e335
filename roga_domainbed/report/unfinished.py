"""Runs that count in a table and have not finished: what they will say at their end, nobody knows yet."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from roga_domainbed.results.runs import Run, RunKey

MOST_NAMED = 5


@dataclass(frozen=True)
class UnfinishedRun:
    """A run folder with records and without the marker ``done``.

    Attributes:
        dataset: its name.
        algorithm: its name.
        test_envs: indices of the environments held out.
        trial_seed: of the run.
        hparams_seed: of the run.
        last_step: the highest step that it has a record of.
        folder: its path.
    """

    dataset: str
    algorithm: str
    test_envs: tuple[int, ...]
    trial_seed: int
    hparams_seed: int
    last_step: int
    folder: str

    def __str__(self) -> str:
        key = RunKey(self.dataset, self.algorithm, self.test_envs, self.trial_seed, self.hparams_seed)
        return f"{key}: last record at step {self.last_step}"


def unfinished_runs(runs: Iterable[Run], folders: Collection[str]) -> tuple[UnfinishedRun, ...]:
    """Those of ``runs`` whose folder is one of ``folders``, in their order; what a folder holds of one run is one.

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
            key = (a["dataset"], a["algorithm"], tuple(a["test_envs"]), *seeds, run.source)
            last_steps[key] = max([*run.steps, last_steps.get(key, 0)])
    return tuple(UnfinishedRun(*key[:-1], step, key[-1]) for key, step in last_steps.items())


def headline(unfinished: Sequence[UnfinishedRun]) -> str:
    """How many of a table's runs have not finished."""
    are = "run that counts here has" if len(unfinished) == 1 else "runs that count here have"
    return f"{len(unfinished)} {are} not finished"


def notes(unfinished: Sequence[UnfinishedRun]) -> list[str]:
    """How many there are and the first few of them, a line each; empty if there is none."""
    if not unfinished:
        return []
    lines = [f"{headline(unfinished)}:", *(f"  {run}" for run in unfinished[:MOST_NAMED])]
    if len(unfinished) > MOST_NAMED:
        lines.append(f"  and {len(unfinished) - MOST_NAMED} more; collect-results --format json lists all")
    return lines
